"""What the program says of itself: settings, metrics, messages."""
