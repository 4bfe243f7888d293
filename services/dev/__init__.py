"""What only the development images have: their stage `dev` copies it, the services' own stage does not."""
