"""Where the processes of `telemetry run` serve their metrics, for a Prometheus on this machine.

    DATA_DIR/observe/targets.json   in the form of Prometheus' `file_sd_configs`; there while they run

A process stands for what a pod is on a cluster, and has its name in the label `pod`, so that the same
dashboards serve both. Whoever has written the file holds a lock on the folder meanwhile: what a run that was
killed has left there leads to nobody, or to another pipeline's process.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.runtime.own_files import write_own
from services.runtime.small_files import FileUnreadable, read_small

_EVERYWHERE: Final = {"", "0.0.0.0", "::"}  # noqa: S104 - an address that is compared, and not bound
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FOLDER: Final = "observe"
_FILE: Final = "targets.json"


def targets_folder(data_dir: Path) -> Path:
    """Name the folder that a Prometheus watches."""
    return data_dir / FOLDER


def make_targets_folder(data_dir: Path) -> Path:
    """Make the folder that a Prometheus watches. One in a container is another user, who has to read it."""
    folder = targets_folder(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o755)
    return folder


def hold_targets(data_dir: Path) -> int:
    """Tell that what is written there is true while this process lives; gives what to close then."""
    descriptor = os.open(make_targets_folder(data_dir), _FOLDER)
    with contextlib.suppress(OSError):  # a file system without such locks
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _is_left_behind(folder: Path) -> bool:
    """Tell whether those are gone who have written the file."""
    descriptor = os.open(folder, _FOLDER)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody holds it, or nobody can
        return False
    finally:
        os.close(descriptor)
    return True


def write_targets(data_dir: Path, ports: Mapping[str, int], host: str = "127.0.0.1") -> None:
    """Tell where each process serves its metrics: `producer`, `consumer-1`, ... with its port."""
    folder = make_targets_folder(data_dir)
    at = "127.0.0.1" if host in _EVERYWHERE else f"[{host}]" if ":" in host else host
    targets = [
        {
            "targets": [f"{at}:{port}"],
            "labels": {"job": f"telemetry-{name.partition('-')[0]}", "pod": name},
        }
        for name, port in ports.items()
        if port != 0
    ]
    # It is watched: nobody may see half of it.
    write_own(folder / _FILE, json.dumps(targets, indent=2) + "\n", 0o644)


def remove_targets(data_dir: Path) -> None:
    """Tell that nothing runs any more: what isn't there is no target that is down."""
    (targets_folder(data_dir) / _FILE).unlink(missing_ok=True)


def read_targets(data_dir: Path) -> dict[str, str]:
    """Read where each process serves its metrics, name to host:port; empty where nothing runs."""
    try:
        if _is_left_behind(targets_folder(data_dir)):
            return {}
        found = json.loads(read_small(targets_folder(data_dir) / _FILE) or "[]")
        return {one["labels"]["pod"]: one["targets"][0] for one in found}
    except (OSError, ValueError, LookupError, TypeError, RecursionError, FileUnreadable):
        return {}
