"""What a file is, and a mapping that reads it."""
