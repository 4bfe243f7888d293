"""A pipeline of real processes around one server: started, killed, looked at, and proven complete."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis
from acceptance.publisher import KEYS, Published, Publisher
from servers import LocalServer, eventually

from services.brokers.redis.server.entry_ids import id_parts
from services.contract.consuming.letter import DeadLetter
from services.contract.event import Event
from services.ops.audit.proving import prove
from services.ops.audit.result import Audit
from services.runtime.settings import ConsumerSettings
from services.stores.files.dead_letters import DeadLetterFile

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_S: Final = 40.0
"""How long anything may take on a busy machine. What should take less is asserted where it matters."""

QUICK: Final = {
    "BATCH_SIZE": "20",
    "SLEEP_INTERVAL": "0.05",
    "CONSUMER_RUN_DURATION": "0",
    "MAX_RETRIES": "1",
    "RETRY_BACKOFF_S": "0.01",
    "SQLITE_BUSY_TIMEOUT_MS": "100",
    "REDIS_TIMEOUT_S": "1",
    "CLAIM_IDLE_MS": "2500",
    "CLAIM_INTERVAL_S": "0.1",
    "RETENTION_INTERVAL_S": "0.2",
    "CONSUMER_METRICS_PORT": "0",
}
"""Everything that is waited for in production, made short."""

LOG_FIELDS: Final = {"asctime", "name", "levelname", "message", "service", "version"}
"""What every line of the log has."""

CROWDED: Final = {"SQLITE_BUSY_TIMEOUT_MS": "5000", "CLAIM_IDLE_MS": "25000"}
"""Patience with each other's locks, for several replicas on one file."""


def is_log_line(text: str) -> bool:
    """Tell whether a line is one that services log."""
    try:
        line = json.loads(text)
    except ValueError:
        return False
    return isinstance(line, dict) and line.keys() >= LOG_FIELDS


def assert_log(path: Path, *, was_killed: bool) -> None:
    """See that a file has lines of the log and nothing else."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    if was_killed and lines and not lines[-1].endswith("\n"):
        del lines[-1]
    strange = [line for line in lines if not is_log_line(line)]
    assert not strange, f"{path.name}: {strange[:20]}"


class Process:
    """A process of the pipeline, with its output in a file."""

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str], output: Path, cwd: Path
    ) -> None:
        self.output = output
        with output.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environment},
                cwd=cwd,  # no `.env` of the developer's
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._port = environment.get("CONSUMER_METRICS_PORT", "0")
        words = [str(word) for word in command]
        self._is_service = bool({"services.consumer", "services.producer"} & set(words)) or any(
            word.endswith("killed_at.py") for word in words
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; the negative signal number when one has ended it."""
        return self._process.poll()

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Give the log lines of an event, or all that are JSON."""
        found = []
        for line in self.text.splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if event is None or line.get("message") == event]

    def assert_log(self) -> None:
        """See that every line of a service is one of the log. One that was killed may leave half a line."""
        if not self._is_service:
            return
        assert_log(self.output, was_killed=(self.exit_code or 0) < 0)

    def says(self, event: str) -> None:
        """Wait until it has logged an event."""
        eventually(lambda: self.lines(event) or self._must_run(), PATIENCE_S, f"{event} in {self.output}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end, and give the exit code."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not within {timeout_s:g} s: the end of {self.output.name}") from None

    def stop(self, timeout_s: float = PATIENCE_S) -> None:
        """Ask a consumer to stop; it must end well."""
        self.says("consumer_started")  # before that, a signal ends it as it ends any program
        self.signal(signal.SIGTERM)
        code = self.wait(timeout_s)
        assert code == 0, f"exit code {code}: {self.text[-2000:]}"

    def kill(self) -> None:
        """End it without a goodbye, if it runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def probe(self, path: str = "/readyz", accept: str = "*/*") -> tuple[int, str]:
        """Ask its health endpoint; code 0: nobody answers."""
        address = f"http://127.0.0.1:{self._port}{path}"
        request = urllib.request.Request(address, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def is_ready(self) -> bool:
        """Wait until it says that it is ready."""
        eventually(lambda: self.probe()[0] == 200 or self._must_run(), PATIENCE_S, "ready")
        return True

    def is_unready(self, why: str) -> bool:
        """Wait until it says that it is not ready, and why."""

        def says_why() -> bool:
            code, text = self.probe()
            return code == 503 and why in text

        eventually(lambda: says_why() or self._must_run(), PATIENCE_S, f"unready: {why}")
        return True

    def _must_run(self) -> bool:
        assert self.exit_code is None, f"it ended with {self.exit_code}: {self.text[-2000:]}"
        return False


class Rig:
    """A server, a data folder, and the processes on them."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.data = folder / "data"
        self.client = server.client()
        self.environment: dict[str, str] = {
            **QUICK,
            "REDIS_HOST": server.host,
            "REDIS_PORT": str(server.port),
            "DATA_DIR": str(self.data),
        }
        self._processes: list[Process] = []
        self._publishers: list[Publisher] = []

    @property
    def settings(self) -> ConsumerSettings:
        """The settings as the audit needs them."""
        return ConsumerSettings(redis_host=self.server.host, redis_port=self.server.port, data_dir=self.data)

    @property
    def python(self) -> list[str]:
        """The interpreter of this test."""
        return [sys.executable]

    def use_data(self, folder: Path) -> None:
        """Have another data folder from now on."""
        self.data = folder
        self.environment["DATA_DIR"] = str(folder)

    def close(self) -> None:
        """End all, and see that everything that services of ours have said is lines of the log."""
        for process in self._processes:
            process.kill()
        self.client.close()
        for process in self._processes:
            process.assert_log()
        for log in sorted(
            (self.settings.data_dir / "logs").glob("*.jsonl")
        ):  # of what `telemetry run` started
            assert_log(log, was_killed=True)

    def publisher(self, seed: int = 0) -> Publisher:
        """Start a producer run of known content."""
        one = Publisher(self.server.client(), seed)
        self._publishers.append(one)
        return one

    def consumer(self, name: str = "consumer-1", **environment: str) -> Process:
        """Start a consumer."""
        return self._consumer([sys.executable, "-m", "services.consumer"], name, environment)

    def doomed_consumer(
        self, point: str, target: str | int, name: str = "consumer-1", number: str = "SIGKILL", **more: str
    ) -> Process:
        """Start a consumer that sends itself a signal at a point. See killed_at.py."""
        script = ROOT / "tests" / "acceptance" / "killed_at.py"
        return self._consumer([sys.executable, script, point, str(target), number], name, more)

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]) -> Process:
        """Start any process; it ends with the test."""
        output = self.folder / f"{name}.{len(self._processes)}.log"
        process = Process(command, {**self.environment, **environment}, output, self.folder)
        self._processes.append(process)
        return process

    def _consumer(self, command: Sequence[str | Path], name: str, environment: Mapping[str, str]) -> Process:
        return self.start(name, command, {"CONSUMER_NAME": name, **environment})

    # What is where

    @property
    def published(self) -> list[Published]:
        return [one for publisher in self._publishers for one in publisher.entries]

    def stored(self) -> dict[str, Event]:
        """Read the sink; a row that is there twice is an error at once."""
        rows = list(self._rows())
        stored = {row.event_id: row for row in rows}
        assert len(stored) == len(rows), "a row is stored twice"
        return stored

    def letters(self) -> dict[str, list[DeadLetter]]:
        """Read the dead letters, by the entry that each is of."""
        letters: dict[str, list[DeadLetter]] = {}
        for letter in DeadLetterFile(self.settings.dead_letter_file, lambda: 0.0).read():
            letters.setdefault(letter.entry_id, []).append(letter)
        return letters

    def pending(self, name: str | None = None) -> set[str]:
        """Ask for the ids of pending entries, of one consumer or of all."""
        try:
            found: Any = self.client.xpending_range(
                KEYS.stream, KEYS.group, "-", "+", 1_000_000, consumername=name
            )
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            return set()
        return {one["message_id"].decode() for one in found}

    def last_delivered(self) -> tuple[int, int]:
        try:
            groups: Any = self.client.xinfo_groups(KEYS.stream)
        except redis.ResponseError:
            return (0, 0)
        return id_parts(groups[0]["last-delivered-id"].decode()) if groups else (0, 0)

    def is_drained(self) -> bool:
        """Tell whether everything published was delivered and acknowledged."""
        newest = max((id_parts(one.stream_id) for one in self.published), default=(0, 0))
        return self.last_delivered() >= newest and not self.pending()

    def drain(self, *processes: Process, timeout_s: float = PATIENCE_S) -> None:
        """Wait until everything is settled; these processes must live to see it."""

        def drained() -> bool:
            for process in processes:
                process._must_run()
            return self.is_drained()

        eventually(drained, timeout_s, "all is settled")

    def count(self) -> int:
        """Count the stored rows; 0 where there is no database yet."""
        if not self.settings.database.exists():
            return 0
        try:
            with contextlib.closing(sqlite3.connect(self.settings.database, timeout=30)) as connection:
                return int(connection.execute("SELECT count(*) FROM telemetry_events").fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    def wait_for_rows(self, count: int) -> None:
        """Wait until so many rows are stored."""
        eventually(lambda: self.count() >= count, PATIENCE_S, f"{count} rows")

    # What must hold

    def assert_law(self) -> None:
        """See that nothing was acknowledged before it was durable: what doesn't wait is kept somewhere."""
        # In the order in which an entry moves, so this holds beside running consumers too.
        delivered, pending = self.last_delivered(), self.pending()
        settled = [
            one
            for one in self.published
            if id_parts(one.stream_id) <= delivered and one.stream_id not in pending
        ]
        assert self._unsettled(settled) == []

    def assert_complete(self, *, dead: Collection[str] = ()) -> Audit:
        """See that everything published is where it belongs, once, and that the audit says so.

        `dead`: ids of valid events that must be dead letters all the same.
        """
        stored, letters = self.stored(), self.letters()
        assert self._unsettled(self.published) == []
        wanted = {one.event_id for one in self.published if one.event} - set(dead)
        assert set(stored) == wanted, "the sink holds other events than the valid ones"
        contents: dict[str, set[Event]] = {}
        for one in self.published:
            if one.event is not None:
                contents.setdefault(one.event.event_id, set()).add(one.event)
        for one in self.published:
            reasons = {letter.reason for letter in letters.get(one.entry_id, ())}
            assert reasons <= self._reasons(one, contents, dead), f"{one}: {reasons}"
        result = self.audit()
        total = result.total
        assert (total.missing, total.pending, total.undelivered) == (0, 0, 0), result
        assert total.published - total.conflicts == self._distinct(), result
        assert total.conflicts == sum(len(one) - 1 for one in contents.values()), result
        places = (total.stored, total.dead, total.conflicts, total.purged)
        assert total.published == sum(places), result
        again = prove(self.settings).total
        assert again == total, f"what is proven says the same: {again}, {total}"
        self.assert_integrity()
        return result

    def audit(self, show: int = 20) -> Audit:
        """Audit all of it, behind an audit of what came since the last one."""
        prove(self.settings, show)
        return prove(self.settings, show, full=True)

    def assert_integrity(self) -> None:
        """Have SQLite check the database."""
        with contextlib.closing(sqlite3.connect(self.settings.database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def _distinct(self) -> int:
        named = {one.event_id for one in self.published if one.event_id is not None}
        return len(named) + sum(publisher.unnumbered for publisher in self._publishers)

    @staticmethod
    def _reasons(
        one: Published, contents: Mapping[str, Collection[Event]], dead: Collection[str]
    ) -> set[str | None]:
        if one.event is None:
            return {one.reason}
        if one.event.event_id in dead:
            return {"deliveries_exhausted"}
        return {"conflict"} if len(contents[one.event.event_id]) > 1 else set()

    def _unsettled(self, entries: Iterable[Published]) -> list[Published]:
        stored, letters = self.stored(), self.letters()
        return [
            one
            for one in entries
            if not (one.event is not None and stored.get(one.event.event_id) == one.event)
            and one.entry_id not in letters
        ]

    def _rows(self) -> Iterator[Event]:
        if not self.settings.database.exists():
            return
        with contextlib.closing(sqlite3.connect(self.settings.database, timeout=30)) as connection:
            for row in connection.execute(
                "SELECT event_id, device_id, zone, ts, kpi, value FROM telemetry_events"
            ):
                yield Event(*row)


def free_port() -> int:
    """Find a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
