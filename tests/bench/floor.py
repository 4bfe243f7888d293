"""The floor: what an ordinary good engineer writes in an afternoon with redis-py and hiredis.

`python -m bench.floor REDIS_URL DATABASE flat|packed BATCH` reads, parses, inserts, commits, acknowledges so
many events at a time, until it is ended. Nothing is validated, nothing is recovered, nothing is counted.
`packed`: the same over packed entries.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import redis

from bench.stream import EVENTS_PER_ENTRY, KEYS, PACKED
from bench.table import BareRow, open_table, parse, store


def main(url: str, database: str, form: str, batch: str) -> None:
    """Work until ended."""
    # hiredis decodes the text in C, so this is the fast way to strings too.
    client = redis.Redis.from_url(url, decode_responses=True)
    connection = open_table(Path(database))
    keys, count = (PACKED, int(batch) // EVENTS_PER_ENTRY) if form == "packed" else (KEYS, int(batch))
    while True:
        reply = client.xreadgroup(keys.group, "floor", {keys.stream: ">"}, count=count, block=50)
        for _, entries in cast("list[Any]", reply):
            if form == "packed":
                store(connection, [row for _, fields in entries for row in _rows(fields)])
            else:
                store(connection, [parse(fields) for _, fields in entries])
            client.xack(keys.stream, keys.group, *[entry_id for entry_id, _ in entries])


def _rows(fields: Mapping[str, str]) -> Iterator[BareRow]:
    """Make the rows of a packed entry, nothing checked."""
    for line in fields["lines"].splitlines():
        event_id, device_id, zone, ts, kpi, value = line.split("\t")
        yield event_id, device_id, zone, float(ts), kpi, float(value)


if __name__ == "__main__":
    main(*sys.argv[1:])
