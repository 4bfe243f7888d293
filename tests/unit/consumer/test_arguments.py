"""The consumer takes no arguments, and says so in place of consuming."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("--rate", 2)])
def test_an_argument_starts_nothing(word: str, code: int) -> None:
    """Help is asked for, and anything else is a mistake."""
    command = [sys.executable, "-m", "services.consumer", word]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert "takes no arguments" in (done.stderr if code else done.stdout)
