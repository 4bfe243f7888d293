"""What `telemetry audit --record` found last.

    {telemetry_stream}:audit  hash  its numbers by name, and when it ended: `ended_at`, in Unix seconds

The consumer that observes the group exports them as telemetry_audit_*.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import redis

from services.brokers.consuming.foreign import name_of, number_of
from services.brokers.redis.keys import StreamKeys
from services.contract.operating import AuditResult
from services.runtime.redact import head

_MOST: Final = 1 << 62
_LATEST_S: Final = 1e11
"""Unix seconds. Later is no time: milliseconds, or made up."""


def leave_audit(client: redis.Redis, keys: StreamKeys, numbers: Mapping[str, int], ended_at: float) -> None:
    """Leave the numbers of an audit, in place of those before; `ended_at` in Unix seconds.

    Raises redis.RedisError.
    """
    # In one command: whoever reads meanwhile has all numbers of one audit.
    result: dict[Any, Any] = {**numbers, "ended_at": f"{ended_at:.3f}"}
    client.hset(keys.audit, mapping=result)


def read_audit(client: redis.Redis, keys: StreamKeys) -> tuple[AuditResult | None, list[str]]:
    """Read what was left last, and say what can't be read of it.

    None where there is none, or where we may not read it. Raises redis.RedisError.
    """
    try:
        found = cast("Mapping[bytes, bytes]", client.hgetall(keys.audit))
    except redis.exceptions.NoPermissionError:
        return None, []
    except redis.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        return None, [f"{keys.audit}: this key is not a hash, so somebody else has written it"]
    unreadable = [
        f"{keys.audit}: {name_of(name)} can't be {head(name_of(value), 40)!r}"
        for name, value in found.items()
        if (amount := number_of(value)) is None or not 0 <= amount < _MOST
    ]
    missing, published, conflicts, ended_at = (
        number_of(found.get(name)) for name in (b"missing", b"published", b"conflicts", b"ended_at")
    )
    if missing is None or ended_at is None or not 0 <= ended_at < _LATEST_S:
        return None, unreadable
    return AuditResult(int(missing), int(published or 0), int(conflicts or 0), ended_at), unreadable
