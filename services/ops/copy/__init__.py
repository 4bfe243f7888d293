"""`telemetry copy`: everything of one store into another."""
