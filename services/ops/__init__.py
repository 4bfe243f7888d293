"""The `telemetry` command: what a person does with the pipeline."""
