"""Dead letters in a Redis Stream, where the replicas share no volume.

    telemetry_stream:dlq            stream  field `letter`: the same JSON as a line of dlq.jsonl
    telemetry_stream:dlq:replayed   hash    entry id of a replayed letter -> Unix seconds
    telemetry_stream:dlq:purged     hash    entry id of a purged letter -> its event id

Durable as far as the server is: with AOF and `appendfsync always` as a file is, with `everysec` up to
a second less.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, cast

import redis

from services.consumer.dead_letters.letter import DeadLetter, dead_letter, parse_letter
from services.consumer.entry import Dead
from services.consumer.errors import DeadLettersUnavailable
from services.contract.streams import StreamKeys
from services.runtime.connection import error_kind
from services.runtime.spans import current

_PAGE: Final = 1000


class DeadLetterStream:
    """The dead letters of a stream. `now` in Unix seconds; `consumer` signs the letters."""

    def __init__(
        self, client: redis.Redis, keys: StreamKeys, now: Callable[[], float], consumer: str = ""
    ) -> None:
        self._client = client
        self._stream = keys.dead_letters
        self._replayed = f"{keys.dead_letters}:replayed"
        self._purged = f"{keys.dead_letters}:purged"
        self._now = now
        self._consumer = consumer

    def put(self, dead: Sequence[Dead]) -> None:
        """Keep dead letters, durable on return. Raises DeadLettersUnavailable."""
        failed_at = self._now()
        pipeline = self._client.pipeline(transaction=True)
        batch = current()
        for one in dead:
            letter = dead_letter(one, failed_at, self._consumer, batch)
            pipeline.xadd(self._stream, {"letter": letter.to_json()})
        try:
            pipeline.execute()
        except redis.RedisError as error:
            raise DeadLettersUnavailable(f"{self._stream}: {error}", error_kind(error)) from error

    def read(self) -> Iterator[DeadLetter]:
        """Give what was kept, the oldest first."""
        for _, letter in self._letters():
            yield letter

    def replayed(self) -> dict[str, float]:
        """Tell when each replayed letter was replayed (Unix seconds), by entry id."""
        marks = cast("dict[bytes, bytes]", self._client.hgetall(self._replayed))
        return {entry_id.decode(): float(at) for entry_id, at in marks.items()}

    def purged(self) -> Iterator[tuple[str, str | None]]:
        """Give entry id and event id of each purged letter."""
        for entry_id, event_id in self._client.hscan_iter(self._purged):
            yield entry_id.decode(), event_id.decode() or None

    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None:
        """Note that letters were published again: entry id of the letter, and of the new entry."""
        if replayed:
            now = self._now()
            self._client.hset(self._replayed, mapping={old: now for old, _ in replayed})

    def purge(self, entry_ids: Collection[str]) -> int:
        """Remove the letters of these entries and note it, at once; gives how many letters went."""
        pipeline = self._client.pipeline(transaction=True)
        gone = 0
        for key, letter in self._letters():
            if letter.entry_id in entry_ids:
                pipeline.hset(self._purged, letter.entry_id, letter.text("event_id") or "")
                pipeline.xdel(self._stream, key)
                gone += 1
        pipeline.execute()
        return gone

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _letters(self) -> Iterator[tuple[bytes, DeadLetter]]:
        start = b"-"
        while page := cast("list[Any]", self._client.xrange(self._stream, start, "+", count=_PAGE)):
            for key, fields in page:
                try:
                    yield key, parse_letter(fields[b"letter"])
                except (KeyError, ValueError):  # put there by somebody else
                    continue
            start = b"(" + page[-1][0]
