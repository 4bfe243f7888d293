"""`telemetry doctor`: whether all is here that a pipeline needs, and what to do where it is not.

It changes nothing: no server is started, and no file is made.
"""

import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import typer

from services import __version__
from services.brokers.choice import operator_side
from services.brokers.operating.side import OperatorSide
from services.contract.errors import BrokerUnavailable, PipelineError, SinkAbsent
from services.contract.operating import AHEAD_S
from services.ops.output.output import AsJson, Wide, remark, show_records
from services.ops.output.parts import Column
from services.ops.output.times import show_span
from services.ops.server.own import find_server, is_external, running
from services.ops.server.wheel import how_to_install
from services.runtime.settings import ConsumerSettings, SettingsInvalid, Sources, load, read_sources
from services.stores.choice import store_of

State = Literal["ok", "mind", "wrong"]

_COLUMNS: Final = (
    Column("check"),
    Column("state"),
    Column("found", wraps=True),
    Column("do", "do this", wraps=True),
)
_LEAST_FREE: Final = 1 << 30
"""Bytes of the disk below which somebody should look."""
_LEAST_SHARE: Final = 0.1
_FULL: Final = 1 << 26
_FIXED: Final = {
    "redis": {(7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}
"""The first patch release of each line in which scripts can be trusted (docs/servers.md)."""


class Finding(NamedTuple):
    """What one look has found."""

    check: str
    state: State
    found: str
    do: str = ""


def doctor_command(as_json: AsJson = False, _wide: Wide = False) -> None:
    """Check settings, versions, broker, clock, store, rights and disk, and say what to do.

    Nothing is changed, and nothing is started. Exit code 1 if something is wrong; a state `mind` is a
    warning, and does not count.
    """
    sources = read_sources()
    settings = load(ConsumerSettings, sources)
    findings: list[Finding] = []

    def records() -> Iterator[dict[str, Any]]:
        for one in examine(settings, sources):
            findings.append(one)
            yield one._asdict()

    show_records(records(), _COLUMNS, as_json=as_json)
    wrong = sum(one.state == "wrong" for one in findings)
    if wrong:
        remark(f"{wrong} of {len(findings)} checks found something wrong")
        raise typer.Exit(1)


def examine(settings: ConsumerSettings, sources: Sources) -> Iterator[Finding]:
    """Look at one thing after the other."""
    yield Finding("settings", "ok", "they can be used")
    yield Finding("versions", "ok", f"telemetry {__version__}, Python {platform.python_version()}")
    yield from _broker(settings, sources)
    yield _store(settings)
    if not settings.database_url or settings.letters_in == "file":
        yield from _folder(settings.data_dir)


def _broker(settings: ConsumerSettings, sources: Sources) -> Iterator[Finding]:
    found = running(settings, sources)
    if found is None:
        if find_server() is None:
            what = f"install one ({how_to_install()}), or name one in BROKER_URL"
            yield Finding("broker", "wrong", "none is named, none runs here, and none is installed", what)
        else:
            yield Finding("broker", "ok", "none runs now; `telemetry run` starts its own")
        return
    try:
        with closing(operator_side(found)) as side:
            side.greet()
            yield from _of_broker(side, found)
    except BrokerUnavailable as error:
        named = "BROKER_URL or REDIS_HOST" if is_external(sources) else "DATA_DIR/redis/server.log"
        yield Finding("broker", "wrong", str(error), f"see that it runs, and look at {named}")


def _of_broker(side: OperatorSide, settings: ConsumerSettings) -> Iterator[Finding]:
    about = side.about()
    yield Finding(
        "broker", "ok", f"{about.name} {about.version or '(it says no version)'} at {settings.broker_address}"
    )
    if not may_run_scripts(about.name, about.version):
        yield Finding(
            "broker's version",
            "mind",
            f"{about.name} {about.version}: who may run scripts can take over the server (CVE-2025-49844)",
            "take a newer patch release, or make sure that your package has the fix (docs/servers.md)",
        )
    overview = side.overview(time.time())
    if overview is None:
        yield Finding("clock", "ok", f"no stream {settings.stream_name} yet to compare it with")
    elif overview.stream.id_ahead_s >= AHEAD_S:
        yield Finding(
            "clock",
            "wrong",
            f"the newest entry is {show_span(overview.stream.id_ahead_s)} ahead of this machine's clock",
            "set the clock, here or where the server runs (docs/runbooks/TelemetryClockBehind.md)",
        )
    else:
        yield Finding("clock", "ok", "not behind the newest entry of the stream")


def may_run_scripts(name: str, version: str | None) -> bool:
    """Tell whether scripts can be trusted in a version; what says none is not judged."""
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version or "")
    if numbers is None:
        return True
    major, minor, patch = map(int, numbers.groups())
    lines = _FIXED["valkey" if name == "valkey" else "redis"]
    first = lines.get((major, minor))
    return patch >= first if first is not None else (major, minor) > max(lines)


def _store(settings: ConsumerSettings) -> Finding:
    try:
        store = store_of(settings)
        with store.open_rows() as rows:
            has_any = rows.has_any()
    except SinkAbsent as error:
        return Finding("store", "ok", f"{error}")
    except PipelineError as error:
        return Finding(
            "store", "wrong", str(error), "see that it can be reached and read (DATABASE_URL, DATA_DIR)"
        )
    except SettingsInvalid as error:
        return Finding("store", "wrong", error.lines[-1], "change the setting, or install what it names")
    return Finding("store", "ok", f"{store.place}, {'with' if has_any else 'without'} events")


def _folder(folder: Path) -> Iterator[Finding]:
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        yield Finding("rights", "wrong", f"{there} is no folder", "move it away, or name another DATA_DIR")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        what = f"let this user write there (chown, chmod), or name another DATA_DIR than {folder}"
        yield Finding("rights", "wrong", f"{there} can't be written to", what)
    else:
        yield Finding("rights", "ok", f"{folder} can be {'written to' if folder.exists() else 'made'}")
    yield disk(there)


def disk(folder: Path, volume: Callable[[Path], os.statvfs_result] = os.statvfs) -> Finding:
    """Look at what is left of the disk that a folder is on."""
    found = volume(folder)
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    told = f"{free / 1e9:,.1f} of {size / 1e9:,.1f} GB are free"
    if free < _FULL:
        return Finding("disk", "wrong", told, "make room: consumers wait where it is full")
    if free < _LEAST_FREE or free < size * _LEAST_SHARE:
        return Finding("disk", "mind", told, "make room, or keep rows for fewer days (docs/retention.md)")
    return Finding("disk", "ok", told)
