"""Replays of files: recognised, gone on with, published one after the other."""
