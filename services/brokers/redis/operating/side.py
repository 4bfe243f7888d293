"""What a person's commands need of Redis, opened once for each command."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, cast

import redis

from services.brokers.redis.consuming.backlog import read_backlog, read_settled
from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.keys import StreamKeys, keys_of
from services.brokers.redis.operating import folding, groups
from services.brokers.redis.operating.audits import leave_audit, read_audit
from services.brokers.redis.operating.errors import each_explained, explained
from services.brokers.redis.operating.large import parts_of, read_pieces
from services.brokers.redis.operating.letters import ExplainedLetters
from services.brokers.redis.operating.overview import about_server, look_at_stream
from services.brokers.redis.operating.records import read_chunks, read_foreign_ids, read_records
from services.brokers.redis.operating.rights import lacking_rights
from services.brokers.redis.operating.waiting import events_added, read_waiting
from services.brokers.redis.server.connection import address, connect, greet, lacks_command, lacks_right
from services.contract.operating import (
    About,
    AuditResult,
    Ended,
    Group,
    IdChunk,
    Overview,
    Records,
    RunRecord,
    Unsettled,
    Waiting,
)
from services.runtime.settings import ConsumerSettings

ENGINE: Final = "Redis"


def open_side(settings: ConsumerSettings) -> "RedisOperatorSide":
    """Open it; nothing is sent yet. Raises SettingsInvalid."""
    return RedisOperatorSide(connect(settings), settings)


@dataclass(frozen=True, slots=True)
class RedisOperatorSide:
    """What is asked of one stream and its server. Whatever asks raises BrokerUnavailable."""

    client: redis.Redis
    settings: ConsumerSettings

    @property
    def keys(self) -> StreamKeys:
        """The keys of the stream."""
        return keys_of(self.settings)

    @property
    def place(self) -> str:
        """Name engine and server for a person, without a password."""
        return f"{ENGINE} {address(self.settings)}"

    @property
    def large_place(self) -> str:
        """Where entries are kept that are too large to be read."""
        return self.keys.large

    def greet(self) -> None:
        """See that a server is there, and that it is one of ours."""
        with self._explained():
            greet(self.client)

    def about(self) -> About:
        """Tell what the server is."""
        with self._explained():
            return about_server(self.client)

    def lacking_rights(self) -> dict[str, list[str]] | None:
        """Tell what this user lacks to be a producer, a consumer, an operator; None where nobody can tell."""
        with self._explained():
            return lacking_rights(self.client, self.keys, has_letters=self.settings.letters_in == "stream")

    def now(self) -> float | None:
        """Tell the server's time, in Unix seconds; None where it does not tell us."""
        with self._explained():
            try:
                seconds, microseconds = self.client.time()
            except redis.RedisError as error:
                if lacks_right(error) or lacks_command(error):
                    return None
                raise
        return seconds + microseconds / 1e6

    def overview(self, now: float) -> Overview | None:
        """Look at the stream, its groups and their consumers; None when there is no stream."""
        with self._explained():
            return look_at_stream(self.client, self.keys, now)

    def unsettled(self) -> Unsettled | None:
        """Count what our group has yet to acknowledge; None where there is no stream or no group."""
        with self._explained():
            backlog = read_backlog(self.client, self.keys)
        return None if backlog is None else Unsettled(backlog.lag, backlog.pending)

    def settled(self) -> int:
        """Tell how many entries our group has for certain acknowledged; 0 where that is not known."""
        with self._explained():
            return read_settled(self.client, self.keys, has_letters=self.settings.letters_in == "stream")

    def newest(self) -> str | None:
        """Name the newest entry that the stream has had; None where there is no stream or no group."""
        with self._explained():
            backlog = read_backlog(self.client, self.keys)
        return None if backlog is None else backlog.last_generated_id

    def is_settled_up_to(self, newest: str) -> bool:
        """Tell whether our group has acknowledged this entry and all before it."""
        with self._explained():
            backlog = read_backlog(self.client, self.keys)
        return backlog is not None and backlog.is_settled_up_to(newest)

    def waiting(self) -> Iterator[Waiting]:
        """Give each entry that our group has yet to acknowledge."""
        return each_explained(self.settings, read_waiting(self.client, self.keys))

    def events_added(self) -> int | None:
        """Tell how many events the stream has ever had; None where nobody counts."""
        with self._explained():
            return events_added(self.client, self.keys)

    def records(self) -> Records:
        """Read the records of all runs."""
        with self._explained():
            return read_records(self.client, self.keys)

    def id_chunks(self, record: RunRecord, first: int) -> list[IdChunk]:
        """Tell which chunks are there of the ids that a run published and did not number, from one on."""
        with self._explained():
            return read_chunks(self.client, record, first)

    def foreign_ids(self, record: RunRecord, chunk: IdChunk, first: int, number: int) -> list[bytes]:
        """Give so many ids of a chunk, from number `first` (0) of the chunk on."""
        with self._explained():
            return read_foreign_ids(self.client, record, chunk, first, number)

    def forget_ids(self, record: RunRecord, before: int) -> str:
        """Delete the chunks before one, which are proven; says why not where this user may not."""
        with self._explained():
            return folding.forget_chunks(self.client, record, before)

    def fold(self, records: Sequence[RunRecord]) -> str:
        """Let go of records of ended runs, if they still are as they were read; says why not."""
        with self._explained():
            return folding.fold_runs(self.client, self.keys, records)

    def ended(self) -> dict[str, Ended]:
        """Tell of each run that was folded how far it came; nothing where we may not know."""
        with self._explained():
            return folding.read_ended(self.client, self.keys)

    def ended_number(self) -> int | None:
        """Tell how many runs were folded; None where we may not know."""
        with self._explained():
            return folding.count_ended(self.client, self.keys)

    def last_audit(self) -> tuple[AuditResult | None, list[str]]:
        """Give the result that was left last, and say what can't be read of it."""
        with self._explained():
            return read_audit(self.client, self.keys)

    def leave_audit(self, numbers: Mapping[str, int], ended_at: float) -> None:
        """Leave the numbers of an audit in place of those before. Raises BrokerFull, too."""
        with self._explained():
            leave_audit(self.client, self.keys, numbers, ended_at)

    def groups(self, now: float) -> list[Group]:
        """Look at what each group of the stream holds back; none where there is no stream."""
        with self._explained():
            return groups.look_at_groups(self.client, self.keys, self.settings.claim_idle_ms, now)

    def remove_group(self, group: Group) -> bool:
        """Remove a group; False where it is gone already."""
        with self._explained():
            return groups.remove_group(self.client, self.keys.stream, group)

    def large_entry(self, entry_id: str) -> Iterator[Iterator[bytes]] | None:
        """Give names and values in turn of an entry that was too large to be read, each as its bytes come.

        Each is to be read to its end before the next. None where it is not kept. Raises EntryDamaged where it
        is not kept whole.
        """
        return parts_of(each_explained(self.settings, read_pieces(self.client, self.keys.large, entry_id)))

    def publish(self, entries: Sequence[Sequence[bytes | str]]) -> list[str]:
        """Add entries, each of names and values in turn, to the stream: all or none. Gives their ids."""
        with self._explained():
            pipeline = self.client.pipeline(transaction=True)
            for fields in entries:
                # As a plain command: a dict of fields would lose a name that is given twice.
                pipeline.execute_command("XADD", self.keys.stream, "*", *fields)
            return [entry_id.decode() for entry_id in cast("list[bytes]", pipeline.execute())]

    def letters(self) -> ExplainedLetters:
        """Give the dead letters that are kept on this server."""
        return ExplainedLetters(DeadLetterStream(self.client, self.keys, time.time), self.settings)

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.settings)
