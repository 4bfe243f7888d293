"""In-memory doors and time: they keep their promises, record what they did, and fail when told to."""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from services.brokers.consuming.side import Upkeep
from services.contract.consuming.damage import Damages
from services.contract.consuming.doors import Dead, DeadLetters, Entry, Sink, Source, Written
from services.contract.consuming.large import cut, size_of
from services.contract.consuming.letter import DeadLetter, Purged, dead_letter, parse_letter
from services.contract.consuming.packed_letters import single_letters
from services.contract.errors import DeadLettersUnavailable, RowsRefused, SinkUnavailable, SourceUnavailable
from services.contract.event import DEFAULT_ENTRY_BYTES, Event
from services.runtime.clock import Clock
from services.runtime.telemetry.spans import Span, Spans, current


class FakeClock:
    """Time that passes only by sleeping. `stop_after` sleeps it asks to stop."""

    def __init__(self, now: float = 1_800_000_000.0, stop_after: int | None = None) -> None:
        self.started_at = now
        self.elapsed = 0.0
        self.sleeps: list[float] = []
        self.stop_after = stop_after
        self.on_sleep: Callable[[], None] = lambda: None
        self._stopping = False

    def now(self) -> float:
        return self.started_at + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.elapsed += seconds
        self.on_sleep()
        if self.stop_after is not None and len(self.sleeps) >= self.stop_after:
            self._stopping = True

    def stop(self) -> None:
        self._stopping = True

    def is_stopping(self) -> bool:
        return self._stopping


@dataclass
class FakeStream:
    """A stream and its group: what outlives a consumer."""

    entries: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    given: int = 0
    """How many were delivered for the first time."""
    pending: dict[bytes, int] = field(default_factory=dict)
    """Deliveries of each entry that is not acknowledged."""
    acked: list[bytes] = field(default_factory=list)

    def publish(self, fields: Sequence[bytes]) -> bytes:
        entry_id = b"1700000000000-%d" % (len(self.entries) + 1)
        self.entries.append((entry_id, list(fields)))
        return entry_id

    @property
    def is_drained(self) -> bool:
        return self.given == len(self.entries) and not self.pending


class FakeSource:
    """A consumer of a FakeStream. `failures` names the next steps that fail: read, ack, settle.

    `ack` fails before the acknowledgement, `settle` after it: the answer was lost.
    """

    def __init__(
        self, stream: FakeStream, batch_size: int = 10, max_entry_bytes: int = DEFAULT_ENTRY_BYTES
    ) -> None:
        self.stream = stream
        self.batch_size = self.most = batch_size
        self.max_entry_bytes = max_entry_bytes
        self.aside: list[bytes] = []
        """Entries that are kept aside, as they were too large."""
        self.expected_large = 0
        self.server_time: float | None = None
        """What the server says that it is; None: it does not tell."""
        self.failures: list[str] = []
        self.on_ack: Callable[[Sequence[Entry]], None] = lambda _: None
        self.on_empty: Callable[[], None] = lambda: None
        self._recovering = True
        self._settled: list[bytes] = []

    def read(self) -> list[Entry]:
        self._settle()
        self._fail_if_told("read")
        if self._recovering:
            if recovered := self._own_pending():
                return recovered
            self._recovering = False
        fresh = self.stream.entries[self.stream.given : self.stream.given + self.most]
        self.stream.given += len(fresh)
        self.stream.pending |= {entry_id: 1 for entry_id, _ in fresh}
        if not fresh:
            self.on_empty()
        return [Entry(entry_id, list(fields)) for entry_id, fields in fresh]

    def drain(self) -> list[Entry]:
        return []

    def ack(self, entries: Sequence[Entry]) -> None:
        self.on_ack(entries)
        self._settled += [entry.entry_id for entry in entries]
        self.aside += [entry.entry_id for entry in entries if entry.is_cut]
        self._settle()

    def limit(self, most: int) -> None:
        self.most = min(most, self.batch_size)

    def still_working(self) -> None:
        """As with Redis: nobody takes what we work on, but for what is claimed."""

    def expect_large(self) -> None:
        self.expected_large += 1

    def now(self) -> float | None:
        return self.server_time

    def close(self) -> None:
        self._settled = []

    def _own_pending(self) -> list[Entry]:
        waiting = sorted(self.stream.pending, key=lambda entry_id: int(entry_id.split(b"-")[1]))
        if not waiting:
            return []
        # As RedisSource does: what was delivered twice is given alone.
        trusted = [one for one in waiting[: self.most] if self.stream.pending[one] < 2]
        page = trusted if trusted[:1] == waiting[:1] else waiting[:1]
        contents = dict(self.stream.entries)
        large = [one for one in page if size_of(contents[one]) > self.max_entry_bytes]
        if large:  # nor is a large one read, except for its beginning, or what lies behind it
            page = page[: page.index(large[0])] or large[:1]
        for entry_id in page:
            self.stream.pending[entry_id] += 1
        found = [Entry(one, list(contents[one]), self.stream.pending[one]) for one in page]
        return [cut(entry, self.max_entry_bytes) for entry in found]

    def _settle(self) -> None:
        if not self._settled:
            return
        self._fail_if_told("ack")
        for entry_id in self._settled:
            if self.stream.pending.pop(entry_id, None) is not None:
                self.stream.acked.append(entry_id)
        self._fail_if_told("settle")
        self._settled = []

    def _fail_if_told(self, step: str) -> None:
        if self.failures and self.failures[0] == step:
            self.failures.pop(0)
            self._recovering = True
            raise SourceUnavailable(f"told to fail at {step}", "told")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float):
        return False
    return -(2**63) <= value < 2**63 if isinstance(value, int) else not math.isnan(value)


def _fits(row: Event) -> bool:
    texts = (row.event_id, row.device_id, row.zone, row.kpi, row.attributes or "")
    return (
        all(map(_is_text, texts))
        and _is_number(row.ts)
        and _is_number(row.value)
        and -math.inf < row.value < math.inf
        and row.is_degraded in {0, 1}
    )


def _content(row: Event) -> Event:
    return row._replace(ts=round(row.ts, 6), is_degraded=0)


class FakeSink:
    """Rows by id. It takes no writes while `down`, or for the next calls that `outages` says.

    `refuses` and `is_stuck` are asked about each row: the first refuses it, the second makes the
    write that holds it fail as if the sink were away, while a probe is answered.

    `beside`: another node's way to the same store. They share the rows, and each fails for itself.
    """

    def __init__(self, beside: "FakeSink | None" = None) -> None:
        self.rows: dict[str, Event] = {} if beside is None else beside.rows
        self.inserts: list[str] = [] if beside is None else beside.inserts
        self.sizes: list[int] = []
        """The size of each write that was tried."""
        self.probes = 0
        self.down = False
        self.outages: list[bool] = []
        """For each call from now on, whether it fails; after the last, none does."""
        self.refuses: Callable[[Event], bool] = lambda _: False
        self.is_stuck: Callable[[Event], bool] = lambda _: False
        self.on_write: Callable[[Sequence[Event]], None] = lambda _: None
        """Called as a write begins; and `on_written` when it is durable, and has not said so yet."""
        self.on_written: Callable[[Sequence[Event]], None] = lambda _: None

    def write(self, rows: Sequence[Event]) -> Written:
        self.sizes.append(len(rows))
        self.on_write(rows)
        self._fail_if_told()
        if any(map(self.is_stuck, rows)):
            raise SinkUnavailable("stuck at a row", "stuck")
        if any(self.refuses(row) or not _fits(row) for row in rows):
            raise RowsRefused("told to refuse a row", "told")
        inserted = 0
        conflicts = []
        for position, row in enumerate(rows):
            stored = self.rows.get(row.event_id)
            if stored is None:
                self.rows[row.event_id] = row
                self.inserts.append(row.event_id)
                inserted += 1
            elif _content(stored) != _content(row):
                conflicts.append(position)
        self.on_written(rows)
        return Written(inserted, conflicts)

    def probe(self) -> None:
        self.probes += 1
        self._fail_if_told()

    def close(self) -> None:
        """Keep the rows: a file outlives its connection."""

    def _fail_if_told(self) -> None:
        if self.down or (self.outages and self.outages.pop(0)):
            raise SinkUnavailable("told to be away", "told")


class FakeDeadLetters:
    """Letters in a list, as their JSON lines. `failures`: for each put from now on, whether it fails.

    `beside`: another node's way to the same letters.
    """

    def __init__(
        self,
        now: Callable[[], float] = lambda: 0.0,
        consumer: str = "",
        beside: "FakeDeadLetters | None" = None,
    ) -> None:
        self.lines: list[str] = [] if beside is None else beside.lines
        self.failures: list[bool] = []
        self._now = now
        self._consumer = consumer
        self._replayed: dict[str, float] = {}
        self._purged: dict[str, Purged] = {}
        self.damages = Damages()

    def put(self, dead: Sequence[Dead]) -> None:
        if self.failures and self.failures.pop(0):
            raise DeadLettersUnavailable("told to be away", "told")
        batch = current()
        self.lines += [dead_letter(one, self._now(), self._consumer, batch).to_json() for one in dead]

    def read(self) -> Iterator[DeadLetter]:
        return map(parse_letter, self.lines)

    def events_of(self, entry_id: str) -> set[str]:
        return {one.entry_id for one in self.read() if one.entry_id.startswith(f"{entry_id}/")}

    def replayed(self) -> dict[str, float]:
        return self._replayed

    def purged(self) -> Iterator[Purged]:
        return iter(self._purged.values())

    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None:
        self._replayed |= dict.fromkeys((old for old, _ in replayed), self._now())

    def purge(self, entry_ids: Collection[str]) -> int:
        gone = [letter for letter in self.read() if letter.entry_id in entry_ids]
        self._purged |= {
            one.entry_id: Purged(one.entry_id, one.text("event_id"), one.content if one.is_conflict else None)
            for one in itertools.chain.from_iterable(map(single_letters, gone))
        }
        self.lines = [line for line in self.lines if parse_letter(line).entry_id not in entry_ids]
        return len(gone)

    def close(self) -> None:
        """Keep the letters: a file outlives its descriptor."""


class FakeSpans:
    """Spans in a list."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.is_closed = False

    def put(self, spans: Iterable[Span]) -> None:
        self.spans += spans

    def close(self) -> None:
        self.is_closed = True

    def named(self, name: str) -> list[Span]:
        """Give the spans of a name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        """Give the only span of a name."""
        (span,) = self.named(name)
        return span


class NoUpkeep(Upkeep):
    """Nothing to look after: there is no server."""

    def __init__(self) -> None:  # no super().__init__: that one wants a client
        pass

    def run_due(self) -> None:
        pass


def keep_their_promises() -> tuple[Source, Sink, DeadLetters, Clock, Spans]:
    """Let mypy check the fakes against the protocols they stand for."""
    return FakeSource(FakeStream()), FakeSink(), FakeDeadLetters(), FakeClock(), FakeSpans()
