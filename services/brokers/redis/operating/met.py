"""What recorded audits have met of each run, kept so that a record that is lowered afterwards shows.

    {telemetry_stream}:met  hash  run -> its highest number that was met, and events without a readable id

Only who may record an audit writes it: no producer. It holds what was seen, and not what a record said.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import redis

from services.brokers.consuming.foreign import whole_of
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.connection import lacks_right
from services.contract.ids import MAX_SEQUENCE
from services.contract.operating import Met

_MOST: Final = 1 << 62


def read_met(client: redis.Redis, keys: StreamKeys) -> dict[str, Met]:
    """Read it; nothing where there is none, or no right. Raises redis.RedisError where the server is away."""
    try:
        found = cast("Mapping[bytes, bytes]", client.hgetall(keys.met))
    except redis.ResponseError as error:
        if lacks_right(error) or str(error).startswith("WRONGTYPE"):
            return {}
        raise
    met = {}
    for run, text in found.items():
        last, _, unnumbered = text.partition(b" ")
        numbers = whole_of(last, MAX_SEQUENCE), whole_of(unnumbered, _MOST)
        met[run.decode(errors="backslashreplace")] = Met(numbers[0] or 0, numbers[1] or 0)
    return met


def keep_met(client: redis.Redis, keys: StreamKeys, met: Mapping[str, Met]) -> bool:
    """Keep what was met beside what was kept before; False without the right to. Raises redis.RedisError."""
    before = read_met(client, keys)
    grown = {run: one.both(before.get(run, Met())) for run, one in met.items()}
    fresh: dict[Any, Any] = {
        run: f"{one.last} {one.unnumbered}" for run, one in grown.items() if one != before.get(run, Met())
    }
    if not fresh:
        return True
    try:
        client.hset(keys.met, mapping=fresh)
    except redis.ResponseError as error:
        if not lacks_right(error):
            raise
        return False
    return True
