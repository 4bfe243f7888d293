"""A real-time telemetry pipeline: producers, a Redis Stream, consumers, SQLite."""

import sys

__version__ = "0.1.0"

if (
    sys.platform == "win32"
):  # no locks on folders, no signals between processes, no named pipes as they are meant
    raise SystemExit("telemetry-pipeline runs on Linux and macOS. On Windows, run it in WSL: wsl --install")
