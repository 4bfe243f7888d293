"""What a source's own shape means: the mapping, from a file and from options."""
