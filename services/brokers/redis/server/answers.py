"""What a server says that is not the one to talk to, by the code of its error."""

from typing import Final

import redis

from services.runtime.redact import head

_ELSEWHERE: Final = frozenset(
    {
        "READONLY",
        "UNBLOCKED",
        "MOVED",
        "ASK",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "NOREPLICAS",
        "REDIRECT",
        "FAILOVER",
    }
)
"""What a server says that is not, or no longer, the one to talk to."""


def code_of(error: BaseException) -> str:
    """Read the server's code of an error; the client takes it off the message where it has a class for it."""
    if isinstance(error, redis.ResponseError) and error.status_code not in {None, "ERR"}:
        return str(error.status_code)
    return str(error).partition(" ")[0].removeprefix("-")


def is_elsewhere(error: BaseException) -> bool:
    """Tell whether a server says that it is not the one to talk to: another one has the address by now."""
    return isinstance(error, redis.ResponseError) and code_of(error) in _ELSEWHERE


_LONGEST_WHY: Final = 100
MALFORMED: Final = (TypeError, ValueError, LookupError, AttributeError)
"""What comes of an answer that has another shape than any of Redis."""


def malformed(why: object) -> redis.InvalidResponse:
    """Say that what answers is no Redis server, whatever it is. `why`: the answer, or what came of it."""
    return redis.InvalidResponse(
        f"what is there answers as no Redis server does ({head(str(why), _LONGEST_WHY)})"
    )


class SentinelAnswers(redis.ResponseError):
    """What answers is a Redis Sentinel; the message names the masters that it watches."""


def is_of_all(error: BaseException) -> bool:
    """Tell whether a server says it of whatever it is asked: it is a sentinel, or in protected mode."""
    return isinstance(error, SentinelAnswers) or code_of(error) == "DENIED"
