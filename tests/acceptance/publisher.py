"""A producer run of known content: what it published, where it must end, and the record of it in Redis."""

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import redis
from law import pack
from samples import flat

from services.brokers.redis.keys import StreamKeys
from services.contract.codec import encode
from services.contract.event import Event
from services.contract.ids import event_id, run_name

KEYS: Final = StreamKeys()

Pairs = list[tuple[str | bytes, str | bytes]]

_KPIS: Final = ("temperature", "humidity", "vibration")
_NUMBERS: Final = itertools.count(1)

_SPOILT: Final[list[tuple[str, str | bytes, str]]] = [
    ("value", "-1", "value_negative"),
    ("kpi", "noise", "kpi_unknown"),
    ("device_id", "", "device_id_invalid"),
    ("ts", "tomorrow", "ts_invalid"),
    ("zone", b"zone-\xff", "not_utf8"),
]
"""A field, a value that breaks its rule, and the reason of the dead letter."""


@dataclass(frozen=True)
class Published:
    """One event as it was published."""

    entry_id: str
    """Of one event of many, `ENTRY/LINE`."""
    fields: list[bytes]
    event_id: str | None
    """None: it has none that can be read."""
    event: Event | None = None
    """The row it must become; None: it must become a dead letter."""
    reason: str | None = None
    """The reason of that letter."""

    @property
    def stream_id(self) -> str:
        """The entry as the stream has it."""
        return self.entry_id.partition("/")[0]


@dataclass
class Publisher:
    """One producer run. What it makes waits for `send`; then it is published and recorded in one step.

    Entry ids are made here, so that they are known whatever becomes of the server's answer.
    """

    client: redis.Redis
    seed: int = 0
    entries: list[Published] = field(default_factory=list)
    run: str = ""
    last: int = 0
    """The newest number that was given to an event."""
    unnumbered: int = 0
    foreign_ids: list[str] = field(default_factory=list)
    _made: list[Published] = field(default_factory=list)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.run = self.run or run_name(self._random.getrandbits(38))

    def mix(self, count: int) -> "Publisher":
        """Make events of every kind: mostly valid ones, and some of each kind of trouble."""
        self.valid(5)
        for _ in range(count - 5):
            kind = self._random.choices(
                (self.valid, self.invalid, self.unreadable, self.duplicate, self.conflict), (80, 6, 3, 7, 4)
            )[0]
            kind()
        return self

    def valid(self, count: int = 1) -> "Publisher":
        """Make valid events."""
        for _ in range(count):
            event = self._event()
            self._add(flat([*_pairs(event)]), event.event_id, event=event)
        return self

    def invalid(self, count: int = 1) -> "Publisher":
        """Make events that break a rule, each with a number of its own."""
        for _ in range(count):
            event = self._event()
            name, value, reason = self._random.choice(_SPOILT)
            fields = [(one, value if one == name else text) for one, text in _pairs(event)]
            self._add(flat(fields), event.event_id, reason=reason)
        return self

    def unreadable(self, count: int = 1) -> "Publisher":
        """Make events whose id can't be read: they are counted, not numbered."""
        for _ in range(count):
            self.unnumbered += 1
            event = self._event(numbered=False)._replace(event_id="not-an-id")
            self._add(flat([*_pairs(event)]), None, reason="event_id_invalid")
        return self

    def duplicate(self, count: int = 1) -> "Publisher":
        """Repeat events that were made before, as they were."""
        for _ in range(count):
            event = self._earlier()
            self._add(flat([*_pairs(event)]), event.event_id, event=event)
        return self

    def again(self, count: int) -> "Publisher":
        """Repeat the last valid events, in their order."""
        for event in [one.event for one in (*self.entries, *self._made) if one.event is not None][-count:]:
            self._add(flat([*_pairs(event)]), event.event_id, event=event)
        return self

    def conflict(self, count: int = 1) -> "Publisher":
        """Give another content to the ids of events that were made before."""
        for _ in range(count):
            event = self._earlier()
            event = event._replace(value=event.value + 1)
            self._add(flat([*_pairs(event)]), event.event_id, event=event)
        return self

    def foreign(self, count: int = 1) -> "Publisher":
        """Make valid events with ids that another producer gave them."""
        for _ in range(count):
            bits = f"{self._random.getrandbits(128):032x}"
            name = f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-8{bits[17:20]}-{bits[20:]}"
            self.foreign_ids.append(name)
            event = self._event(numbered=False)._replace(event_id=name)
            self._add(flat([*_pairs(event)]), name, event=event)
        return self

    def raw(self, fields: Sequence[bytes], reason: str) -> "Publisher":
        """Make an entry of foreign fields, of which no run tells."""
        self._add(list(fields), None, reason=reason)
        return self

    def send(self, patience_s: float = 30.0, packs: Sequence[int] = ()) -> list[Published]:
        """Publish what was made, and keep at it while the server is away.

        `packs`: how many events go together in an entry, in turn, where a line can have them.
        """
        now_ms = int(time.time() * 1000)
        entries: list[tuple[bytes, list[bytes]]] = []

        def add(fields: list[bytes]) -> bytes:
            entries.append((f"{now_ms}-{next(_NUMBERS)}".encode(), fields))
            return entries[-1][0]

        ids = pack(add, [(b"%d" % number, one.fields) for number, one in enumerate(self._made)], packs)
        batch = [replace(one, entry_id=ids[b"%d" % number].decode()) for number, one in enumerate(self._made)]
        self._made = []
        deadline = time.monotonic() + patience_s
        while not self._try(batch, entries):
            assert time.monotonic() < deadline, "the server took no events"
        self.entries += batch
        return batch

    def _try(self, batch: Sequence[Published], entries: Sequence[tuple[bytes, list[bytes]]]) -> bool:
        try:
            # The answer to an earlier try may have been lost, and not the try.
            done = self.client.hget(KEYS.run(self.run), "sent")
            if int(done or 0) < len(self.entries) + len(batch):
                self._publish(batch, entries)
        except redis.RedisError:
            return False
        return True

    def _publish(self, batch: Sequence[Published], entries: Sequence[tuple[bytes, list[bytes]]]) -> None:
        pipeline: Any = self.client.pipeline(transaction=True)
        for entry_id, fields in entries:
            pipeline.execute_command("XADD", KEYS.stream, entry_id, *fields)
        record = {
            "last": self.last,
            "published": self.last,
            "unnumbered": self.unnumbered,
            "sent": len(self.entries) + len(batch),
            "source": "acceptance",
            "started_at": 1_767_225_600.0,
        }
        pipeline.sadd(KEYS.runs, self.run)
        pipeline.hset(KEYS.run(self.run), mapping=record)
        raw_ids = b"".join(bytes.fromhex(name.replace("-", "")) for name in self.foreign_ids)
        if raw_ids:
            pipeline.set(KEYS.run_ids(self.run), raw_ids)
        pipeline.execute()

    def _event(self, *, numbered: bool = True) -> Event:
        self.last += numbered
        now = time.time()
        return Event(
            event_id(self.run, self.last, int(now * 1000)),
            f"device-{self._random.randrange(20)}",
            f"zone-{self._random.randrange(4)}",
            round(now - self._random.random(), 3),
            self._random.choice(_KPIS),
            round(self._random.uniform(0.5, 40.0), 2),
        )

    def _earlier(self) -> Event:
        made = itertools.chain(self._made[-200:], self.entries[-200:])
        return self._random.choice([one.event for one in made if one.event is not None])

    def _add(
        self, fields: list[bytes], name: str | None, *, event: Event | None = None, reason: str | None = None
    ) -> None:
        self._made.append(Published("", fields, name, event, reason))


def _pairs(event: Event) -> Pairs:
    texts = encode(event)
    return list(zip(texts[::2], texts[1::2], strict=True))
