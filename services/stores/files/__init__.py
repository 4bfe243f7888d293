"""Dead letters in a file of JSON lines."""
