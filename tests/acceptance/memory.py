"""A limit on the memory of processes, as a container has it: whoever goes beyond is killed."""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from acceptance.rig import Process

_GROUPS: Final = Path("/sys/fs/cgroup")
_LOOK_S: Final = 0.002


@dataclass(frozen=True)
class MemoryLimit:
    """A limit; by a memory cgroup where this machine lets us make one, else by a watchdog that kills."""

    bytes: int
    procs: Path | None
    """Where a process writes its id to be limited; None: it is watched."""

    def command(self, command: Sequence[str | Path]) -> list[str | Path]:
        """Give the command that runs this one within the limit."""
        if self.procs is None:
            return list(command)
        return ["sh", "-c", f'echo $$ > {self.procs} && exec "$@"', "sh", *command]

    def watch(self, process: Process) -> None:
        """Kill the process when it has had more, where no cgroup does."""
        if self.procs is None:
            threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def _watch(self, process: Process) -> None:
        over = threading.Event()
        while process.exit_code is None and not over.wait(_LOOK_S):
            if peak_bytes(process.pid) > self.bytes:
                process.kill()
                over.set()


def peak_bytes(pid: int) -> int:
    """Tell the most memory that a process has had; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def memory_limit(mebibytes: int) -> Iterator[MemoryLimit]:
    """Limit processes to so much memory together, as long as the context lasts."""
    size = mebibytes << 20
    for version, root in ((1, _GROUPS / "memory"), (2, _GROUPS)):
        group = root / f"telemetry-tests-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if version == 1:
                (group / "memory.limit_in_bytes").write_text(str(size))
            else:
                (group / "memory.max").write_text(str(size))
                (group / "memory.swap.max").write_text("0")
        except OSError:  # no memory controller here
            group.rmdir()
            continue
        try:
            yield MemoryLimit(size, group / "cgroup.procs")
        finally:
            group.rmdir()
        return
    yield MemoryLimit(size, None)
