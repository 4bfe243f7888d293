"""How to talk to a server: connections, scripts, and reads that fit into memory."""
