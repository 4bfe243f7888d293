"""The sizes on the disk, found out at a scrape."""

import io
import json
import os
import shutil
from pathlib import Path

from fakes import FakeClock

from services.runtime.logs.gate import Logs
from services.runtime.settings import ConsumerSettings
from services.stores.sqlite.sink import SQLiteSink
from services.stores.storage import Storage


class Desk:
    """A folder with a real database in it, and what is said about it."""

    def __init__(self, folder: Path, dead_letters: str = "file") -> None:
        self.settings = ConsumerSettings(data_dir=folder / "data", dead_letters=dead_letters)
        self.clock = FakeClock()
        self.log = io.StringIO()
        logs = Logs("consumer", "INFO", "json", self.log, self.clock.monotonic)
        self.storage = Storage(self.settings, logs.logger)
        self.sink = SQLiteSink(self.settings.database, 100, self.clock.now)

    def said(self) -> list[dict[str, object]]:
        """Read the log."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def test_files_and_volume_are_measured(tmp_path: Path) -> None:
    """Database, WAL and dead letters in bytes, and the room that is left."""
    desk = Desk(tmp_path)
    desk.settings.dead_letter_file.write_text("{}\n", encoding="utf-8")
    figures = desk.storage.figures()
    assert figures["telemetry_sink_database_bytes"] == desk.settings.database.stat().st_size > 0
    assert figures["telemetry_sink_wal_bytes"] == Path(f"{desk.settings.database}-wal").stat().st_size > 0
    assert figures["telemetry_dlq_bytes"] == 3
    total = shutil.disk_usage(tmp_path).total
    assert figures["telemetry_disk_size_bytes"] == total
    assert 0 < figures["telemetry_disk_free_bytes"] <= total
    desk.sink.close()
    assert desk.storage.figures()["telemetry_sink_wal_bytes"] == 0
    assert desk.said() == []


def test_dead_letters_in_a_stream_have_no_file(tmp_path: Path) -> None:
    """Their size on the disk is no figure then, and not 0."""
    desk = Desk(tmp_path, dead_letters="stream")
    assert "telemetry_dlq_bytes" not in desk.storage.figures()
    desk.sink.close()


def test_what_is_gone_is_left_out_and_said_once_in_a_while(tmp_path: Path) -> None:
    """A database that was removed costs its own gauges; a volume that is gone costs all."""
    desk = Desk(tmp_path)
    desk.sink.close()
    desk.settings.database.unlink()
    for _ in range(3):
        assert set(desk.storage.figures()) == {
            "telemetry_disk_free_bytes",
            "telemetry_disk_size_bytes",
            "telemetry_dlq_bytes",
        }
    os.rename(desk.settings.data_dir, tmp_path / "gone")  # noqa: PTH104
    assert desk.storage.figures() == {}
    desk.clock.sleep(10.0)
    assert desk.storage.figures() == {}
    first, second = desk.said()
    assert (first["message"], first["levelname"], first.get("held_back")) == (
        "disk_not_measured", "WARNING", None,
    )  # fmt: skip
    assert str(desk.settings.database) in str(first["error"])
    assert (str(desk.settings.data_dir) in str(second["error"]), second["held_back"]) == (True, 3)
