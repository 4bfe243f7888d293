"""`telemetry run`: the whole pipeline on this machine."""
