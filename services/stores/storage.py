"""What the sink and the dead letters take of the disk, and what is left of it: looked up at a scrape."""

import logging
import os
from pathlib import Path

from services.runtime.settings import ConsumerSettings
from services.runtime.telemetry.metrics import Figures


class Storage:
    """Looks at DATA_DIR when it is asked, by whatever thread asks; not where nothing of ours is there."""

    def __init__(self, settings: ConsumerSettings, logger: logging.Logger) -> None:
        self._folder = settings.data_dir
        self._database = None if settings.database_url else settings.database
        self._dead_letters = settings.dead_letter_file if settings.letters_in == "file" else None
        self._logger = logger

    def figures(self) -> Figures:
        """Give what can be found out; what can't is left out, and the log says why."""
        figures: dict[str, float] = {}
        if self._database is None and self._dead_letters is None:
            return figures
        try:
            volume = os.statvfs(self._folder)
            figures["telemetry_disk_free_bytes"] = volume.f_bavail * volume.f_frsize
            figures["telemetry_disk_size_bytes"] = volume.f_blocks * volume.f_frsize
            if self._dead_letters is not None:
                figures["telemetry_dlq_bytes"] = _size(self._dead_letters)
            if self._database is not None:
                figures["telemetry_sink_database_bytes"] = self._database.stat().st_size
                # Folded into the file when the last one closes it, and then it is gone.
                figures["telemetry_sink_wal_bytes"] = _size(Path(f"{self._database}-wal"))
        except OSError as error:
            self._say(error)
        return figures

    def _say(self, error: OSError) -> None:
        self._logger.warning(
            "disk_not_measured",
            extra={
                "error": f"{error.filename}: {error.strerror or error}",
                "hint": "its gauges are left out of /metrics (DATA_DIR)",
            },
        )


def _size(path: Path) -> int:
    """Give a file's size; 0 where there is none yet."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
