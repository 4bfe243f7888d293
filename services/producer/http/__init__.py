"""The door for what sends by HTTP: JSON, JSON lines, and InfluxDB line protocol."""
