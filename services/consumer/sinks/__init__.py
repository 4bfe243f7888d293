"""Where events are stored. One module for each database."""
