"""The peer: FastStream's batch subscriber doing the floor's job.

`python -m bench.faststream_peer REDIS_URL DATABASE documented|tuned BATCH`, until it is ended.

`documented` is what its documentation shows: a handler that takes the batch as a list of dicts. Our
entries are flat fields and not its own one field `__data__`, which its parser takes too, by way of
JSON: it writes each batch as one document and reads it back.

`tuned` is the best that was found with its own means: a parser and a decoder in place of that detour
make the rows at once, and `apply_types=False` leaves out the model between decoder and handler.

The same for both:

- `logger=None`: no log lines.
- Rows are inserted in the handler itself, without a thread: the subscriber waits for its handler in
  any case, so a thread would only add two switches.
- Acknowledged by its own policy, one XACK a batch, after the handler returned. `NACK_ON_ERROR`: what
  fails stays pending, as with us.
- redis-py's asyncio client with hiredis, which it takes by itself, on asyncio's own loop: uvloop was
  tried, and is no faster where one connection brings a hundred kilobytes at a time.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub

from bench.stream import KEYS
from bench.table import BareRow, open_table, parse, store


def stream_of(batch: int) -> "StreamSub[Literal[True]]":
    """Subscribe to the stream, so many entries at a time."""
    return StreamSub(
        KEYS.stream,
        group=KEYS.group,
        consumer="faststream",
        batch=True,
        max_records=batch,
        polling_interval=50,
    )


def documented(url: str, connection: sqlite3.Connection, stream: "StreamSub[Literal[True]]") -> RedisBroker:
    """Build the broker as its documentation shows it."""
    broker = RedisBroker(url, logger=None)  # type: ignore[arg-type]  # None: no log lines

    @broker.subscriber(stream=stream, ack_policy=AckPolicy.NACK_ON_ERROR)
    async def handle(events: list[dict[str, str]]) -> None:
        store(connection, [parse(event) for event in events])

    return broker


def tuned(url: str, connection: sqlite3.Connection, stream: "StreamSub[Literal[True]]") -> RedisBroker:
    """Build the broker with its shortest way from the reply to the handler."""
    broker = RedisBroker(url, logger=None, apply_types=False)  # type: ignore[arg-type]  # as above

    @broker.subscriber(
        stream=stream, parser=parse_batch, decoder=decode_batch, ack_policy=AckPolicy.NACK_ON_ERROR
    )
    async def handle(rows: list[BareRow]) -> None:
        store(connection, rows)

    return broker


async def parse_batch(raw: dict[str, Any], original: Callable[[Any], Awaitable[Any]]) -> Any:
    """Make FastStream's message of a batch without its detour over JSON."""
    message = await original({**raw, "data": []})
    message.raw_message = raw
    return message


async def decode_batch(message: Any) -> list[BareRow]:
    """Make the rows of a batch."""
    return [
        (
            fields[b"event_id"].decode(),
            fields[b"device_id"].decode(),
            fields[b"zone"].decode(),
            float(fields[b"ts"]),
            fields[b"kpi"].decode(),
            float(fields[b"value"]),
        )
        for fields in message.raw_message["data"]
    ]


async def main(url: str, database: str, way: str, batch: str) -> None:
    """Work until ended."""
    build = {"documented": documented, "tuned": tuned}[way]
    broker = build(url, open_table(Path(database)), stream_of(int(batch)))
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
