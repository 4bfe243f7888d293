"""What a producer needs of Redis: it opens runs, and publishes them."""
