"""Entries of many events: taken apart on their way in, acknowledged when all of their events are settled."""
