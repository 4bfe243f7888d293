"""`telemetry audit`: the proof that nothing is missing."""
