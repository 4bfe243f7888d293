"""What only development has: the images' stage `dev` copies it, the services' own stage does not."""
