"""`telemetry doctor`: whether all is here that a pipeline needs, and what to do where it is not.

It changes nothing: no server is started, and no file is made.
"""

import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from services.stores.doors import Store

State = Literal["ok", "warn", "wrong"]

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
_NO_RIGHT: Final = "noperm"
"""The kind of Redis's errors of a user who lacks a right."""
_GRANT: Final = "grant it (docs/redis-users.md)"
_NAMED: Final = 3
"""Missing rights that are named of each user, at most."""
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

    Nothing is changed, and nothing is started. Rights are looked at without using them; Redis notes those
    that are missing in its ACL LOG. Exit code 1 if a check found something wrong; a
    state `warn` is a warning, and does not count.
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
    yield from _store(settings)
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
        look = f"see that it runs, and look at {named}"
        yield Finding("broker", "wrong", str(error), _GRANT if error.kind == _NO_RIGHT else look)


def _of_broker(side: OperatorSide, settings: ConsumerSettings) -> Iterator[Finding]:
    about = side.about()
    what = f"{about.name} {about.version}" if about.version else "a server that does not tell us its version"
    yield Finding("broker", "ok", f"{what} at {settings.broker_address}")
    yield rights("broker's rights", side.lacking_rights(), _GRANT)
    if not may_run_scripts(about.name, about.version):
        yield Finding(
            "broker's version",
            "warn",
            f"{about.name} {about.version}: who may run scripts can take over the server (CVE-2025-49844)",
            "take a newer patch release, or make sure that your package has the fix (docs/servers.md)",
        )
    try:
        overview = side.overview(time.time())
    except BrokerUnavailable as error:
        if error.kind != _NO_RIGHT:
            raise
        yield Finding("clock", "warn", f"not looked at: {error}", "ask as a user who may read the stream")
        return
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


def rights(check: str, lacking: Mapping[str, Sequence[str]] | None, grant: str) -> Finding:
    """Judge what a user lacks to be each of those who use a server: one who can be none of them is wrong."""
    if lacking is None:
        return Finding(check, "warn", "not looked at: the server has no transactions to look at them by")
    users: dict[str, list[str]] = {}
    for user in sorted(lacking, key=lambda user: bool(lacking[user])):
        users.setdefault(_short(lacking[user]), []).append(f"the {user}")
    told = "; ".join(f"for {' and '.join(names)}: {missing}" for missing, names in users.items())
    if all(lacking.values()):
        return Finding(check, "wrong", told, grant)
    return Finding(check, "ok", told)


def _short(missing: Sequence[str]) -> str:
    if not missing:
        return "all that is needed"
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return f"missing {', '.join(missing[:_NAMED])}{more}"


def _store(settings: ConsumerSettings) -> Iterator[Finding]:
    try:
        store = store_of(settings)
        lacking = store.lacking_rights()
        yield _rows(store)
        if lacking:
            yield rights("store's rights", lacking, "grant it (docs/postgres.md)")
    except PipelineError as error:
        yield Finding(
            "store", "wrong", str(error), "see that it can be reached and read (DATABASE_URL, DATA_DIR)"
        )
    except SettingsInvalid as error:
        yield Finding("store", "wrong", error.lines[-1], "change the setting, or install what it names")


def _rows(store: Store) -> Finding:
    """Look whether there are events. Raises PipelineError."""
    try:
        with store.open_rows() as rows:
            has_any = rows.has_any()
    except SinkAbsent as error:
        return Finding("store", "ok", f"{error}")
    except PipelineError as error:
        if error.kind != "42501":
            raise
        return Finding("store", "warn", f"not looked at: {error}")
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
        return Finding("disk", "warn", told, "make room, or keep rows for fewer days (docs/retention.md)")
    return Finding("disk", "ok", told)
