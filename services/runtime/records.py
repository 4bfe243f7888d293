"""Where the records of the producer runs are."""

from contextlib import suppress
from typing import cast

import redis

from services.contract.streams import StreamKeys


def read_runs(client: redis.Redis, keys: StreamKeys) -> dict[str, StreamKeys]:
    """Name every run that has a record, and the keys that its record is among: of today, or former ones.

    Raises redis.RedisError.
    """
    found: dict[str, StreamKeys] = {}
    if keys.former is not None:
        # Where another node of a cluster has the former names, no earlier version could write them.
        with suppress(redis.exceptions.AskError):
            found = dict.fromkeys(_names(client, keys.former), keys.former)
    return found | dict.fromkeys(_names(client, keys), keys)


def _names(client: redis.Redis, keys: StreamKeys) -> list[str]:
    return [name.decode() for name in cast("set[bytes]", client.smembers(keys.runs))]
