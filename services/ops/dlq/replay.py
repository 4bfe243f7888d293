"""Publish dead letters again, under the event ids they had, byte for byte but for what is mended.

Nothing can be doubled: a sink stores an event id once, so a letter that is published twice, or whose
event was stored after all, changes nothing. That is why an interruption between publishing and the
note about it is harmless: the letters of that chunk are published again.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from services.consumer.steps import through
from services.consumer.validate import form, hold
from services.contract.codec import OPTIONAL, REQUIRED, decode, unpack
from services.contract.consuming.large import size_of
from services.contract.consuming.letter import DeadLetter
from services.contract.consuming.packed_letters import single_letters
from services.contract.event import DEFAULT_ENTRY_BYTES, Event, Rejection
from services.contract.kpis import Kpis
from services.contract.operating import LetterStore
from services.ops.dlq.letters import Letter, LetterFilter, select
from services.ops.dlq.replay_traces import ReplayTraces
from services.ops.server.doors import Server
from services.steps import Step

FIELDS: Final = tuple(name.decode() for name in REQUIRED + OPTIONAL)
"""What an event may have."""

_CHUNK: Final = 500
_CHUNK_BYTES: Final = 1 << 20
"""Published in one step at most, but for one larger event."""

UNTRACED: Final = ReplayTraces(None, "")


@dataclass(frozen=True, slots=True)
class Mending:
    """What is changed in an event on its way."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Fields that get this value, whether they had one or not."""
    dropped: Collection[str] = ()
    """Fields that are left out."""

    def fields(self, letter: DeadLetter) -> list[bytes]:
        """Give the letter's names and values in turn, mended; a mended name comes once."""
        received = letter.fields
        values = {name.encode(): value.encode() for name, value in self.values.items()}
        gone = {name.encode() for name in self.dropped}
        mended: list[bytes] = []
        for name, value in zip(received[::2], received[1::2], strict=True):
            if name in gone:
                continue
            mended += (name, values.get(name, value))
            if name in values:
                gone.add(name)
        missing = [pair for pair in values.items() if pair[0] not in gone]
        return [*mended, *itertools.chain.from_iterable(missing)]


@dataclass(frozen=True, slots=True)
class Replayable:
    """A letter, and what would be published for it."""

    letter: DeadLetter
    fields: list[bytes]
    event_id: str | None
    """None where there is no readable one; such a letter is not published."""
    objection: Rejection | None
    """What the rules say against it as it would be published; it would come back as a letter."""
    refusal: str = ""
    """Why there is no way to publish it; empty where there is one."""
    of: str = ""
    """The entry of the letter that it is one event of; empty where it is the whole letter."""
    is_last: bool = True
    """Whether nothing more of the letter follows."""

    @property
    def kept_as(self) -> str:
        """Name the letter as it is kept."""
        return self.of or self.letter.entry_id

    def record(self) -> dict[str, Any]:
        """Give what a person wants to know before it is published."""
        return {
            "entry_id": self.letter.entry_id,
            "event_id": self.event_id,
            "reason": self.letter.reason,
            "outcome": self._outcome(),
        }

    def _outcome(self) -> str:
        if self.refusal:
            return f"refused: {self.refusal}"
        if self.event_id is None:
            return "skipped: no readable event_id; give one by --entry and --set event_id="
        return "published" if self.objection is None else f"comes back: {self.objection.error}"


@dataclass(slots=True)
class Report:
    """What a replay came to."""

    published: int = 0
    skipped: list[str] = field(default_factory=list)
    """Entry ids of letters that have no readable event id."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why letters can't be published at all, by entry id."""
    objections: Counter[str] = field(default_factory=Counter)
    """Of the published: those that still break a rule, by reason."""


def prepare_all(
    one: Letter,
    mending: Mending,
    kpis: Kpis,
    latest_ts: float,
    max_entry_bytes: int = DEFAULT_ENTRY_BYTES,
    steps: Sequence[Step] = (),
) -> list[Replayable]:
    """Work out what would be published for a letter: of one of an entry of many events, each of them.

    All else is as for `prepare`.
    """
    rules = (mending, kpis, latest_ts, max_entry_bytes, steps)
    singles = single_letters(one.letter)
    if singles == [one.letter] or one.letter.truncated:
        return [prepare(one, *rules)]
    whole = unpack(one.letter.fields)
    why = f"not all of it is there: {whole.error}" if isinstance(whole, Rejection) else ""
    if "event_id" in mending.values:
        why = f"it has {len(singles)} events, and one event_id is for one of them"
    if why:
        return [replace(prepare(one, *rules), refusal=why)]
    ready = [prepare(one._replace(letter=single), *rules) for single in singles]
    entry_id = one.letter.entry_id
    return [replace(each, of=entry_id, is_last=each is ready[-1]) for each in ready]


def prepare(
    one: Letter,
    mending: Mending,
    kpis: Kpis,
    latest_ts: float,
    max_entry_bytes: int = DEFAULT_ENTRY_BYTES,
    steps: Sequence[Step] = (),
) -> Replayable:
    """Work out what would be published for a letter. `latest_ts` in Unix seconds, as for validation.

    `steps`: those that are installed here. The consumers' may be others.
    """
    fields = mending.fields(one.letter)
    objection = _objection(fields, kpis, latest_ts, steps)
    refusal = _refusal(one.letter, fields, max_entry_bytes)
    return Replayable(one.letter, fields, readable_event_id(fields), objection, refusal)


def _refusal(letter: DeadLetter, fields: list[bytes], max_entry_bytes: int) -> str:
    """Say why a letter can't be published whatever is mended; empty where it can."""
    if letter.truncated:
        size = "too large to be read" if letter.size_bytes is None else f"{letter.size_bytes} bytes large"
        return (
            f"truncated: the entry was {size}, and the letter has its beginning alone; "
            f"telemetry dlq show --raw {letter.entry_id} gives all of it while the broker keeps it"
        )
    if (size_bytes := size_of(fields)) > max_entry_bytes:
        return f"{size_bytes} bytes, more than MAX_ENTRY_BYTES {max_entry_bytes}"
    return ""


def readable_event_id(fields: list[bytes]) -> str | None:
    """Read the event id; None where it is missing, given twice, or no text."""
    found = [value for name, value in zip(fields[::2], fields[1::2], strict=True) if name == b"event_id"]
    if len(found) != 1:
        return None
    try:
        return found[0].decode() or None
    except UnicodeDecodeError:
        return None


def replay(
    server: Server,
    letters: LetterStore,
    chosen: Collection[str],
    mending: Mending,
    latest_ts: float,
    traces: ReplayTraces = UNTRACED,
    steps: Sequence[Step] = (),
) -> Report:
    """Publish the chosen letters, by entry id, and mark each chunk as soon as it is published.

    Raises BrokerUnavailable and OSError; what was published by then is marked, but for one chunk.
    """
    report = Report()
    # By the ids chosen before: a letter that comes back at once has another, and isn't met again.
    meant = select(letters, LetterFilter(entries=chosen))
    settings = server.settings
    rules = (settings.kpis, latest_ts, settings.max_entry_bytes, steps)
    ready = (each for one in meant for each in prepare_all(one, mending, *rules))
    left_out: set[str] = set()
    for chunk in _chunks(ready):
        report.refused |= {one.letter.entry_id: one.refusal for one in chunk if one.refusal}
        able = [one for one in chunk if not one.refusal]
        good = [one for one in able if one.event_id is not None]
        skipped = [one for one in able if one.event_id is None]
        report.skipped += [one.letter.entry_id for one in skipped]
        # A letter of many events stays unmarked while one of them is not published: it alone has that one.
        left_out |= {one.kept_as for one in chunk if one.refusal or one.event_id is None}
        report.objections.update(one.objection.reason for one in good if one.objection)
        with traces.batch([one.letter for one in good]) as traceparent:
            published = server.side.publish([_entry(one, traceparent) for one in good])
        letters.mark_replayed(
            [
                (one.kept_as, entry_id)
                for one, entry_id in zip(good, published, strict=True)
                if one.is_last and one.kept_as not in left_out
            ]
        )
        report.published += len(published)
    return report


def _entry(ready: Replayable, traceparent: str) -> list[bytes | str]:
    """Write the entry of a letter; `traceparent`, unless empty, is for one that has none of its own."""
    has_own = b"traceparent" in ready.fields[::2]
    return [*ready.fields, *((b"traceparent", traceparent) if traceparent and not has_own else ())]


def _objection(fields: list[bytes], kpis: Kpis, latest_ts: float, steps: Sequence[Step]) -> Rejection | None:
    texts = decode(fields)
    if isinstance(texts, Rejection):
        return texts
    outcome = form(texts)
    if isinstance(outcome, Event):
        outcome = through(outcome, steps)
    if isinstance(outcome, Event):
        outcome = hold(outcome, kpis, latest_ts)
    return outcome if isinstance(outcome, Rejection) else None


def _chunks(ready: Iterator[Replayable]) -> Iterator[list[Replayable]]:
    chunk: list[Replayable] = []
    size = 0
    for one in ready:
        chunk.append(one)
        size += size_of(one.fields)
        if len(chunk) == _CHUNK or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
