"""The peer: FastStream's batch subscriber with psycopg, each as its documentation shows it.

`python -m bench.postgres.faststream_peer REDIS_URL DATABASE_URL`, until it is ended.

As bench.faststream_peer's `documented`, but that the rows go to PostgreSQL: by an asynchronous connection,
since the handler is asynchronous, and `executemany` in a transaction, which psycopg prepares and pipelines.
"""

import asyncio
import sys
from typing import Final

import psycopg
from faststream import AckPolicy
from faststream.redis import RedisBroker

from bench.faststream_peer import stream_of
from bench.plan import BATCH_SIZE
from bench.table import parse

_INSERT: Final = """
    INSERT INTO telemetry.events (event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at)
    VALUES (%s, %s, %s, to_timestamp(%s), %s, %s, false, now()) ON CONFLICT (event_id) DO NOTHING
"""


async def main(url: str, database: str) -> None:
    """Work until ended."""
    connection = await psycopg.AsyncConnection.connect(database, autocommit=True)
    broker = RedisBroker(url, logger=None)  # type: ignore[arg-type]  # None: no log lines

    @broker.subscriber(stream=stream_of(BATCH_SIZE), ack_policy=AckPolicy.NACK_ON_ERROR)
    async def handle(events: list[dict[str, str]]) -> None:
        async with connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany(_INSERT, [parse(event) for event in events])

    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
