"""Dead letters in a Redis Stream, where the replicas share no volume.

    {telemetry_stream}:dlq            stream  field `letter`: the same JSON as a line of dlq.jsonl
    {telemetry_stream}:dlq:replayed   hash    entry id of a replayed letter -> Unix seconds
    {telemetry_stream}:dlq:purged     hash    entry id of a purged letter -> its event id; of a conflict
                                              also ` conflict:` and the name of its content
    telemetry_stream:dlq, ...         the same of earlier versions: read, and purged from

Durable as far as the server is: with AOF and `appendfsync always` as a file is, with `everysec` up to
a second less. At maxmemory letters are kept all the same, as long as there is a little room (keep.lua).
"""

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

import redis

from services.brokers.consuming.foreign import name_of, number_of
from services.brokers.redis.consuming.entries import after
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.connection import describe, error_kind
from services.brokers.redis.server.entry_ids import id_parts
from services.brokers.redis.server.scripts import Script, read_script
from services.contract.consuming.damage import Damages, why
from services.contract.consuming.doors import Dead
from services.contract.consuming.letter import (
    PORTION_CHARS,
    DeadLetter,
    Progress,
    Purged,
    letter_lines,
    parse_letter,
)
from services.contract.consuming.packed_letters import single_letters
from services.contract.errors import DeadLettersUnavailable
from services.runtime.telemetry.spans import current

_KEEP: Final = Script(read_script("consuming/keep.lua"))
_PAGE: Final = 1000
_BEGINNING: Final = b'{"entry_id":"'
_CONFLICT: Final = " conflict:"


class _Kept(NamedTuple):
    """A letter, and where it lies."""

    place: tuple[int, int]
    """Of its own entry, in order of time."""
    stream: str
    key: bytes
    letter: DeadLetter


class DeadLetterStream:
    """The dead letters of a stream. `now` in Unix seconds; `consumer` signs the letters."""

    def __init__(
        self, client: redis.Redis, keys: StreamKeys, now: Callable[[], float], consumer: str = ""
    ) -> None:
        self._client = client
        self._stream = keys.dead_letters
        self._streams = [one for one in (keys.former_dead_letters, keys.dead_letters) if one is not None]
        self._now = now
        self._consumer = consumer
        self._progress = Progress()
        self.damages = Damages()
        """What could not be read so far."""

    def put(self, dead: Sequence[Dead]) -> None:
        """Keep dead letters, durable on return. Raises DeadLettersUnavailable."""
        portions = letter_lines(self._progress.rest(dead), self._now(), self._consumer, current())
        try:
            for portion in portions:
                self._keep([line for _, line in portion])
                self._progress.kept(len(portion))
        except redis.RedisError as error:
            raise DeadLettersUnavailable(f"{self._stream}: {describe(error)}", error_kind(error)) from error
        self._progress.done()

    def read(self) -> Iterator[DeadLetter]:
        """Give what was kept, the oldest first."""
        for one in self._letters():
            yield one.letter

    def events_of(self, entry_id: str) -> set[str]:
        """Name those events of an entry of many that have a letter, as `ENTRY/LINE`.

        Raises DeadLettersUnavailable.
        """
        begin = _BEGINNING + f"{entry_id}/".encode()  # no other letter is worth being read as JSON
        try:
            return {
                one.letter.entry_id
                for stream in self._streams
                for key, fields in self._entries_of(stream)
                if fields.get(b"letter", b"").startswith(begin)
                if (one := self._kept(stream, key, fields)) is not None
            }
        except redis.RedisError as error:
            raise DeadLettersUnavailable(f"{self._stream}: {describe(error)}", error_kind(error)) from error

    def replayed(self) -> dict[str, float]:
        """Tell when each replayed letter was replayed (Unix seconds), by entry id."""
        found = {}
        for stream in self._streams:
            with _unless_elsewhere():
                for entry_id, at in self._client.hscan_iter(f"{stream}:replayed"):
                    name, replayed_at = name_of(entry_id), number_of(at)
                    if replayed_at is None:
                        self.damages.tell(f"{stream}:replayed field {name}", "no Unix seconds")
                    else:
                        found[name] = replayed_at
        return found

    def purged(self) -> Iterator[Purged]:
        """Give what is known of each purged letter."""
        for stream in self._streams:
            with _unless_elsewhere():
                for entry_id, note in self._client.hscan_iter(f"{stream}:purged"):
                    try:
                        yield _purged(name_of(entry_id), note.decode())
                    except UnicodeDecodeError:
                        self.damages.tell(f"{stream}:purged field {name_of(entry_id)}", "no UTF-8")

    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None:
        """Note that letters were published again: entry id of the letter, and of the new entry."""
        if replayed:
            now = self._now()
            self._client.hset(f"{self._stream}:replayed", mapping={old: now for old, _ in replayed})

    def purge(self, entry_ids: Collection[str]) -> int:
        """Remove the letters of these entries and note it, at once; gives how many letters went."""
        pipeline = self._client.pipeline(transaction=True)
        former: list[tuple[str, bytes]] = []
        gone = 0
        for one in self._letters():
            if one.letter.entry_id in entry_ids:
                for single in single_letters(one.letter):
                    pipeline.hset(f"{self._stream}:purged", single.entry_id, _note(single))
                if one.stream == self._stream:
                    pipeline.xdel(one.stream, one.key)
                else:
                    former.append((one.stream, one.key))
                gone += 1
        pipeline.execute()
        # Of another slot, so in no transaction with the note; the note is there first.
        for stream, key in former:
            self._client.xdel(stream, key)
        return gone

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _keep(self, lines: Sequence[str]) -> None:
        """Keep letters at once, all or none. Raises redis.RedisError."""
        pipeline = self._client.pipeline(transaction=True)
        for line in lines:
            pipeline.xadd(self._stream, {"letter": line})
        try:
            pipeline.execute()
        except redis.exceptions.OutOfMemoryError:
            # Only its acknowledgement makes room, which comes behind the letter.
            with suppress(redis.exceptions.NoPermissionError):
                _KEEP.run(self._client, [self._stream], *lines)
                return
            raise

    def _letters(self) -> Iterator[_Kept]:
        return heapq.merge(*map(self._letters_of, self._streams), key=lambda one: one.place)

    def _letters_of(self, stream: str) -> Iterator[_Kept]:
        for key, fields in self._entries_of(stream):
            if (one := self._kept(stream, key, fields)) is not None:
                yield one

    def _kept(self, stream: str, key: bytes, fields: Mapping[bytes, bytes]) -> _Kept | None:
        """Read the letter of an entry; None, and a line about it, where it is none."""
        try:
            return _Kept(id_parts(key.decode()), stream, key, parse_letter(fields[b"letter"]))
        except KeyError:
            self.damages.tell(f"{stream} entry {key.decode()}", "it has no field `letter`")
        except ValueError as error:
            self.damages.tell(f"{stream} entry {key.decode()}", why(error))
        return None

    def _entries_of(self, stream: str) -> Iterator[tuple[bytes, Mapping[bytes, bytes]]]:
        start: str | None = "-"
        count = 1
        with _unless_elsewhere():
            while start is not None:
                page = cast("list[Any]", self._client.xrange(stream, start, "+", count=count))
                size = sum(len(fields.get(b"letter", b"")) for _, fields in page)
                count = min(_PAGE, 2 * count) if size < PORTION_CHARS else max(1, count // 2)
                yield from page
                start = after(page[-1][0]) if page else None


def _note(letter: DeadLetter) -> str:
    """Write what is kept of a letter that is purged."""
    event_id = letter.text("event_id") or ""
    return f"{event_id}{_CONFLICT}{letter.content}" if letter.is_conflict else event_id


def _purged(entry_id: str, note: str) -> Purged:
    event_id, is_conflict, content = note.rpartition(_CONFLICT)
    return Purged(entry_id, event_id or None, content) if is_conflict else Purged(entry_id, note or None)


def _unless_elsewhere() -> suppress:
    """Pass over a key of an earlier version that another node of a cluster has: it never wrote there.

    That version could not work on a cluster of several nodes. The keys of today are where the stream is.
    """
    return suppress(redis.exceptions.AskError)
