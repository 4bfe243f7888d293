"""One batch, top to bottom, under the law.

    Every entry received is stored, dead-lettered or left pending, and nothing is acknowledged before
    it is durable.

Each step takes what the one before it kept, and gives what it keeps and what is dead. An exception
means infrastructure: whatever was not acknowledged by then stays pending, and comes again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.consumer.breaker import Breaker
from services.consumer.clocks import check_clock
from services.consumer.packed.events import delivered_more, together
from services.consumer.persist import Persist
from services.consumer.process import process
from services.consumer.recognise import recognise
from services.consumer.stages import NOBODY, Stages
from services.consumer.steps import take_steps
from services.consumer.validate import read_form, validate
from services.contract.codec import decode as decode_fields
from services.contract.consuming.doors import Dead, Decoded, Entry, Rows, Source, Valid, check_form
from services.contract.consuming.large import is_heavy, limit_size, size_of
from services.contract.event import DEFAULT_ENTRY_BYTES, Event, Rejection
from services.contract.kpis import Kpis
from services.steps import Step


@dataclass(frozen=True, slots=True)
class Rules:
    """What events are held to."""

    kpis: Kpis
    max_future_s: float
    max_deliveries: int
    steps: Sequence[Step] = ()
    max_entry_bytes: int = DEFAULT_ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: received = stored + duplicates + dead + pending."""

    received: Sequence[Entry]
    rows: Sequence[Event]
    """Rows stored now or before."""
    inserted: int
    dead: Sequence[Dead]

    @property
    def duplicates(self) -> int:
        """Rows that were stored before, with the same content."""
        return len(self.rows) - self.inserted

    @property
    def pending(self) -> int:
        """Entries without an outcome. None in a batch that came to its end."""
        return len(self.received) - len(self.rows) - len(self.dead)


def run_batch(
    entries: Sequence[Entry],
    source: Source,
    rules: Rules,
    persist: Persist,
    breaker: Breaker,
    now: Callable[[], float],
    stages: Stages = NOBODY,
) -> Outcome:
    """Take entries to where each of them belongs, then acknowledge them. `stages` hears how far it is.

    Raises SourceUnavailable (all is durable, the acknowledgement comes later), ClockBehind, BreakerOpen
    and Stopping (nothing is acknowledged).
    """
    fresh, exhausted = limit_deliveries(entries, rules.max_deliveries)
    latest_ts = now() + rules.max_future_s
    try:
        ordinary, odd, is_untraced = recognise(fresh, None if rules.steps else rules.kpis, latest_ts)
    except TypeError:
        check_form(fresh)
        raise
    if is_untraced and not exhausted:
        stages.untraced()
    check_form(one for one in (*odd, *(dead.entry for dead in exhausted)) if not one.is_cut)
    odd, large = limit_size(odd, rules.max_entry_bytes)
    if large or is_heavy(size_of(entry.fields) for entry in odd):
        source.expect_large()
    decoded, undecodable = decode(odd)
    formed, malformed = read_form(decoded)
    stages.done("decode")
    rejected: list[Dead] = []
    if rules.steps:
        # Before the rules: a step may convert a unit, rename a KPI, mend a time.
        formed, rejected = take_steps(_in_order(fresh, ordinary, formed), rules.steps)
        ordinary = Rows((), ())
        stages.done("steps")
    checked, invalid = validate(formed, rules.kpis, latest_ts)
    if malformed or invalid:
        check_clock(
            fresh, [*malformed, *invalid], latest_ts - rules.max_future_s, rules.max_future_s, source.now
        )
    stages.done("validate")
    rows = process(_in_order(fresh, ordinary, checked), rules.kpis)
    refused = [*large, *undecodable, *malformed, *rejected, *invalid]
    breaker.check(len(entries), len(refused))
    stages.done("process")
    stored = persist.store(rows)
    stages.done("store")
    dead = [*exhausted, *refused, *stored.dead]
    persist.bury(dead)
    stages.done("dead-letter")
    source.ack(together(stored.entries, [one.entry for one in dead]))
    stages.done("ack")
    return Outcome(entries, _stored_rows(rows, stored.dead), stored.inserted, dead)


def limit_deliveries(entries: Sequence[Entry], max_deliveries: int) -> tuple[Sequence[Entry], list[Dead]]:
    """Set apart what was delivered too often: whoever worked on it died before it could say so.

    Of what is too large the size says more; it is not worked on either.
    """
    if not delivered_more(entries, max_deliveries):
        return entries, []
    exhausted = [entry for entry in entries if entry.deliveries > max_deliveries and not entry.is_cut]
    fresh = [entry for entry in entries if entry.deliveries <= max_deliveries or entry.is_cut]
    return fresh, [_exhausted(entry, max_deliveries) for entry in exhausted]


def decode(entries: Sequence[Entry]) -> tuple[list[Decoded], list[Dead]]:
    """Read each entry's fields as text."""
    decoded: list[Decoded] = []
    dead: list[Dead] = []
    for entry in entries:
        fields = decode_fields(entry.fields)
        if isinstance(fields, Rejection):
            dead.append(Dead(entry, fields))
        else:
            decoded.append((entry, fields))
    return decoded, dead


def _in_order(entries: Sequence[Entry], some: Rows, others: Sequence[Valid]) -> Rows:
    """Put events in the order of their entries: of two that conflict the one that came first is stored."""
    if not (some and others):
        return some or Rows.of(others)
    positions = {entry.entry_id: position for position, entry in enumerate(entries)}
    return Rows.of(sorted([*some, *others], key=lambda pair: positions[pair[0].entry_id]))


def _stored_rows(rows: Rows, refused: Sequence[Dead]) -> Sequence[Event]:
    if not refused:
        return rows.events
    gone = {one.entry.entry_id for one in refused}
    return [row for entry, row in rows if entry.entry_id not in gone]


def _exhausted(entry: Entry, max_deliveries: int) -> Dead:
    why = f"delivered {entry.deliveries} times (MAX_DELIVERIES {max_deliveries}) and never settled"
    return Dead(entry, Rejection("receive", "deliveries_exhausted", why))
