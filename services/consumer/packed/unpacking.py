"""Packed entries on their way in: each of their events is given as an entry of its own.

    1700000000000-0       the entry of the stream; acknowledged when each of its events is stored or dead
    1700000000000-0/1     an event of it, by its line: judged, stored and dead-lettered as any entry is

So what comes behind knows events alone, and BATCH_SIZE bounds those that are stored together: what is left
of an entry waits here. They are given as lines (events.py), and made entries only for who looks at them. An
entry of one event passes as it is, and so does a packed one that is to be refused whole: it is too large, or
can't be taken apart.

An entry that was delivered twice and never settled may have killed its consumers. It is given event by event
then: each is stored by itself, so the first one that is neither stored nor dead-lettered is the one that they
died of. When MAX_DELIVERIES is exceeded that one alone is given up (suspects.py), and the others are given as
before; if another one of them is deadly too, its turn comes at the next delivery.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from services.consumer.packed.events import Events, Lines, Pack
from services.consumer.packed.suspects import CannotTell, Settled
from services.contract.codec import MARK, REQUIRED, Packed, is_packed, unpack
from services.contract.consuming.doors import SUSPECT_DELIVERIES, Entry, Source, check_form
from services.contract.consuming.large import size_of

_FLAT_PARTS: Final = 2 * len(REQUIRED)
_FIELDS: Final = attrgetter("fields")
_AT_FIRST: Final = 100
"""Entries that are asked for while it is not known how many events they have."""
_LOOKS: Final = 3
"""So many deliveries more are tried where nobody can say which of the events are settled."""


class UnpackingSource:
    """A source that gives events, over one that gives entries; a Source itself.

    `settled` tells which of the events of an entry are. Raises CannotTell.
    """

    def __init__(
        self,
        source: Source,
        settled: Callable[[bytes, Sequence[Entry]], Settled],
        logger: logging.Logger,
        *,
        batch_size: int,
        max_entry_bytes: int,
        max_deliveries: int,
    ) -> None:
        self._source = source
        self._settled = settled
        self._logger = logger
        self._batch_size = batch_size
        self._limit = min(batch_size, _AT_FIRST)
        """How many entries are asked for, so that they have about as many events as a batch."""
        if self._limit < batch_size:
            source.limit(self._limit)
        self._max_entry_bytes = max_entry_bytes
        self._max_deliveries = max_deliveries
        # Before an event is given up, it was tried alone.
        self._last_delivery = max(2, max_deliveries)
        self._waiting: Iterator[Sequence[Entry]] = iter(())
        self._open: dict[bytes, Pack] = {}
        """Entries that are not settled yet, by their ids."""

    def read(self) -> Sequence[Entry]:
        """Give the next events, at most a batch. Raises SourceUnavailable."""
        return next(self._waiting, None) or self._given(self._source.read)

    def drain(self) -> Sequence[Entry]:
        """Give events that were asked for ahead and have not been given yet. Raises SourceUnavailable."""
        return next(self._waiting, None) or self._given(self._source.drain)

    def ack(self, entries: Sequence[Entry]) -> None:
        """Acknowledge each entry whose last event is settled now. Raises SourceUnavailable."""
        if not (self._open or isinstance(entries, Events)):
            self._source.ack(entries)
            return
        whole: list[Entry] = []
        for part in entries.parts if isinstance(entries, Events) else entries:
            if isinstance(part, Lines):
                entry_id, bits = part.pack.entry.entry_id, part.bits
            else:
                entry_id, mark, line = part.entry_id.partition(MARK)
                if not mark:
                    whole.append(part)
                    continue
                bits = 1 << int(line) - 1
            if (pack := self._open.get(entry_id)) is not None:
                pack.left &= ~bits
                if not pack.left:
                    del self._open[entry_id]
                    whole.append(pack.entry)
        if whole:
            self._source.ack(whole)

    def limit(self, most: int) -> None:
        """Give at most so many entries at a read from now on."""
        self._source.limit(most)

    def still_working(self) -> None:
        """Hear that entries in hand take longer."""
        self._source.still_working()

    def expect_large(self) -> None:
        """Hear that large entries came unforeseen: others may follow."""
        self._source.expect_large()

    def now(self) -> float | None:
        """Tell the broker's own time. Raises SourceUnavailable."""
        return self._source.now()

    def close(self) -> None:
        """Let go of the connection; entries that are not settled stay pending."""
        self._source.close()

    def _given(self, read: Callable[[], Sequence[Entry]]) -> Sequence[Entry]:
        """Read entries, where none waits here any more, and give the first of their events."""
        # Whatever is open still was given up by its batch. It is pending, and comes again.
        self._open.clear()
        entries = read()
        try:
            return self._apart(entries)
        except (TypeError, AttributeError):
            check_form(entries)
            raise

    def _apart(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Take entries of many events apart, and give the first events."""
        # No entry of many events has as many fields as one of one event: their number is all that is looked
        # at where there are none, and not once for each in Python.
        if not entries or min(map(len, map(_FIELDS, entries))) >= _FLAT_PARTS:
            self._learn(len(entries), len(entries))
            return entries
        taken_apart = [(entry, self._unpack(entry)) for entry in entries]
        self._learn(len(entries), sum(1 if one is None else one.number for _, one in taken_apart))
        self._waiting = self._batches(taken_apart)
        return next(self._waiting)

    def _unpack(self, entry: Entry) -> Packed | None:
        """Take an entry apart; None for one of one event, and for one that is refused whole."""
        if entry.is_cut or not is_packed(entry.fields) or size_of(entry.fields) > self._max_entry_bytes:
            return None
        found = unpack(entry.fields)
        return found if isinstance(found, Packed) else None

    def _learn(self, entries: int, events: int) -> None:
        """Ask for as many entries as have about a batch of events, as those did that came last."""
        if not events:
            return
        most = max(1, self._batch_size * entries // events)
        if most != self._limit:
            self._limit = most
            self._source.limit(most)

    def _batches(self, taken_apart: Iterable[tuple[Entry, Packed | None]]) -> Iterator[Sequence[Entry]]:
        parts: list[Lines | Entry] = []
        room = self._batch_size
        for entry, packed in taken_apart:
            if packed is not None and entry.deliveries > min(SUSPECT_DELIVERIES, self._last_delivery - 1):
                if parts:
                    yield Events(parts)
                    parts, room = [], self._batch_size
                yield from self._one_by_one(entry, packed)
                continue
            pack = None if packed is None else self._begin(entry, packed, entry.deliveries)
            first, end = 0, 1 if packed is None else packed.number
            while first < end:
                number = min(room, end - first)
                parts.append(entry if pack is None else Lines(pack, first, number))
                first, room = first + number, room - number
                if not room:
                    yield Events(parts)
                    parts, room = [], self._batch_size
        if parts:
            yield Events(parts)

    def _begin(self, entry: Entry, packed: Packed, deliveries: int) -> Pack:
        """Begin with the events of an entry, all of which are to be settled before it is."""
        self._open[entry.entry_id] = pack = Pack(entry, packed, deliveries)
        return pack

    def _one_by_one(self, entry: Entry, packed: Packed) -> Iterator[list[Entry]]:
        """Give the events of an entry, each alone: a consumer may have died of one of them."""
        # As often as an event may be delivered and be tried once more, and no more often.
        pack = self._begin(entry, packed, min(entry.deliveries, self._max_deliveries))
        events = [pack.event(place) for place in range(packed.number)]
        self._logger.warning(
            "entry_tried_by_event",
            extra={
                "entry_id": entry.entry_id.decode(),
                "events": len(events),
                "deliveries": entry.deliveries,
            },
        )
        if entry.deliveries > self._last_delivery:
            try:
                settled = self._settled(entry.entry_id, events)
            except CannotTell as error:
                self._logger.error(
                    "suspect_not_found",  # each of them is tried again, a few times
                    extra={"entry_id": entry.entry_id.decode(), "error": str(error)},
                )
                if entry.deliveries > self._last_delivery + _LOOKS:
                    yield [self._given_up(entry)]
                    return
            else:
                if settled.suspect is None:
                    yield [self._given_up(entry)]
                    return
                # Those that have a letter need no other: the entry is settled without them.
                done = {settled.suspect.entry_id, *settled.buried}
                for place, event in enumerate(events):
                    if event.entry_id in settled.buried:
                        pack.left &= ~(1 << place)
                events = [event for event in events if event.entry_id not in done]
                yield [settled.suspect._replace(deliveries=entry.deliveries)]
        for event in events:
            yield [event]

    def _given_up(self, entry: Entry) -> Entry:
        """Give an entry up as it is: whichever of its events is deadly, it can't be found out."""
        del self._open[entry.entry_id]
        return entry
