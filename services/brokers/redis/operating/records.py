"""What producer runs say about themselves in Redis, read without trust: whoever has their rights writes it.

    {telemetry_stream}:runs           set     the runs
    {telemetry_stream}:run:RUN        hash    numbers, times and names of a run
    {telemetry_stream}:run:RUN:ids:N  string  16 bytes for each id that it published and did not number, in
                                              chunks from 1 on, behind 16 bytes: how many are in those before
    {telemetry_stream}:run:RUN:ids    string  all of these ids, of earlier versions: chunk 0

A field that can't be is taken for one that is absent, and told by its key, its name and what stands there.
So is a key of another type, and a run whose record is gone.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar, cast

import redis

from services.brokers.consuming.foreign import name_of, number_of, whole_of
from services.brokers.redis.keys import StreamKeys, chunk_key
from services.contract.ids import ID_BYTES, MAX_SEQUENCE
from services.contract.operating import IdChunk, Records, RunRecord
from services.runtime.redact import head

_Value = TypeVar("_Value", int | None, float | None)

_MOST: Final = 1 << 62
_NUMBERS: Final = {
    "last": MAX_SEQUENCE, "batches": _MOST, "published": _MOST, "duplicates": _MOST, "unnumbered": _MOST,
    "pid": _MOST, "line": _MOST, "foreign": _MOST, "chunk": _MOST,
}  # fmt: skip
_LATEST_S: Final = 1e11
"""Unix seconds. Later is no time: milliseconds, or made up."""
_TIMES: Final = ("started_at", "updated_at", "ended_at")
_TEXTS: Final = ("source", "host")
_CHUNKS_AT_ONCE: Final = 1000
_SHOWN: Final = 40
"""Characters that are quoted of a value that can't be."""


def read_records(client: redis.Redis, keys: StreamKeys) -> Records:
    """Read the records of all runs. Raises redis.RedisError where the server doesn't answer or lets us."""
    found = Records()
    named = _all_names(client, keys, found.unreadable)
    pipeline = client.pipeline(transaction=False)
    for name, its in named.items():
        pipeline.hgetall(its.run(name))
        pipeline.strlen(its.run_ids(name))
    answers = pipeline.execute(raise_on_error=False)
    for (name, its), record, ids in zip(named.items(), answers[::2], answers[1::2], strict=True):
        wrong = found.unreadable
        fields = _of_type(record, its.run(name), "a hash", wrong) or {}
        size = _of_type(ids, its.run_ids(name), "a string", wrong) or 0
        if not fields and not isinstance(record, redis.RedisError):
            wrong.append(f"{its.run(name)}: the record of this run is gone")
        if size % ID_BYTES:
            wrong.append(
                f"{its.run_ids(name)}: {size:,} bytes are no whole number of ids, of {ID_BYTES} bytes each"
            )
        found.runs.append(_record(name, its, fields, size // ID_BYTES, wrong))
    found.runs.sort(key=lambda one: (one.times["started_at"] or 0.0, one.run))
    return found


def read_chunks(client: redis.Redis, record: RunRecord, first: int) -> list[IdChunk]:
    """Tell which chunks of ids are there, from number `first` on. Raises redis.RedisError."""
    numbers = range(first, record.chunk + 1)
    found: list[IdChunk] = []
    for at in range(0, len(numbers), _CHUNKS_AT_ONCE):
        some = numbers[at : at + _CHUNKS_AT_ONCE]
        pipeline = client.pipeline(transaction=False)
        for number in some:
            key = chunk_key(record.ids_place, number)
            pipeline.strlen(key)
            pipeline.getrange(key, 0, ID_BYTES - 1)
        answers = pipeline.execute()
        for number, size, dropped in zip(some, answers[::2], answers[1::2], strict=True):
            if number == 0 and size:
                found.append(IdChunk(0, 0, size // ID_BYTES))
            elif size >= ID_BYTES:
                found.append(IdChunk(number, whole_of(dropped, _MOST) or 0, size // ID_BYTES - 1))
    return found


def read_foreign_ids(
    client: redis.Redis, record: RunRecord, chunk: IdChunk, first: int, number: int
) -> list[bytes]:
    """Give so many of the ids of a chunk, from number `first` (0) on. Raises redis.RedisError."""
    number = min(number, chunk.ids - first)
    if number <= 0:  # the server takes -1 for all of it
        return []
    start = (first + (chunk.number > 0)) * ID_BYTES
    key = chunk_key(record.ids_place, chunk.number)
    raw = cast("bytes", client.getrange(key, start, start + number * ID_BYTES - 1))
    return [raw[at : at + ID_BYTES] for at in range(0, len(raw) - ID_BYTES + 1, ID_BYTES)]


def _all_names(client: redis.Redis, keys: StreamKeys, wrong: list[str]) -> dict[str, StreamKeys]:
    """Name every run, and the keys that its record is among."""
    found: dict[str, StreamKeys] = {}
    if keys.former is not None:
        # Where another node of a cluster has the former names, no earlier version could write them.
        with suppress(redis.exceptions.AskError):
            found = dict.fromkeys(_names(client, keys.former, wrong), keys.former)
    return found | dict.fromkeys(_names(client, keys, wrong), keys)


def _names(client: redis.Redis, keys: StreamKeys, wrong: list[str]) -> list[str]:
    try:
        members = cast("set[bytes]", client.smembers(keys.runs))
    except redis.exceptions.AskError:
        raise
    except redis.ResponseError as error:
        _of_type(error, keys.runs, "a set", wrong)
        return []
    names = []
    for member in sorted(members):
        try:
            names.append(member.decode())
        except UnicodeDecodeError:
            wrong.append(f"{keys.runs}: the name {name_of(member)!r} is no run's")
    return names


def _of_type(answer: Any, key: str, wanted: str, wrong: list[str]) -> Any:
    """Give an answer; None, and a line about it, where something of another type stands under the key."""
    if not isinstance(answer, redis.RedisError):
        return answer
    if not str(answer).startswith("WRONGTYPE"):
        raise answer
    wrong.append(f"{key}: this key is not {wanted}, so somebody else has written it")
    return None


def _record(
    name: str, keys: StreamKeys, fields: Mapping[bytes, bytes], foreign: int, wrong: list[str]
) -> RunRecord:
    def noted(field_name: str, value: _Value) -> _Value:
        raw = fields.get(field_name.encode())
        if value is None and raw is not None:
            shown = head(raw.decode(errors="backslashreplace"), _SHOWN)
            wrong.append(f"{keys.run(name)}: {field_name} can't be {shown!r}")
        return value

    numbers = {one: noted(one, whole_of(fields.get(one.encode()), most)) for one, most in _NUMBERS.items()}
    told = numbers["foreign"]
    return RunRecord(
        name,
        keys.run_ids(name),
        numbers,
        {one: noted(one, _time_of(fields.get(one.encode()))) for one in _TIMES},
        {one: None if (raw := fields.get(one.encode())) is None else name_of(raw) for one in _TEXTS},
        None if (done := fields.get(b"done")) is None else done == b"1",
        max(foreign, told or 0),
        numbers["chunk"] or 0,
        has_said_end=fields.get(b"done") == b"1" or b"ended_at" in fields,
    )


def _time_of(raw: bytes | None) -> float | None:
    found = number_of(raw)
    return found if found is not None and 0 <= found < _LATEST_S else None
