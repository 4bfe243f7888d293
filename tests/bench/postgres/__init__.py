"""The cases on PostgreSQL: a real server of our own, on the loopback, that waits for its disk."""
