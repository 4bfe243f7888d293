"""`telemetry export`: stored events as a file for other programs."""
