"""The door for MQTT: a message becomes events, and is acknowledged once they are in the stream."""
