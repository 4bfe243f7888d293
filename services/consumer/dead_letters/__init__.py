"""Where entries go that can't be stored: a file, or a stream where no volume is shared."""
