"""What producer runs say about themselves in Redis, read without trust: whoever has their rights writes it.

    {telemetry_stream}:runs         set     the runs
    {telemetry_stream}:run:RUN      hash    numbers, times and names of a run
    {telemetry_stream}:run:RUN:ids  string  16 bytes for each id that it published and did not number

A field that can't be is taken for one that is absent, and told by its key, its name and what stands there.
So is a key of another type, and a run whose record is gone.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import redis

from services.brokers.redis.keys import StreamKeys
from services.contract.ids import MAX_SEQUENCE
from services.runtime.foreign import name_of, number_of, whole_of

ID_BYTES: Final = 16
"""How an id is kept that a run published and did not number: a replayed file's own."""

_Value = TypeVar("_Value", int | None, float | None)

_MOST: Final = 1 << 62
_NUMBERS: Final = {
    "last": MAX_SEQUENCE, "batches": _MOST, "published": _MOST, "duplicates": _MOST, "unnumbered": _MOST,
    "pid": _MOST, "line": _MOST,
}  # fmt: skip
_LATEST_S: Final = 1e11
"""Unix seconds. Later is no time: milliseconds, or made up."""
_TIMES: Final = ("started_at", "updated_at")
_TEXTS: Final = ("source", "host")
_SHOWN: Final = 40
"""Characters that are quoted of a value that can't be."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. What its record does not say, or not readably, is None."""

    run: str
    keys: StreamKeys
    """What its record is among: the keys of today, or former ones."""
    numbers: Mapping[str, int | None]
    times: Mapping[str, float | None]
    """Unix seconds."""
    texts: Mapping[str, str | None]
    is_done: bool | None
    foreign: int
    """Ids that it published and did not number, repeats included."""

    def number(self, name: str) -> int:
        """Give a count; 0 where there is none."""
        return self.numbers[name] or 0

    @property
    def contradiction(self) -> str:
        """Say what can't be true at once in it; empty where all can."""
        last, published, batches = (self.number(name) for name in ("last", "published", "batches"))
        if published > last and self.numbers["last"] is not None:
            return f"it says {published:,} numbered events, and that the last of them is number {last:,}"
        others = sum(self.number(name) for name in ("unnumbered", "duplicates")) + self.foreign
        # Of a file a batch may tell how far it is read, and nothing else.
        if batches and not last and not others and self.numbers["line"] is None:
            return f"it says {batches:,} batches, and no event"
        return ""

    @property
    def source(self) -> str:
        """Where its events came from; empty where it does not say."""
        return self.texts["source"] or ""


@dataclass(slots=True)
class Records:
    """All runs, the oldest first, and what can't be read of their records."""

    runs: list[RunRecord] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


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
            wrong.append(f"{keys.run(name)}: {field_name} can't be {name_of(raw[:_SHOWN])!r}")
        return value

    return RunRecord(
        name,
        keys,
        {one: noted(one, whole_of(fields.get(one.encode()), most)) for one, most in _NUMBERS.items()},
        {one: noted(one, _time_of(fields.get(one.encode()))) for one in _TIMES},
        {one: None if (raw := fields.get(one.encode())) is None else name_of(raw) for one in _TEXTS},
        None if (done := fields.get(b"done")) is None else done == b"1",
        foreign,
    )


def _time_of(raw: bytes | None) -> float | None:
    found = number_of(raw)
    return found if found is not None and 0 <= found < _LATEST_S else None
