"""What a person's commands need of a broker."""
