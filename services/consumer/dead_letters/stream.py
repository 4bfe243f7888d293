"""Dead letters in a Redis Stream, where the replicas share no volume.

    {telemetry_stream}:dlq            stream  field `letter`: the same JSON as a line of dlq.jsonl
    {telemetry_stream}:dlq:replayed   hash    entry id of a replayed letter -> Unix seconds
    {telemetry_stream}:dlq:purged     hash    entry id of a purged letter -> its event id
    telemetry_stream:dlq, ...         the same of earlier versions: read, and purged from

Durable as far as the server is: with AOF and `appendfsync always` as a file is, with `everysec` up to
a second less.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

import redis

from services.consumer.dead_letters.letter import DeadLetter, dead_letter, parse_letter
from services.consumer.entry import Dead
from services.consumer.errors import DeadLettersUnavailable
from services.contract.streams import StreamKeys
from services.runtime.backlog import after, id_parts
from services.runtime.connection import describe, error_kind
from services.runtime.spans import current

_PAGE: Final = 1000
_PORTION_CHARS: Final = 4 << 20
"""Letters sent or read together; one of an entry of zeros is six times as large as the entry."""


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

    def put(self, dead: Sequence[Dead]) -> None:
        """Keep dead letters, durable on return. Raises DeadLettersUnavailable."""
        failed_at = self._now()
        batch = current()
        lines = (dead_letter(one, failed_at, self._consumer, batch).to_json() for one in dead)
        try:
            for some in _portions(lines):
                pipeline = self._client.pipeline(transaction=True)
                for line in some:
                    pipeline.xadd(self._stream, {"letter": line})
                pipeline.execute()
        except redis.RedisError as error:
            raise DeadLettersUnavailable(f"{self._stream}: {describe(error)}", error_kind(error)) from error

    def count(self) -> int:
        """Count the letters, those of one entry each by itself. Raises redis.RedisError."""
        number = 0
        for stream in self._streams:
            with _unless_elsewhere():
                number += self._client.xlen(stream)
        return number

    def read(self) -> Iterator[DeadLetter]:
        """Give what was kept, the oldest first."""
        for one in self._letters():
            yield one.letter

    def replayed(self) -> dict[str, float]:
        """Tell when each replayed letter was replayed (Unix seconds), by entry id."""
        marks: dict[bytes, bytes] = {}
        for stream in self._streams:
            with _unless_elsewhere():
                marks |= cast("dict[bytes, bytes]", self._client.hgetall(f"{stream}:replayed"))
        return {entry_id.decode(): float(at) for entry_id, at in marks.items()}

    def purged(self) -> Iterator[tuple[str, str | None]]:
        """Give entry id and event id of each purged letter."""
        for stream in self._streams:
            with _unless_elsewhere():
                for entry_id, event_id in self._client.hscan_iter(f"{stream}:purged"):
                    yield entry_id.decode(), event_id.decode() or None

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
                pipeline.hset(
                    f"{self._stream}:purged", one.letter.entry_id, one.letter.text("event_id") or ""
                )
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

    def _letters(self) -> Iterator[_Kept]:
        return heapq.merge(*map(self._letters_of, self._streams), key=lambda one: one.place)

    def _letters_of(self, stream: str) -> Iterator[_Kept]:
        start: str | None = "-"
        count = 1
        with _unless_elsewhere():
            while start is not None:
                page = cast("list[Any]", self._client.xrange(stream, start, "+", count=count))
                size = sum(len(fields.get(b"letter", b"")) for _, fields in page)
                count = min(_PAGE, 2 * count) if size < _PORTION_CHARS else max(1, count // 2)
                for key, fields in page:
                    try:
                        letter = parse_letter(fields[b"letter"])
                    except (KeyError, ValueError):  # put there by somebody else
                        continue
                    yield _Kept(id_parts(key.decode()), stream, key, letter)
                start = after(page[-1][0]) if page else None


def _unless_elsewhere() -> suppress:
    """Pass over a key of an earlier version that another node of a cluster has: it never wrote there.

    That version could not work on a cluster of several nodes. The keys of today are where the stream is.
    """
    return suppress(redis.exceptions.AskError)


def _portions(lines: Iterable[str]) -> Iterator[list[str]]:
    """Give letters in portions that fit into memory more than once."""
    portion: list[str] = []
    size = 0
    for line in lines:
        portion.append(line)
        size += len(line)
        if size >= _PORTION_CHARS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
