"""Dead letters as the commands see them: the store that the settings name, and which letters are meant.

An entry that was delivered again may have left more than one letter; the newest one stands for it.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from services.brokers.operating.side import OperatorSide
from services.contract.consuming.damage import Damages
from services.contract.consuming.letter import DeadLetter
from services.contract.operating import LetterStore
from services.ops.failures import CommandFailed
from services.ops.output.output import remark
from services.ops.server.doors import open_server
from services.runtime.settings import ConsumerSettings, Sources
from services.stores.choice import open_letter_store


class Letter(NamedTuple):
    """The newest letter of an entry, and when it was replayed (Unix seconds), if it was."""

    letter: DeadLetter
    replayed_at: float | None

    def record(self) -> dict[str, Any]:
        """Give all that is known of it."""
        return self.letter.record() | {"replayed_at": self.replayed_at}


class Chosen(NamedTuple):
    """A letter that something is to be done with: all that is kept of it meanwhile."""

    reason: str
    is_replayed: bool


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant; what is empty or None means all. Times in Unix seconds, both included."""

    reasons: Collection[str] = ()
    stages: Collection[str] = ()
    devices: Collection[str] = ()
    entries: Collection[str] = ()
    consumers: Collection[str] = ()
    since: float | None = None
    until: float | None = None
    is_replayed: bool | None = None

    @property
    def is_all(self) -> bool:
        """Tell whether every letter is meant."""
        lists = (self.reasons, self.stages, self.devices, self.entries, self.consumers)
        return not any(lists) and self.since is None and self.until is None and self.is_replayed is None

    def takes(self, one: Letter) -> bool:
        """Tell whether a letter is meant."""
        letter = one.letter
        listed = (
            (self.reasons, letter.reason),
            (self.stages, letter.stage),
            (self.devices, letter.text("device_id")),
            (self.entries, letter.entry_id),
            (self.consumers, letter.consumer),
        )
        return (
            all(not wanted or value in wanted for wanted, value in listed)
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at <= self.until)
            and (self.is_replayed is None or self.is_replayed == (one.replayed_at is not None))
        )


EVERY_LETTER: Final = LetterFilter()


@contextmanager
def open_letters(
    settings: ConsumerSettings, sources: Sources, *, may_start: bool = False
) -> Iterator[LetterStore]:
    """Give the dead letters that the settings name, in the file or in the stream.

    `may_start`: as for `open_server`. What can't be read of them is told at the end. Raises CommandFailed
    then, and as `open_server` does.
    """
    if not are_at_broker(settings):
        with _told_damages(open_letter_store(settings)) as store:
            yield store
        return
    with (
        open_server(settings, sources, may_start=may_start) as server,
        _told_damages(letters_of(server.settings, server.side)) as store,
    ):
        yield store


def are_at_broker(settings: ConsumerSettings) -> bool:
    """Tell whether the dead letters are kept at the broker, and not on this side of it."""
    return settings.letters_in == "stream"


def letters_of(settings: ConsumerSettings, broker: OperatorSide) -> LetterStore:
    """Give the dead letters that the settings name: those at the broker, or those beside the rows."""
    return broker.letters() if are_at_broker(settings) else open_letter_store(settings)


@contextmanager
def _told_damages(store: LetterStore) -> Iterator[LetterStore]:
    """Tell at the end what could not be read, beside what else is wrong. Raises CommandFailed then."""
    complaints: list[str] = []
    exit_code = 1
    try:
        yield store
    except CommandFailed as error:
        complaints, exit_code = [str(error), *error.details], error.exit_code
    for one in store.damages.torn:
        remark(f"{one.place}: {one.why}")
    complaints += show_damages(store.damages)
    if complaints:
        raise CommandFailed(complaints[0], exit_code, complaints[1:])


def show_damages(damages: Damages) -> list[str]:
    """Say what could not be read, a line for each place; none where all could."""
    if not damages.number:
        return []
    places = "1 place" if damages.number == 1 else f"{damages.number:,} places"
    lines = [f"{places} of the dead letters can't be read, and are left as they are:"]
    lines += [f"  {one.place}: {one.why}" for one in damages.named]
    unnamed = damages.number - len(damages.named)
    return [*lines, *([f"  and {unnamed:,} more"] if unnamed else [])]


def select(store: LetterStore, asked: LetterFilter = EVERY_LETTER) -> Iterator[Letter]:
    """Give the letters that are meant, the oldest first, one for each entry.

    Reads the store twice, so that no more than the entries' ids are kept in memory.
    """
    newest = {letter.entry_id: letter.failed_at for letter in store.read()}
    replayed = store.replayed()
    for letter in store.read():
        if newest.get(letter.entry_id) != letter.failed_at:
            continue  # a later one stands for it, or it came meanwhile
        del newest[letter.entry_id]
        one = Letter(letter, replayed.get(letter.entry_id))
        if asked.takes(one):
            yield one


def newest_of(store: LetterStore, entry_id: str) -> Letter | None:
    """Give the newest letter of an entry; None without one."""
    return next(select(store, LetterFilter(entries=[entry_id])), None)


def choose(letters: Iterable[Letter]) -> dict[str, Chosen]:
    """Keep of letters what is needed to act on them, by entry id."""
    return {one.letter.entry_id: Chosen(one.letter.reason, one.replayed_at is not None) for one in letters}


def reasons(chosen: Mapping[str, Chosen]) -> Counter[str]:
    """Count chosen letters by reason."""
    return Counter(one.reason for one in chosen.values())


def told(counts: Mapping[str, int]) -> str:
    """Say how many there are of what, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in ordered)
