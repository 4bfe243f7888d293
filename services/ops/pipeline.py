"""The whole pipeline on this machine, as `telemetry run` starts, watches and ends it.

    DATA_DIR/telemetry.db      what the consumers store
    DATA_DIR/dlq.jsonl         what they could not
    DATA_DIR/logs/NAME.jsonl   the JSON logs of each process
    DATA_DIR/redis/            our own server's data, where the settings name no other

The producer and each consumer are processes of their own, as they are in a cluster. A consumer that
dies is started again under its name, and finds what it had left pending. When the producer has ended,
the consumers are stopped as soon as nothing waits any more.
"""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self, TextIO

import redis

from services.consumer.errors import SinkUnavailable
from services.consumer.sinks.sqlite_rows import SinkAbsent, SQLiteRows
from services.ops.child import start_child
from services.runtime.backlog import Backlog, read_backlog
from services.runtime.settings import ConsumerSettings

_TICK_S: Final = 0.1
_STATUS_INTERVAL_S: Final = 0.5
_PLAIN_STATUS_INTERVAL_S: Final = 5.0
_GRACE_S: Final = 20.0
"""How long a process may take to end after SIGTERM."""
_FIRST_METRICS_PORT: Final = 9100


class RunFailed(Exception):
    """The pipeline can't run; the message says why, and `exit_code` is that of the process at fault."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run."""

    replicas: int
    producer_options: Sequence[str]
    """As for `python -m services.producer`."""
    batch_size: int
    """Of the consumers."""
    environment: Mapping[str, str]
    """For all processes."""
    show_logs: bool = False


@dataclass(slots=True)
class Child:
    """A process of the pipeline, and its log."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)
    restarts: int = 0
    _shown: int = 0

    def start(self) -> None:
        """Start it; its log goes on where it was."""
        with self.log.open("ab") as log:
            reads_ours = "-" in self.command  # --from -
            self.process = start_child(
                self.command, log, self.environment, None if reads_ours else subprocess.DEVNULL
            )

    def has_ended(self) -> bool:
        """Tell whether it runs no more."""
        return self.process.poll() is not None

    def new_lines(self) -> str:
        """Give what it has logged since the last time."""
        with self.log.open("rb") as log:
            log.seek(self._shown)
            text = log.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._shown += len(complete)
        return complete.decode(errors="replace")

    def failure(self) -> RunFailed:
        """Say why it ended, by its last words."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        words = [text for line in lines if (text := _words(line))]
        return RunFailed("\n".join([f"the {self.name} ended:", *words]), self.process.returncode)


@dataclass(slots=True)
class Progress:
    """The numbers of the status line. `rate` in events stored a second."""

    published: int = 0
    stored: int = 0
    dead: int = 0
    pending: int = 0
    lag: int = 0
    rate: float = 0.0

    def line(self) -> str:
        """Say it in one line."""
        return (
            f"published={self.published} stored={self.stored} dead={self.dead} "
            f"pending={self.pending} lag={self.lag} {self.rate:.0f} events/s"
        )


class Pipeline:
    """The running processes."""

    def __init__(self, plan: Plan, settings: ConsumerSettings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._show_logs = plan.show_logs
        self._asked_to_stop = 0
        logs = settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.consumers = [
            Child(
                f"consumer-{number}",
                [sys.executable, "-m", "services.consumer"],
                _consumer_environment(plan, number),
                logs / f"consumer-{number}.jsonl",
            )
            for number in range(1, plan.replicas + 1)
        ]
        self.producer = Child(
            "producer",
            [sys.executable, "-m", "services.producer", *plan.producer_options],
            {**plan.environment, "PRODUCER_METRICS_PORT": str(_free_port(_FIRST_METRICS_PORT))},
            logs / "producer.jsonl",
        )
        for child in (*self.consumers, self.producer):
            child.log.write_bytes(b"")
        self._counting = _Counting(settings, client)

    def run(self) -> None:
        """Start everything and see it to its end. Raises RunFailed when it can't work at all."""
        with self._signals(), _StatusLine(sys.stderr) as status:
            try:
                for child in (*self.consumers, self.producer):
                    child.start()
                while not self._is_done():
                    self._echo_logs(status)
                    status.show(self._counting.progress)
                    time.sleep(_TICK_S)
            finally:
                self._stop()
                self._echo_logs(status)
                status.show(self._counting.progress(), at_last=True)

    def _is_done(self) -> bool:
        """Done when all is published and nothing waits; or when asked a second time to stop.

        Raises RunFailed when a process can't do its work.
        """
        if self._asked_to_stop > 1:
            return True
        self._look_after()
        if not self.producer.has_ended():
            return False
        backlog = self._counting.backlog()
        return backlog is not None and backlog.lag == 0 and backlog.pending == 0

    def _look_after(self) -> None:
        if self._asked_to_stop and not self.producer.has_ended():
            self.producer.process.terminate()
        if self.producer.has_ended() and self.producer.process.returncode > 0:
            raise self.producer.failure()
        for child in self.consumers:
            if not child.has_ended():
                continue
            if child.process.returncode > 0:
                raise child.failure()
            child.restarts += 1
            child.start()

    def _stop(self) -> None:
        """Stop the producer, then the consumers; each settles what it holds."""
        for children in ([self.producer], self.consumers):
            running = [child for child in children if hasattr(child, "process") and not child.has_ended()]
            for child in running:
                child.process.terminate()
            deadline = time.monotonic() + _GRACE_S
            for child in running:
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.process.kill()  # what it held stays pending: the audit shows it
                    child.process.wait()

    def _echo_logs(self, status: "_StatusLine") -> None:
        if self._show_logs:
            status.write("".join(child.new_lines() for child in (self.producer, *self.consumers)))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Take the first signal as «publish no more», and the second as «stop at once»."""

        def ask(_number: int, _frame: FrameType | None) -> None:
            self._asked_to_stop += 1

        before = {
            number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Counting:
    """Looks at the server, the database and the dead letters, no oftener than is cheap."""

    def __init__(self, settings: ConsumerSettings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._progress = Progress()
        self._next_count = 0.0
        self._counted_at: float | None = None

    def backlog(self) -> Backlog | None:
        """Ask the server; None while it can't answer."""
        try:
            return read_backlog(self._client, self._settings.keys)
        except redis.RedisError:
            return None

    def progress(self) -> Progress:
        """Count again."""
        progress = self._progress
        if (backlog := self.backlog()) is not None:
            progress.pending, progress.lag = backlog.pending, backlog.lag
        with contextlib.suppress(redis.RedisError):
            progress.published = _published(self._client, self._settings)
        progress.dead = _count_lines(self._settings.dead_letter_file)
        self._count_rows(progress)
        return progress

    def _count_rows(self, progress: Progress) -> None:
        now = time.monotonic()
        if now < self._next_count:
            return
        # A database that can't be read for a moment costs the line a number, and not the run its life.
        with (
            contextlib.suppress(SinkAbsent, SinkUnavailable),
            SQLiteRows(self._settings.database) as rows,
        ):
            stored = rows.count()
            if self._counted_at is not None:
                progress.rate = max(0.0, (stored - progress.stored) / max(now - self._counted_at, 1e-3))
            progress.stored = stored
        self._counted_at = now
        # Counting takes longer the more rows there are; it may take a twentieth of the time.
        self._next_count = now + 20 * (time.monotonic() - now)


class _StatusLine:
    """One line that is written over on a terminal; elsewhere a line now and then."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._interval_s = _STATUS_INTERVAL_S if self._is_terminal else _PLAIN_STATUS_INTERVAL_S
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._out.write("\n")

    def show(self, progress: Any, *, at_last: bool = False) -> None:
        """Show the numbers when it is time; `progress` is asked for them only then."""
        now = time.monotonic()
        if not at_last and now < self._next:
            return
        self._next = now + self._interval_s
        line = (progress if at_last else progress()).line()
        self._out.write(f"\r\x1b[K{line}" if self._is_terminal else f"{line}\n")
        self._out.flush()

    def write(self, text: str) -> None:
        """Write lines above the status."""
        if text:
            self._out.write(f"\r\x1b[K{text}" if self._is_terminal else text)


def _consumer_environment(plan: Plan, number: int) -> dict[str, str]:
    return {
        **plan.environment,
        "CONSUMER_NAME": f"consumer-{number}",
        "CONSUMER_RUN_DURATION": "0",
        "CONSUMER_METRICS_PORT": str(_free_port(_FIRST_METRICS_PORT + number)),
        "BATCH_SIZE": str(plan.batch_size),
    }


def _free_port(wanted: int) -> int:
    """Give the wanted port, or another one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return 0


def _published(client: redis.Redis, settings: ConsumerSettings) -> int:
    """Count what all runs have published: numbered events, those without an id, and foreign ids."""
    keys = settings.keys
    runs: Any = client.smembers(keys.runs)
    pipeline = client.pipeline(transaction=False)
    for run in (name.decode() for name in runs):
        pipeline.hmget(keys.run(run), "published", "unnumbered")
        pipeline.strlen(keys.run_ids(run))
    answers = pipeline.execute()
    counts = (int(count or 0) for answer in answers[::2] for count in answer)
    return sum(counts) + sum(int(size) for size in answers[1::2]) // 16


def _count_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError:
        return 0


def _words(line: str) -> str:
    """Give the error in a JSON log line, empty where it tells none; other lines as they are."""
    try:
        return f"  {json.loads(line)['error']}"
    except KeyError:
        return ""
    except (ValueError, TypeError):
        return f"  {line}" if line.strip() else ""
