"""The preloaded stream, and the observer's view of the group that works on it.

telemetry_stream            stream  preloaded once, and read again in each round
  group telemetry_consumers         made anew for each round
"""

import itertools
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
import redis

from bench.plan import BenchFailed
from bench.server import Server
from services.brokers.redis.keys import StreamKeys
from services.contract.codec import encode
from services.contract.event import Event

KEYS: Final = StreamKeys()

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
    server.client().delete(KEYS.stream)
    remaining = enumerate(events)
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        while chunk := list(itertools.islice(remaining, _CHUNK)):
            connection.sendall(b"".join(_add(event, traceparent_of(number)) for number, event in chunk))
            for _ in chunk:
                while (reply := reader.gets()) is False:
                    reader.feed(connection.recv(1 << 16))
                if not isinstance(reply, bytes):
                    raise BenchFailed(f"the server refuses an event: {reply}")


def _add(event: Event, traceparent: str) -> bytes:
    context = ("traceparent", traceparent) if traceparent else ()
    command: Any = ("XADD", KEYS.stream, "*", *encode(event), *context)
    return bytes(hiredis.pack_command(command))


def make_group(client: redis.Redis) -> None:
    """Make the group anew, at the end of the stream: whoever reads now gets nothing."""
    client.xgroup_destroy(KEYS.stream, KEYS.group)
    client.xgroup_create(KEYS.stream, KEYS.group, "$")


def wait_for_consumers(client: redis.Redis, count: int, check: Callable[[], None]) -> None:
    """Wait until `count` consumers read. `check` raises when one of them has ended."""
    ends = time.monotonic() + _STALL_TIMEOUT_S
    while len(cast("list[Any]", client.xinfo_consumers(KEYS.stream, KEYS.group))) < count:
        check()
        if time.monotonic() > ends:
            raise BenchFailed(f"not {count} consumers after {_STALL_TIMEOUT_S:.0f} s")
        time.sleep(_LOOK_INTERVAL_S)


def open_group(client: redis.Redis) -> None:
    """Set the group to the start of the stream, so that all of it is delivered."""
    client.execute_command("XGROUP SETID", KEYS.stream, KEYS.group, "0", "ENTRIESREAD", "0")


def watch(
    client: redis.Redis,
    events: int,
    check: Callable[[], None],
    look: Callable[[Progress], None] = lambda _: None,
) -> float:
    """Watch the group until `events` entries are settled; gives seconds since the first was delivered.

    `look` is shown each progress. Raises BenchFailed when nothing moves for a minute, and what
    `check` raises when a consumer has ended.
    """

    def wait_until(done: Callable[[Progress], bool]) -> float:
        last, moved = Progress(-1, 0), 0.0
        while not done(progress := read_progress(client)):
            now = time.monotonic()
            look(progress)
            if progress != last:
                last, moved = progress, now
            elif now - moved > _STALL_TIMEOUT_S:
                raise BenchFailed(f"stands still at {progress.settled} of {events} events")
            check()
            time.sleep(_LOOK_INTERVAL_S)
        return time.monotonic()

    started = wait_until(lambda progress: progress.delivered > 0)
    ended = wait_until(lambda progress: progress.settled >= events)
    return max(ended - started, _LOOK_INTERVAL_S)


def read_progress(client: redis.Redis) -> Progress:
    """Ask the server how far the group has come."""
    groups = client.xinfo_groups(KEYS.stream)
    group = next(one for one in groups if one["name"] == KEYS.group.encode())
    return Progress(int(group["entries-read"] or 0), int(group["pending"]))
