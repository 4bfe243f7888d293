"""OpenTelemetry: the one room that knows its SDK, and what is sent to a collector."""
