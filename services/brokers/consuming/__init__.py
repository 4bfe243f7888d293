"""What a consumer needs of a broker, and what reads with little trust what is kept there."""
