"""Where events come from and go to: a room for each broker, with both of its sides."""
