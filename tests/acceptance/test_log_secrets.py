"""No line of a process has the password that it was given, however the server refuses it."""

from pathlib import Path
from urllib.parse import quote

import pytest
from acceptance.rig import PATIENCE_S, Process, Rig
from servers import eventually

WORD = "hunter2 /@:ü"


def _says_unavailable(process: Process) -> None:
    eventually(lambda: process.lines("redis_unavailable"), PATIENCE_S, "it says that it can't")
    process.stop()
    assert WORD not in repr(process.lines())
    assert "hunter2" not in process.text


@pytest.mark.parametrize("way", ["url", "setting", "file"])
def test_a_password_that_the_server_refuses_is_in_no_line(rig: Rig, way: str, tmp_path: Path) -> None:
    """A real server says WRONGPASS, and we say where, and not what."""
    (tmp_path / "password").write_text(WORD, encoding="utf-8")
    address = f"redis://me:{quote(WORD, safe='')}@{rig.server.host}:{rig.server.port}/0"
    environment = {
        "url": {"REDIS_URL": address},
        "setting": {"REDIS_USERNAME": "me", "REDIS_PASSWORD": WORD},
        "file": {"REDIS_USERNAME": "me", "REDIS_PASSWORD_FILE": str(tmp_path / "password")},
    }[way]
    consumer = rig.consumer(LOG_LEVEL="DEBUG", **environment)
    _says_unavailable(consumer)
    assert "WRONGPASS" in consumer.text or "refuses the password" in consumer.text


def test_a_server_that_is_away_is_told_without_the_password(rig: Rig) -> None:
    """The error of the connection names host and port."""
    rig.server.kill()
    address = f"redis://:{quote(WORD, safe='')}@{rig.server.host}:{rig.server.port}/0"
    consumer = rig.consumer(LOG_LEVEL="DEBUG", REDIS_URL=address)
    _says_unavailable(consumer)
    (first, *_) = consumer.lines("redis_unavailable")
    assert first["error"].startswith(
        f"Redis at redis://{rig.server.host}:{rig.server.port}/0 can't be reached"
    )


def test_an_address_that_is_none_is_refused_without_the_password(rig: Rig) -> None:
    """In the line on standard error that says why nothing starts."""
    consumer = rig.consumer(REDIS_URL=f"redis://me:{WORD}@[bad")
    assert consumer.wait() == 2
    (line,) = consumer.lines("settings_unusable")
    assert line["error"].startswith("settings: REDIS_URL=(hidden): write redis://user:password@host")
    assert "hunter2" not in consumer.text
