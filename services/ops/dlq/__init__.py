"""`telemetry dlq`: dead letters, looked at, published again, removed."""
