"""Where rows and dead letters are stored: a room for each store."""
