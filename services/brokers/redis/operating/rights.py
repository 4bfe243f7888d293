"""What a user may do, asked without doing any of it.

A server that is in a transaction looks at a user's rights when it queues a command, and not only when it runs
it. So commands are queued, and the connection is closed before EXEC. What is refused stands in ACL LOG.
"""

from collections.abc import Iterator
from typing import Any, Final

import redis

from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.connection import lacks_command, lacks_right

_NEEDS: Final = {
    "producer": (
        "EVAL {script} 4 {stream} {run} {runs} {ids}",
        "XADD {stream} * a b",
        "XLEN {stream}",
        "SADD {runs} doctor",
        "HMGET {run} last",
        "HGETALL {run}",
        "HSET {run} last 1",
        "HINCRBY {run} published 1",
        "APPEND {ids} x",
    ),
    "consumer": (
        "EVAL {script} 1 {stream}",
        "XGROUP CREATE {stream} {group} 0",
        "XREADGROUP GROUP {group} doctor STREAMS {stream} >",
        "XAUTOCLAIM {stream} {group} doctor 1000 0",
        "XACK {stream} {group} 0-1",
        "XPENDING {stream} {group}",
        "XINFO GROUPS {stream}",
        "XINFO CONSUMERS {stream} {group}",
        "XRANGE {stream} - +",
        "XTRIM {stream} MINID 0-1",
    ),
    "operator": (
        "EXISTS {stream}",
        "XINFO STREAM {stream}",
        "XINFO GROUPS {stream}",
        "XINFO CONSUMERS {stream} {group}",
        "XPENDING {stream} {group}",
        "XRANGE {stream} - +",
        "XADD {stream} * a b",
        "SMEMBERS {runs}",
        "HGETALL {run}",
        "GETRANGE {ids} 0 15",
    ),
}
"""What each of our users can't do without; one of an earlier version may lack others, and works."""
_LETTERS: Final = {
    "producer": (),
    "consumer": ("XADD {letters} * a b",),
    "operator": ("XRANGE {letters} - +", "XDEL {letters} 0-1", "HSET {letters}:replayed 0-1 1"),
}
"""And where letters are at the broker."""


def lacking_rights(
    client: redis.Redis, keys: StreamKeys, *, has_letters: bool
) -> dict[str, list[str]] | None:
    """Tell what this user lacks to be each of our users; None where the server has no transactions.

    Raises redis.RedisError.
    """
    names = {
        "stream": keys.stream,
        "group": keys.group,
        "runs": keys.runs,
        "run": keys.run("RUN"),
        "ids": keys.run_ids("RUN"),
        "letters": keys.dead_letters,
        "script": "return 0",
    }
    connection = client.connection_pool.get_connection()
    try:
        if (error := _answer(connection, "MULTI")) is not None:
            if not lacks_right(error):
                return None
            return {user: ["MULTI (the other rights were not looked at)"] for user in _NEEDS}
        return {
            user: list(_refused(connection, names, needs + (_LETTERS[user] if has_letters else ())))
            for user, needs in _NEEDS.items()
        }
    finally:
        connection.disconnect()
        client.connection_pool.release(connection)


def _refused(connection: Any, names: dict[str, str], commands: tuple[str, ...]) -> Iterator[str]:
    """Name the commands that this user may not send, each with the key that it would be for."""
    for command in commands:
        error = _answer(connection, *(word.format_map(names) for word in command.split()))
        if error is not None and (lacks_right(error) or lacks_command(error)):
            yield _named(command).format_map(names)


def _named(command: str) -> str:
    """Leave out what is neither the command nor its key."""
    name, *words = command.split()
    if name in {"XGROUP", "XINFO"}:
        name = f"{name} {words[0]}"
    key = next(word for word in words if word not in {"{script}", "{group}"} and "{" in word)
    return f"{name} on {key}"


def _answer(connection: Any, *command: str) -> redis.ResponseError | None:
    """Send a command; gives the error that it is answered with."""
    connection.send_command(*command)
    try:
        connection.read_response()
    except redis.ResponseError as error:
        return error
    return None
