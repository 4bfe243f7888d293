"""The server that a command talks to: the one that is named, or one of our own."""
