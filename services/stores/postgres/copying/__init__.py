"""A database open for a copy: its tables, and its dead letters."""
