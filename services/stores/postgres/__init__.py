"""Rows and dead letters in PostgreSQL, 15 and newer."""
