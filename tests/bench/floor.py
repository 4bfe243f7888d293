"""The floor: what an ordinary good engineer writes in an afternoon with redis-py and hiredis.

`python -m bench.floor REDIS_URL DATABASE` reads, parses, inserts, commits, acknowledges;
until it is ended. Nothing is validated, nothing is recovered, nothing is counted.
"""

import sys
from pathlib import Path
from typing import Any, cast

import redis

from bench.plan import BATCH_SIZE
from bench.stream import KEYS
from bench.table import open_table, parse, store


def main(url: str, database: str) -> None:
    """Work until ended."""
    # hiredis decodes the text in C, so this is the fast way to strings too.
    client = redis.Redis.from_url(url, decode_responses=True)
    connection = open_table(Path(database))
    while True:
        reply = client.xreadgroup(KEYS.group, "floor", {KEYS.stream: ">"}, count=BATCH_SIZE, block=50)
        for _, entries in cast("list[Any]", reply):
            store(connection, [parse(fields) for _, fields in entries])
            client.xack(KEYS.stream, KEYS.group, *[entry_id for entry_id, _ in entries])


if __name__ == "__main__":
    main(*sys.argv[1:])
