"""The whole pipeline on this machine, as `telemetry run` starts, watches and ends it.

    DATA_DIR/telemetry.db      what the consumers store
    DATA_DIR/dlq.jsonl         what they could not
    DATA_DIR/redis/            our own server's data, where the settings name no other

The producer and each consumer are processes of their own, as they are in a cluster. A consumer that
dies is started again under its name, and finds what it had left pending. When the producer has ended,
the consumers are stopped as soon as nothing waits any more.
"""

import contextlib
import json
import os
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Self, TextIO

from services.brokers.operating.side import OperatorSide
from services.contract.consuming.proofs import Proven
from services.contract.errors import BrokerUnavailable, PipelineError
from services.contract.operating import Unsettled
from services.ops.audit.live import ForeignIds, count_dead, recorded
from services.ops.dlq.letters import letters_of
from services.ops.run.file_account import read_account
from services.ops.run.processes import Processes
from services.ops.run.readiness import Readiness
from services.runtime.logs.text import text_line, wants_colour
from services.runtime.screen import remark, shown
from services.runtime.settings import ConsumerSettings
from services.stores.choice import open_rows, store_of

_TICK_S: Final = 0.1
_A_LOOK_S: Final = 0.2
"""How long one look at the ids of a file may take; what is left of them is looked at the next time."""
_STATUS_INTERVAL_S: Final = 0.5
_PLAIN_STATUS_INTERVAL_S: Final = 5.0
_COLUMNS: Final = 80
"""Of a terminal that does not say how wide it is."""
_COUNTS: Final = ("published", "stored", "dead", "conflicts", "pending", "lag")
_LESS_IMPORTANT: Final = ("conflicts", "pending", "dead", "lag")


@dataclass(slots=True)
class Progress:
    """The numbers of the status line: events as the audit counts them, and `rate` of them stored a second.

    `pending` and `lag` are entries, as the server counts them; an event may have two.
    """

    published: int = 0
    stored: int = 0
    dead: int = 0
    conflicts: int = 0
    pending: int = 0
    lag: int = 0
    rate: float = 0.0

    def line(self, most: int | None = None) -> str:
        """Say it in one line. In at most so many columns, if that is given: without what matters least."""
        told = {name: f"{name}={getattr(self, name)}" for name in _COUNTS}
        rate = f"{self.rate:.0f} events/s"
        whole = " ".join([*told.values(), rate])
        if most is None or len(whole) <= most:
            return whole
        line = whole
        for name in _LESS_IMPORTANT:
            del told[name]
            line = " ".join([*told.values(), rate, ".."])
            if len(line) <= most:
                break
        return line


class Pipeline:
    """Watches the running processes, and ends them."""

    def __init__(
        self, processes: Processes, settings: ConsumerSettings, broker: OperatorSide, *, show_logs: bool
    ) -> None:
        self._processes = processes
        self._show_logs = show_logs
        self._counting = _Counting(settings, broker)
        self._readiness = Readiness(processes, remark)

    def run(self) -> None:
        """See everything to its end. Raises RunFailed when it can't work at all."""
        with _StatusLine(sys.stderr) as status:  # noqa: TID251 - numbers, and lines that are shown()
            try:
                while not self._is_done():
                    self._echo_logs(status)
                    status.show(self._counting.progress)
                    time.sleep(_TICK_S)
            finally:
                has_begun = self._readiness.why_waiting is None
                self._processes.stop(in_order=has_begun)
                self._echo_logs(status)
                if has_begun:
                    status.show(self._counting.at_last(), at_last=True)

    def _is_done(self) -> bool:
        """Done when all is published and nothing waits; or when asked a second time to stop.

        Raises RunFailed when a process can't do its work, or can't begin it.
        """
        if self._processes.asked_to_stop > 1:
            return True
        if self._processes.asked_to_stop and self._readiness.why_waiting:
            raise self._readiness.failure()  # what has not begun need not be finished
        self._look_after()
        self._readiness.look()
        if not self._processes.producer.has_ended():
            return False
        return self._counting.unsettled() == (0, 0)

    def _look_after(self) -> None:
        producer = self._processes.producer
        # What it says of a file is told at the end, from its log.
        if producer.has_ended() and producer.process.returncode > 0 and not read_account(producer.log):
            raise self._processes.producer.failure()
        for child in self._processes.consumers:
            if not child.has_ended():
                continue
            if child.process.returncode > 0:
                raise child.failure()
            child.restarts += 1
            child.start()

    def _echo_logs(self, status: "_StatusLine") -> None:
        if self._show_logs:
            for child in self._processes.all:
                status.write_log(child.name, child.new_lines())


class _Counting:
    """Looks at the server, the database and the dead letters, no oftener than is cheap."""

    def __init__(self, settings: ConsumerSettings, broker: OperatorSide) -> None:
        self._settings = settings
        self._letters = letters_of(settings, broker)
        self._broker = broker
        self._foreign = ForeignIds()
        self._proven = Proven()
        # Nobody audits while it runs, so what is proven stays as it is.
        with contextlib.suppress(PipelineError), closing(store_of(settings).open_proofs()) as proofs:
            self._proven = proofs.read()
        self._recorded = 0
        self._progress = Progress()
        self._next_count = 0.0
        self._counted_at: float | None = None

    def unsettled(self) -> Unsettled | None:
        """Ask the server what waits; None while it can't answer."""
        try:
            return self._broker.unsettled()
        except BrokerUnavailable:
            return None

    def progress(self) -> Progress:
        """Count again."""
        self._ask_server(_A_LOOK_S)
        now = time.monotonic()
        if now >= self._next_count:
            self._count_events()
            # Counting takes longer the more there is; it may take a twentieth of the time.
            self._next_count = now + 20 * (time.monotonic() - now)
        return self._progress

    def at_last(self) -> Progress:
        """Count all of it, however long it takes."""
        self._ask_server(float("inf"))
        self._count_events()
        self._foreign.close()
        return self._progress

    def _ask_server(self, budget_s: float) -> None:
        progress = self._progress
        if (waits := self.unsettled()) is not None:
            progress.pending, progress.lag = waits.pending, waits.unread
        with contextlib.suppress(BrokerUnavailable):
            runs = self._broker.records().runs
            ids = self._foreign.count(self._broker, runs, budget_s, self._proven.runs)
            self._recorded = recorded(runs, self._proven.folded) + ids
        progress.published = self._recorded + progress.conflicts

    def _count_events(self) -> None:
        progress, now = self._progress, time.monotonic()
        # What can't be read for a moment costs the line a number, and not the run its life.
        with contextlib.suppress(PipelineError, OSError):
            with open_rows(self._settings) as rows:
                # The letters first: an event that is replayed meanwhile is stored later than it was dead.
                found = count_dead(self._letters.read(), rows.missing_of)
                stored = rows.count()
            if self._counted_at is not None:
                progress.rate = max(0.0, (stored - progress.stored) / max(now - self._counted_at, 1e-3))
            progress.stored, progress.dead, progress.conflicts = stored, found.dead, found.conflicts
            progress.published = self._recorded + found.conflicts
        self._counted_at = now


class _StatusLine:
    """One line that is written over on a terminal; elsewhere a line now and then."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._colour = wants_colour(out, os.environ)
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
        if at_last:
            line = progress.line()
        else:
            # A line that takes two can't be written over.
            line = progress().line(self._columns() - 1 if self._is_terminal else None)
        self._out.write(f"\r\x1b[K{line}" if self._is_terminal else f"{line}\n")
        self._out.flush()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._out.fileno()).columns or _COLUMNS
        except OSError:
            return _COLUMNS

    def write_log(self, name: str, lines: str) -> None:
        """Write log lines above the status; on a terminal as text, behind the name of the process."""
        if lines and self._is_terminal:
            above = "".join(
                f"{name:<12} {_text(line, colour=self._colour)}\n" for line in lines.split("\n")[:-1]
            )
            self._out.write(f"\r\x1b[K{above}")
        elif lines:
            self._out.write("".join(f"{_json(line)}\n" for line in lines.split("\n")[:-1]))


def _text(line: str, *, colour: bool) -> str:
    """Write a log line for a person; what is none may be anything."""
    try:
        return text_line(json.loads(line), colour=colour)
    except (ValueError, AttributeError, RecursionError):
        return shown(line)


def _json(line: str) -> str:
    """Write a log line for a program; a line of ours is ASCII, and without secrets."""
    return line if line.startswith("{") and line.isascii() and line.isprintable() else shown(line)
