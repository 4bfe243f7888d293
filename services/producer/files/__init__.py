"""Events from files: read, told apart, published again from where it ended."""
