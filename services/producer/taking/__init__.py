"""What a door takes in: events of whoever sends by themselves, made, kept in hand and published."""
