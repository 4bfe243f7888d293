"""`telemetry status`: what is where, at this moment."""
