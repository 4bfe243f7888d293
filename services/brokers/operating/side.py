"""What a broker gives to a person with a command."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from services.contract.operating import (
    About,
    AuditResult,
    Ended,
    Group,
    IdChunk,
    LetterStore,
    Overview,
    Records,
    RunRecord,
    Unsettled,
    Waiting,
)


class OperatorSide(Protocol):
    """What a person's commands need of a broker. Whatever asks it raises BrokerUnavailable."""

    @property
    def place(self) -> str:
        """Name engine and server for a person, without a password."""
        ...

    @property
    def large_place(self) -> str:
        """Where entries are kept that are too large to be read."""
        ...

    def greet(self) -> None:
        """See that a broker is there, and that it is one of ours."""
        ...

    def about(self) -> About:
        """Tell what the server is."""
        ...

    def lacking_rights(self) -> dict[str, list[str]] | None:
        """Tell what this user lacks to be each of the pipeline's users; None where nobody can tell.

        Nothing is done with any right.
        """
        ...

    def now(self) -> float | None:
        """Tell the server's time, in Unix seconds; None where it has none, or does not tell us."""
        ...

    def overview(self, now: float) -> Overview | None:
        """Look at the stream, its groups and their consumers; None when there is no stream.

        `now` in Unix seconds.
        """
        ...

    def unsettled(self) -> Unsettled | None:
        """Count what our group has yet to acknowledge; None where there is no stream or no group."""
        ...

    def settled(self) -> int:
        """Tell how many entries our group has for certain acknowledged that are no dead letters kept here.

        0 where that is not known.
        """
        ...

    def newest(self) -> str | None:
        """Name the newest entry that the stream has had; None where there is no stream or no group."""
        ...

    def is_settled_up_to(self, newest: str) -> bool:
        """Tell whether our group has acknowledged all that there was when `newest` was given."""
        ...

    def waiting(self) -> Iterator[Waiting]:
        """Give each entry that our group has yet to acknowledge."""
        ...

    def events_added(self) -> int | None:
        """Tell how many events the stream has ever had; None where nobody counts."""
        ...

    def records(self) -> Records:
        """Read the records of all runs."""
        ...

    def id_chunks(self, record: RunRecord, first: int) -> list[IdChunk]:
        """Tell which chunks are there of the ids that a run published and did not number, from one on."""
        ...

    def foreign_ids(self, record: RunRecord, chunk: IdChunk, first: int, number: int) -> list[bytes]:
        """Give so many ids of a chunk, from number `first` (0) of the chunk on."""
        ...

    def forget_ids(self, record: RunRecord, before: int) -> str:
        """Delete the chunks before one, which are proven; says why not where this user may not."""
        ...

    def fold(self, records: Sequence[RunRecord]) -> str:
        """Let go of records of ended runs, if they still are as they were read; says why not.

        Name, last number and the position of a replay are kept.
        """
        ...

    def ended(self) -> dict[str, Ended]:
        """Tell of each run that was folded how far it came; nothing where we may not know."""
        ...

    def ended_number(self) -> int | None:
        """Tell how many runs were folded; None where we may not know."""
        ...

    def last_audit(self) -> tuple[AuditResult | None, list[str]]:
        """Give the result that was left last, and say what can't be read of it.

        None where there is none, or where we may not know.
        """
        ...

    def leave_audit(self, numbers: Mapping[str, int], ended_at: float) -> None:
        """Leave the numbers of an audit in place of those before; `ended_at` in Unix seconds.

        Raises BrokerFull, too.
        """
        ...

    def groups(self, now: float) -> list[Group]:
        """Look at what each group of the stream holds back; none where there is no stream.

        `now` in Unix seconds.
        """
        ...

    def remove_group(self, group: Group) -> bool:
        """Remove a group; False where it is gone already."""
        ...

    def large_entry(self, entry_id: str) -> Iterator[Iterator[bytes]] | None:
        """Give names and values in turn of an entry that was too large to be read, each as its bytes come.

        Each is to be read to its end before the next. None where it is not kept. Raises EntryDamaged where it
        is not kept whole.
        """
        ...

    def publish(self, entries: Sequence[Sequence[bytes | str]]) -> list[str]:
        """Add entries, each of names and values in turn, to the stream: all or none. Gives their ids."""
        ...

    def letters(self) -> LetterStore:
        """Give the dead letters that are kept at the broker."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...
