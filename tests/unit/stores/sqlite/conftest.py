"""Every test works in a folder of its own."""

from telemetry_cli import own_folder

__all__ = ["own_folder"]
