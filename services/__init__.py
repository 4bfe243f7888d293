"""A real-time telemetry pipeline: producers, a Redis Stream, consumers, SQLite."""
