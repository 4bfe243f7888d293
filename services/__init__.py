"""A real-time telemetry pipeline: producers, a Redis Stream, consumers, SQLite."""

__version__ = "0.1.0"
