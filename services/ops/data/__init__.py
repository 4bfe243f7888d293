"""`telemetry events` and `telemetry summary`: what is stored."""
