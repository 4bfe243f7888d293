"""`python -m services.dev.reload MODULE [OPTION ...]`: run a service, again whenever its code changes.

For containers that sources are synced into. The service is told to stop as Kubernetes does, by SIGTERM, and
settles what it holds before the new code starts. It imports nothing of the project, so broken code in there
can't end it.

Exit code: the service's, 128 + n where signal n ended it. A service that fails after its code was changed is
not given up: the next change starts it again, since a container that restarts has its image's code.
"""

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services.runtime.screen import answer_json, remark

SOURCES: Final = Path(__file__).parents[1]
"""The folder whose .py files are watched, at any depth."""
_LOOK_S: Final = 0.2
"""Time between two looks. A signal is passed on within it."""
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Snapshot = dict[Path, tuple[int, int]]
"""Time of change in nanoseconds, and size in bytes, of each file."""


def take_snapshot(folder: Path) -> Snapshot:
    """Look at every .py file below the folder; one that goes meanwhile is not there."""
    found: Snapshot = {}
    for path in folder.rglob("*.py"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found[path] = (status.st_mtime_ns, status.st_size)
    return found


class Reloader:
    """One service, from its first start to its last end."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._command = command
        self._folder = folder
        self._running = take_snapshot(folder)  # before the start: what changes during it is new
        self._seen = self._running
        self._signals: deque[int] = deque()
        for number in _PASSED_ON:
            signal.signal(number, lambda number, _: self._signals.append(number))
        self._child = self._start()

    def run(self) -> int:
        """Wait, start again on each change, and give the exit code in the end."""
        stopping = changed = restarting = False
        while True:
            time.sleep(_LOOK_S)
            code = self._child.poll()
            while self._signals:
                stopping = True
                self._child.send_signal(self._signals.popleft())  # to one that has ended, none is sent
            if code is not None and restarting and not stopping:
                self._child = self._start()
                restarting = False
            elif code is not None and (stopping or code == 0 or not changed):
                return code if code >= 0 else 128 - code
            elif not (stopping or restarting) and self._has_settled_change():
                changed = restarting = True
                self._child.terminate()  # and it takes as long as it needs

    def _has_settled_change(self) -> bool:
        """Tell whether code is new, and the same as at the last look: a sync writes many files."""
        before, self._seen = self._seen, take_snapshot(self._folder)
        if self._seen == self._running or self._seen != before:
            return False
        names = {
            str(path.relative_to(self._folder)) for path, _ in self._running.items() ^ self._seen.items()
        }
        self._running = self._seen
        _log("code_changed", files=sorted(names))
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command)


def _log(event: str, **more: object) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"asctime": now, "name": "telemetry", "levelname": "INFO", "message": event, **more}
    answer_json({**line, "service": "reload"}, flush=True)


def main() -> int:
    """Run the module that the command line names."""
    if len(sys.argv) < 2:
        remark("usage: python -m services.dev.reload MODULE [OPTION ...]")
        return 2
    return Reloader([sys.executable, "-m", *sys.argv[1:]], SOURCES).run()


if __name__ == "__main__":
    sys.exit(main())
