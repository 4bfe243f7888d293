"""The preloaded streams, and the observer's view of the group that works on one.

telemetry_stream            stream  preloaded once, and read again in each round
packed_stream               stream  the same events, many in an entry
  group telemetry_consumers         of either, made anew for each round
"""

import itertools
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
import redis

from bench.plan import BenchFailed
from bench.server import Server
from services.brokers.redis.keys import StreamKeys
from services.contract.codec import encode, encode_lines, line_of
from services.contract.event import Event

KEYS: Final = StreamKeys()
PACKED: Final = StreamKeys("packed_stream")
EVENTS_PER_ENTRY: Final = 100

_CHUNK: Final = 1000
_LOOK_INTERVAL_S: Final = 0.01
_STALL_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a group has come."""

    delivered: int
    pending: int

    @property
    def settled(self) -> int:
        """Entries that were delivered and acknowledged."""
        return self.delivered - self.pending


def preload(
    server: Server, events: Iterable[Event], traceparent_of: Callable[[int], str] = lambda _: ""
) -> None:
    """Put events in the stream in place of what it has. Raises BenchFailed.

    `traceparent_of` gives the context of the event with this number; empty: it has none.

    Packed and read by hiredis alone: the client's own pipeline takes much longer.
    """
    contexts = (
        ("traceparent", one) if (one := traceparent_of(number)) else () for number in itertools.count()
    )
    _put(server, KEYS, ((*encode(event), *context) for event, context in zip(events, contexts, strict=False)))


def preload_packed(server: Server, events: Iterable[Event]) -> None:
    """Put events in the stream of packed entries, in place of what it has. Raises BenchFailed."""
    lines = (line_of(encode(event)[1::2]) or "" for event in events)
    _put(server, PACKED, map(encode_lines, iter(lambda: list(itertools.islice(lines, EVENTS_PER_ENTRY)), [])))


def _put(server: Server, keys: StreamKeys, entries: Iterable[Sequence[str]]) -> None:
    with server.client() as client:
        client.delete(keys.stream)
    remaining = iter(entries)
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        while chunk := list(itertools.islice(remaining, _CHUNK)):
            connection.sendall(b"".join(_add(keys, fields) for fields in chunk))
            for _ in chunk:
                while (reply := reader.gets()) is False:
                    reader.feed(connection.recv(1 << 16))
                if not isinstance(reply, bytes):
                    raise BenchFailed(f"the server refuses an entry: {reply}")


def _add(keys: StreamKeys, fields: Sequence[str]) -> bytes:
    command: Any = ("XADD", keys.stream, "*", *fields)
    return bytes(hiredis.pack_command(command))


def make_group(client: redis.Redis, keys: StreamKeys = KEYS) -> None:
    """Make the group anew, at the end of the stream: whoever reads now gets nothing."""
    client.xgroup_destroy(keys.stream, keys.group)
    client.xgroup_create(keys.stream, keys.group, "$")


def wait_for_consumers(
    client: redis.Redis, count: int, check: Callable[[], None], keys: StreamKeys = KEYS
) -> None:
    """Wait until `count` consumers read. `check` raises when one of them has ended."""
    ends = time.monotonic() + _STALL_TIMEOUT_S
    while len(cast("list[Any]", client.xinfo_consumers(keys.stream, keys.group))) < count:
        check()
        if time.monotonic() > ends:
            raise BenchFailed(f"not {count} consumers after {_STALL_TIMEOUT_S:.0f} s")
        time.sleep(_LOOK_INTERVAL_S)


def open_group(client: redis.Redis, keys: StreamKeys = KEYS) -> None:
    """Set the group to the start of the stream, so that all of it is delivered."""
    client.execute_command("XGROUP SETID", keys.stream, keys.group, "0", "ENTRIESREAD", "0")


def watch(
    client: redis.Redis,
    entries: int,
    check: Callable[[], None],
    look: Callable[[Progress], None] = lambda _: None,
    keys: StreamKeys = KEYS,
) -> float:
    """Watch the group until so many entries are settled; gives seconds since the first was delivered.

    `look` is shown each progress. Raises BenchFailed when nothing moves for a minute, and what
    `check` raises when a consumer has ended.
    """

    def wait_until(done: Callable[[Progress], bool]) -> float:
        last, moved = Progress(-1, 0), 0.0
        while not done(progress := read_progress(client, keys)):
            now = time.monotonic()
            look(progress)
            if progress != last:
                last, moved = progress, now
            elif now - moved > _STALL_TIMEOUT_S:
                raise BenchFailed(f"stands still at {progress.settled} of {entries} entries")
            check()
            time.sleep(_LOOK_INTERVAL_S)
        return time.monotonic()

    started = wait_until(lambda progress: progress.delivered > 0)
    ended = wait_until(lambda progress: progress.settled >= entries)
    return max(ended - started, _LOOK_INTERVAL_S)


def read_progress(client: redis.Redis, keys: StreamKeys = KEYS) -> Progress:
    """Ask the server how far the group has come."""
    groups = client.xinfo_groups(keys.stream)
    group = next(one for one in groups if one["name"] == keys.group.encode())
    return Progress(int(group["entries-read"] or 0), int(group["pending"]))
