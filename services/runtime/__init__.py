"""One of each, for every process: settings, logs, metrics, health, the Redis connection."""
