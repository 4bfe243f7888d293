"""What a person's commands ask of Redis."""
