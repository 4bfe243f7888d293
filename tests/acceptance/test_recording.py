"""The recording of a terminal: its script makes one, of commands that are really run."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from acceptance.rig import ROOT

from website.recording import COMMANDS, PICTURE


def assert_recording(path: Path) -> None:
    """See that it is a picture of the commands, small, and that it loads nothing."""
    text = path.read_text(encoding="utf-8")
    assert len(text) < 60_000
    assert re.findall(r"https?://[^\"')\s]+", text) == ["http://www.w3.org/2000/svg"]
    parts = list(ET.fromstring(text).itertext())  # noqa: S314 - our own
    assert sum("missing=0" in part for part in parts) == 2, "within a line"
    shown = "".join("".join(parts).split())
    for command in COMMANDS:
        assert f"$ {command}".replace(" ", "") in shown
    assert shown.count("undelivered=0missing=0") == 2
    assert "tmp" not in shown


def test_the_script_makes_a_recording(tmp_path: Path) -> None:
    """By the commands of this day."""
    target = tmp_path / "recording.svg"
    done = subprocess.run(
        [sys.executable, "-m", "website.recording", "--output", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_recording(target)


def test_the_recording_of_the_docs_is_one() -> None:
    """`make recording` makes it anew."""
    assert_recording(PICTURE)
