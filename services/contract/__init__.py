"""What both sides of the stream agree on. Pure: no input, no output, no client library."""
