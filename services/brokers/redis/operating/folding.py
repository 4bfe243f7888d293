"""What the broker lets go of once an audit has proven it, and what it keeps.

    {telemetry_stream}:run:RUN:ids:N  chunks of ids that are wholly proven: deleted
    {telemetry_stream}:run:RUN        of a run that is ended and proven: deleted, but for a replay's position
    {telemetry_stream}:folded  hash   run -> its last number, events without a readable id, ids not numbered

All of it is written down in the store before. Who may not write here leaves it for the next audit.
"""

from collections.abc import Mapping, Sequence
from typing import Final, cast

import redis

from services.brokers.consuming.foreign import whole_of
from services.brokers.redis.keys import StreamKeys, chunk_key
from services.brokers.redis.server.connection import lacks_right
from services.brokers.redis.server.scripts import Script, read_script
from services.contract.operating import Ended, RunRecord

_FOLD: Final = Script(read_script("operating/fold.lua"))
_MOST: Final = 1 << 62
_KEYS_AT_ONCE: Final = 1000


def forget_chunks(client: redis.Redis, record: RunRecord, before: int) -> str:
    """Delete the chunks before one; says why not where we may not. Raises redis.RedisError."""
    try:
        # In ascending order: where an audit was killed meanwhile, the last of them is still there.
        if before <= 0 or not client.strlen(chunk_key(record.ids_place, before - 1)):
            return ""
        for first in range(0, before, _KEYS_AT_ONCE):
            numbers = range(first, min(first + _KEYS_AT_ONCE, before))
            client.delete(*(chunk_key(record.ids_place, one) for one in numbers))
    except redis.ResponseError as error:
        if not lacks_right(error):
            raise
        return f"this user lacks the right DEL on {record.ids_place}:*"
    return ""


def fold_runs(client: redis.Redis, keys: StreamKeys, records: Sequence[RunRecord]) -> str:
    """Let go of records that are as they were read; says why not. Raises redis.RedisError."""
    for one in records:
        # Of an earlier version's names, under which nothing is written any more, the set is another one.
        of = keys if one.ids_place == keys.run_ids(one.run) else keys.former or keys
        chunks = [chunk_key(one.ids_place, number) for number in range(one.chunk, -1, -1)][:_KEYS_AT_ONCE]
        numbers = [one.number("last"), one.number("unnumbered"), one.numbers["foreign"] or 0]
        try:
            _FOLD.run(client, [of.run(one.run), of.runs, of.folded, *chunks], one.run, *numbers)
        except redis.ResponseError as error:
            if not lacks_right(error):
                raise
            where = f"{of.folded}, {of.runs} and {of.run('*')}"
            return f"this user lacks a right of EVAL, HSET, SREM and DEL on {where}"
    return ""


def read_ended(client: redis.Redis, keys: StreamKeys) -> dict[str, Ended]:
    """Read what is kept of folded runs; nothing where we may not. Raises redis.RedisError."""
    try:
        found = cast("Mapping[bytes, bytes]", client.hgetall(keys.folded))
    except redis.ResponseError as error:
        if lacks_right(error) or str(error).startswith("WRONGTYPE"):
            return {}
        raise
    ended = {}
    for run, text in found.items():
        numbers = [whole_of(part, _MOST) for part in text.split(b" ")]
        if len(numbers) == len(Ended._fields) and None not in numbers:
            ended[run.decode(errors="backslashreplace")] = Ended(*(one or 0 for one in numbers))
    return ended


def count_ended(client: redis.Redis, keys: StreamKeys) -> int | None:
    """Count the folded runs; None where we may not. Raises redis.RedisError."""
    try:
        return client.hlen(keys.folded)
    except redis.ResponseError as error:
        if lacks_right(error) or str(error).startswith("WRONGTYPE"):
            return None
        raise
