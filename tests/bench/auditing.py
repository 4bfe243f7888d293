"""Case `audit`: whether an audit of what came since the last one costs the same beside any table."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from bench.bench import Bench
from bench.figure import Figure, at_most
from bench.plan import BenchFailed, in_turn
from bench.processes import clean_environment
from bench.sample import Sample
from bench.table import open_table
from services.brokers.redis.keys import StreamKeys
from services.contract.ids import run_name

_SMALL_SHARE: Final = 10
"""The smaller table has a tenth of the rows."""
_NEW_SHARE: Final = 100
"""What came since is a hundredth of the larger one."""
_STEP_MS: Final = 10
_INTERVAL_MS: Final = 600_000
"""Between two audits; what is new is spread over it. An audit reads the minute before the last one again."""
_KEYS: Final = StreamKeys()
_TIMEOUT_S: Final = 600

_AUDIT: Final = """
import json, re, sys, time
from pathlib import Path
from services.ops.audit.proving import prove
from services.runtime.settings import ConsumerSettings

port, folder, url, now_s = sys.argv[1:]
settings = ConsumerSettings(
    redis_host="127.0.0.1", redis_port=int(port), data_dir=Path(folder), database_url=url
)
started = time.monotonic()
result = prove(settings, now=lambda: float(now_s))
seconds = time.monotonic() - started
peak_kb = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(json.dumps([seconds, peak_kb / 1000, result.total.stored, result.total.missing, result.is_kept]))
"""
_FILL: Final = (
    "WITH RECURSIVE number(n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM number WHERE n < ?2) "
    "INSERT INTO telemetry_events (event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at) "
    "SELECT substr(ms, 1, 8) || '-' || substr(ms, 9) || '-' || ?3 || printf('%09x', n), 'device-' || n % 9, "
    "'zone-' || n % 5, 1.7e9 + n, 'humidity', 42.25, 0, 1.7e9 + n "
    "FROM (SELECT n, printf('%012x', ?4 + n * ?5) AS ms FROM number)"
)


class Audited(NamedTuple):
    """An audit of what came since."""

    seconds: float
    megabytes: float


class Filling(Protocol):
    """Adds rows of a run to a table, by their numbers; their ids begin at a time, a step apart."""

    def __call__(self, first: int, last: int, run: str, begins_ms: int, step_ms: int) -> None: ...


class Place(NamedTuple):
    """Where rows are: a folder, or a database, and what adds some."""

    folder: Path
    url: str
    fill: Filling


def compare(bench: Bench) -> list[Figure]:
    """Audit so many new events in a small table of SQLite and in a large one, in turns."""
    return compare_at(bench, in_sqlite, "audit")


def compare_at(bench: Bench, make: Callable[[Path], Place], case: str) -> list[Figure]:
    """Do so in two tables that are made in folders."""
    large = bench.plan.long_rows
    small, new = max(1, large // _SMALL_SHARE), max(1, large // _NEW_SHARE)
    found: dict[int, list[Audited]] = {small: [], large: []}
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        tables = [
            _Table(bench, make(Path(name) / str(rows)), number, rows)
            for number, rows in enumerate((small, large))
        ]
        for number in range(bench.plan.rounds):
            for table in in_turn(tables, number):
                found[table.rows].append(table.audit_new(new))
                bench.say(
                    f"{case}: {new:,} new events beside {table.rows:,}: {found[table.rows][-1].seconds:.2f} s"
                )
    return figures(found[small], found[large], new, large, case)


def in_sqlite(folder: Path) -> Place:
    """Make an empty file."""
    folder.mkdir()

    def fill(first: int, last: int, run: str, begins_ms: int, step_ms: int) -> None:
        with closing(open_table(folder / "telemetry.db")) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(_FILL, (first, last, run, begins_ms, step_ms))

    return Place(folder, "", fill)


def figures(
    small: Sequence[Audited], large: Sequence[Audited], new: int, rows: int, case: str
) -> list[Figure]:
    """Make the figures."""
    what = f"{new:,} new events beside {rows:,}"
    ratio = [one.seconds / other.seconds for one, other in zip(large, small, strict=True)]
    return [
        Figure(
            case, f"{what}, a tenth of the rows", "ms", Sample(tuple(one.seconds * 1000 for one in small))
        ),
        Figure(case, what, "ms", Sample(tuple(one.seconds * 1000 for one in large)), at_most(2000)),
        Figure(case, f"{what}, at most", "MB", Sample(tuple(one.megabytes for one in large)), at_most(100)),
        Figure(case, "large / small (flat)", "x", Sample(tuple(ratio)), at_most(1.5)),
    ]


class _Table:
    """A table with its run, all of it proven."""

    def __init__(self, bench: Bench, place: Place, number: int, rows: int) -> None:
        self.rows = rows
        self._bench = bench
        self._place = place
        self._run = run_name(number + 1)
        self._last = 0
        self._now_ms = int(time.time() * 1000)
        self._add(rows, _STEP_MS)
        self._audit()

    def audit_new(self, new: int) -> Audited:
        """Store what came in the interval since, and audit."""
        self._now_ms += _INTERVAL_MS
        self._add(new, max(1, _INTERVAL_MS // new))
        return self._audit()

    def _add(self, rows: int, step_ms: int) -> None:
        """Store events, the last of which was made now."""
        last = self._last + rows
        self._place.fill(self._last + 1, last, self._run, self._now_ms - last * step_ms, step_ms)
        self._last = last

    def _audit(self) -> Audited:
        with closing(self._bench.server.client()) as client:
            client.flushall()
            client.sadd(_KEYS.runs, self._run)
            record = {"last": self._last, "published": self._last, "batches": 1, "started_at": time.time()}
            client.hset(_KEYS.run(self._run), mapping=record)  # type: ignore[arg-type]
        answer = subprocess.run(
            [
                sys.executable, "-c", _AUDIT,
                str(self._bench.server.port), str(self._place.folder), self._place.url,
                str(self._now_ms / 1000),
            ],
            capture_output=True, text=True, env=clean_environment(), timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
        if answer.returncode != 0:
            raise BenchFailed(f"audit: {answer.stderr[-2000:]}")
        seconds, megabytes, stored, missing, is_kept = json.loads(answer.stdout)
        if (stored, missing, is_kept) != (self._last, 0, True):
            raise BenchFailed(
                f"audit: found {stored} of {self._last} events, {missing} missing, kept: {is_kept}"
            )
        return Audited(seconds, megabytes)
