"""One of each, for every process: settings, clock, health, logs, metrics, spans, the screen."""
