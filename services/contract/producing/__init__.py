"""What a producer publishes, and the door that it goes through."""
