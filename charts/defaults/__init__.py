"""The chart's default values once more, for whoever leaves a key empty."""
