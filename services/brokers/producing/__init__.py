"""What a producer needs of a broker."""
