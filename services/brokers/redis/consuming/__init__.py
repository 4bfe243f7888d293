"""What a consumer needs of Redis: what is read, dead letters, and the care of the stream."""
