"""Make or read events, and publish them so that none is lost, doubled or silently dropped."""
