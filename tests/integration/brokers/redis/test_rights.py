"""What each user of Redis may do, on each kind of server: all that its programs send, and nothing more."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, cast

import pytest
import redis
from guarded import KEYS, USERS, Guarded, kind_of
from servers import KINDS, Absent, do_without, eventually, new_client

from services.brokers.redis.server.connection import lacks_right

Command = tuple[Any, ...]

S: Final = KEYS.stream
G: Final = KEYS.group
RUN: Final = KEYS.run("AAA")
IDS: Final = KEYS.run_ids("AAA")
LETTERS: Final = KEYS.dead_letters
FORMER: Final = str(KEYS.former_dead_letters)
"""Where earlier versions wrote letters."""
LARGE: Final = KEYS.large
REPLAYED: Final = f"{LETTERS}:replayed"
PURGED: Final = f"{LETTERS}:purged"
LAST_ID: Final = "18446744073709551615-18446744073709551615"
_TIMEOUT_S: Final = 30.0

_LOOK: Final[list[Command]] = [
    ("PING",),
    ("INFO", "memory"),
    ("MULTI",),
    ("EXEC",),
    ("EXISTS", S),
    ("XLEN", S),
    ("XRANGE", S, "-", "+"),
    ("XINFO", "STREAM", S),
    ("XINFO", "GROUPS", S),
    ("XINFO", "CONSUMERS", S, G),
    ("XPENDING", S, G),
    ("SMEMBERS", KEYS.runs),
    ("HGETALL", RUN),
    ("STRLEN", IDS),
    ("GETRANGE", IDS, 0, 15),
    ("HGETALL", KEYS.audit),
    ("HSET", KEYS.audit, "missing", 0),
    ("HGETALL", KEYS.folded),
    ("HLEN", KEYS.folded),
    ("HMGET", RUN, "last"),
    ("GET", KEYS.limit),
    ("GET", KEYS.observer),
    ("GET", KEYS.trimmed),
    ("XLEN", LETTERS),
    ("XRANGE", LETTERS, "-", "+"),
    ("HGETALL", REPLAYED),
    ("HSCAN", PURGED, 0),
    ("XLEN", KEYS.events),
    ("XRANGE", KEYS.events, "-", "+"),
    ("XREVRANGE", KEYS.events, "+", "-"),
    ("EVAL", "return 1", 2, S, KEYS.events),
    ("XLEN", LARGE),
    ("XRANGE", LARGE, "-", "+"),
    ("XLEN", FORMER),
    ("XRANGE", FORMER, "-", "+"),
    ("HGETALL", f"{FORMER}:replayed"),
    ("HSCAN", f"{FORMER}:purged", 0),
]
"""What both the consumer's and the operator's programs look at."""

ALLOWED: Final[dict[str, list[Command]]] = {
    "producer": [
        ("HEXISTS", KEYS.folded, "AAA"),
        ("PING",),
        ("MULTI",),
        ("EXEC",),
        ("EVAL", "return redis.call('XLEN', KEYS[1])", 4, S, RUN, KEYS.runs, IDS),
        ("EVAL", "return 1", 3, RUN, KEYS.runs, KEYS.replay("file")),
        ("EVALSHA", "0" * 40, 6, S, RUN, KEYS.runs, IDS, KEYS.events, KEYS.forms),
        ("EVALSHA", "0" * 40, 7, S, RUN, KEYS.runs, IDS, KEYS.events, KEYS.forms, KEYS.trimmed),
        ("TIME",),
        ("XADD", KEYS.events, "*", "events", 1),
        ("XLEN", KEYS.events),
        ("XRANGE", KEYS.events, "-", "+"),
        ("XREVRANGE", KEYS.events, "+", "-"),
        ("HMGET", KEYS.forms, "group/consumer"),
        ("XINFO", "CONSUMERS", S, G),
        ("XADD", S, "*", "a", "b"),
        ("XLEN", S),
        ("SCARD", KEYS.runs),
        ("SADD", KEYS.runs, "BBB"),
        ("HGET", RUN, "writer"),
        ("HMGET", RUN, "writer"),
        ("HGETALL", RUN),
        ("HSET", RUN, "last", 1),
        ("HINCRBY", RUN, "published", 1),
        ("STRLEN", IDS),
        ("APPEND", IDS, "0123456789abcdef"),
        ("GET", KEYS.replay("file")),
        ("SET", KEYS.replay("file"), "AAA"),
        ("SET", KEYS.limit, 1),
        ("XINFO", "GROUPS", S),
        ("XPENDING", S, G),
    ],
    "consumer": [
        *_LOOK,
        ("EVAL", "return 1", 1, S),
        ("EVALSHA", "0" * 40, 2, S, KEYS.trimmed),
        ("EXISTS", KEYS.trimmed),
        ("SET", KEYS.trimmed, 1),
        ("INCRBY", KEYS.trimmed, 1),
        ("EVAL", "return 1", 1, KEYS.observer),
        ("EVAL", "return 1", 1, KEYS.forms),
        ("TIME",),
        ("HSET", KEYS.forms, "group/consumer", "2 1"),
        ("HGETALL", KEYS.forms),
        ("HDEL", KEYS.forms, "group/consumer"),
        ("XGROUP", "CREATE", S, "other", "0"),
        ("XGROUP", "DELCONSUMER", S, G, "gone"),
        ("XREADGROUP", "GROUP", G, "me", "COUNT", 1, "STREAMS", S, ">"),
        ("XAUTOCLAIM", S, G, "me", 1000, "0-0", "JUSTID"),
        ("XACK", S, G, "1-1"),
        ("XTRIM", S, "MINID", "=", "0-1"),
        ("SET", KEYS.observer, "me", "PX", 1),
        ("XADD", LETTERS, "*", "letter", "{}"),
        ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'letter', '{}')", 1, LETTERS),
        ("EVAL", "return 1", 2, S, LARGE),
        ("XADD", LARGE, "*", "entry", "1-1"),
        ("XTRIM", LARGE, "MAXLEN", 0),
    ],
    "operator": [
        *_LOOK,
        ("TIME",),
        ("SCRIPT", "KILL"),
        ("EVAL", "return 1", 1, S),
        ("EVALSHA", "0" * 40, 1, S),
        ("XADD", S, "*", "a", "b"),
        ("XGROUP", "DESTROY", S, "other"),
        ("XGROUP", "SETID", S, G, "0"),
        ("XTRIM", S, "MINID", "=", "0-1"),
        ("XSETID", S, "9999999999999-0"),
        ("XDEL", LETTERS, "1-1"),
        ("XDEL", FORMER, "1-1"),
        ("HSET", REPLAYED, "1-1", 1),
        ("HSET", PURGED, "1-1", "id"),
        ("SET", KEYS.observer, "nobody", "PX", 1),
        ("SREM", KEYS.runs, "BBB"),
        ("DEL", KEYS.run("BBB")),
        ("DEL", f"{IDS}:1"),
        ("HSET", KEYS.folded, "BBB", "3 0 0"),
        ("EVAL", "return 1", 3, KEYS.run("BBB"), KEYS.runs, KEYS.folded),
    ],
    "observer": [
        ("PING",),
        ("INFO",),
        ("XINFO", "GROUPS", S),
        ("XINFO", "CONSUMERS", S, G),
        ("XPENDING", S, G),
        ("XLEN", S),
        ("EXISTS", S),
        ("TYPE", S),
    ],
}
"""Every command that somebody sends, on every key; no other command is granted at all."""

_DROPS_OLDEST: Final[list[Command]] = [
    ("EXISTS", S),
    ("XRANGE", S, "-", "+"),
    ("XTRIM", S, "MAXLEN", "=", 1000),
    ("EXISTS", KEYS.trimmed),
    ("INCRBY", KEYS.trimmed, 1),
]
"""What a producer sends as well where STREAM_FULL is drop_oldest."""

_ANYBODY: Final = {"auth", "hello", "quit", "reset"}
"""What servers let everybody do, whatever the rules: to log in and to leave."""

_INSIDE: Final = "return redis.call(unpack(ARGV))"


def _inside(*command: Any, key: str = S) -> Command:
    """Send a command from within a script that declares a key of the user's own."""
    return ("EVAL", _INSIDE, 1, key, *command)


_WHOLE_KEYS: Final = (
    S,
    LETTERS,
    KEYS.runs,
    RUN,
    IDS,
    KEYS.audit,
    KEYS.folded,
    KEYS.trimmed,
    KEYS.observer,
    KEYS.limit,
    KEYS.events,
    KEYS.forms,
    "other",
)

REFUSED: Final[dict[str, list[Command]]] = {
    "producer": [
        # Replace, delete or trim the stream.
        ("SET", S, "x"),
        ("SET", S, "x", "PX", 1),
        ("XTRIM", S, "MAXLEN", 0),
        ("XSETID", S, LAST_ID),
        _inside("SET", S, "x", "PX", 1),
        _inside("XTRIM", S, "MAXLEN", 0),
        _inside("DEL", S),
        _inside("RESTORE", S, 0, "x"),
        # Read events, here or among the dead letters; take them, settle them, change the group.
        ("XRANGE", S, "-", "+"),
        ("XREAD", "STREAMS", S, "0"),
        ("XINFO", "STREAM", S, "FULL"),
        ("XRANGE", LETTERS, "-", "+"),
        ("XREADGROUP", "GROUP", G, "me", "STREAMS", S, ">"),
        ("XACK", S, G, "1-1"),
        ("XGROUP", "CREATE", S, "other", "0"),
        ("XGROUP", "SETID", S, G, "$"),
        ("XGROUP", "DELCONSUMER", S, G, "me"),
        _inside("XRANGE", S, "-", "+"),
        _inside("XACK", S, G, "1-1"),
        # Forge the recorded audit, the lease, dead letters.
        ("HSET", KEYS.audit, "missing", 0),
        ("HGETALL", KEYS.audit),
        ("HSET", KEYS.folded, "AAA", "0 0 0"),
        ("SET", KEYS.audit, "x"),
        ("SET", KEYS.observer, "evil"),
        ("GET", KEYS.observer),
        ("INCRBY", KEYS.trimmed, 1),
        ("SET", KEYS.trimmed, 1),
        ("HSET", KEYS.forms, "group/consumer", "2 1"),
        ("XADD", LETTERS, "*", "letter", "{}"),
        ("XADD", FORMER, "*", "letter", "{}"),
        ("XRANGE", LARGE, "-", "+"),
        ("XADD", LARGE, "*", "a", "b"),
        ("HSET", REPLAYED, "1-1", 1),
        ("HSET", PURGED, "1-1", "id"),
        _inside("HSET", KEYS.audit, "missing", 0),
        _inside("SET", KEYS.observer, "evil"),
        _inside("XADD", LETTERS, "*", "letter", "{}"),
        ("EVAL", _INSIDE, 1, KEYS.audit, "HSET", KEYS.audit, "missing", 0),
        *(
            ("EVAL", "return 1", 1, key)
            for key in (KEYS.audit, KEYS.folded, KEYS.limit, KEYS.observer, LETTERS)
        ),
        # Replace a record by something else, remove one, learn the names of the others.
        ("SET", RUN, "x"),
        ("SET", KEYS.runs, "x", "PX", 1),
        ("HDEL", RUN, "last"),
        ("DEL", RUN),
        ("DEL", IDS),
        ("SREM", KEYS.runs, "AAA"),
        ("SMEMBERS", KEYS.runs),
        ("APPEND", KEYS.limit, "x"),
        ("HSET", KEYS.runs, "a", "b"),
        ("SADD", RUN, "a"),
        ("XADD", RUN, "*", "a", "b"),
        ("SCRIPT", "LOAD", "return 1"),
        ("SELECT", 1),
    ],
    "consumer": [
        ("XADD", S, "*", "a", "b"),
        ("SET", S, "x", "PX", 1),
        ("XSETID", S, LAST_ID),
        ("XGROUP", "DESTROY", S, G),
        ("XGROUP", "SETID", S, G, "$"),
        ("HSET", RUN, "last", 1),
        ("DEL", RUN),
        ("SADD", KEYS.runs, "BBB"),
        ("SET", KEYS.limit, 1),
        ("XADD", KEYS.events, "*", "events", 1),
        ("SET", KEYS.audit, "x", "PX", 1),
        ("SET", KEYS.replay("file"), "AAA"),
        ("APPEND", IDS, "x"),
        ("XADD", PURGED, "*", "a", "b"),
        ("XADD", FORMER, "*", "letter", "{}"),
        ("XDEL", FORMER, "1-1"),
        ("XDEL", LETTERS, "1-1"),
        ("XTRIM", LETTERS, "MAXLEN", 0),
        ("HSET", PURGED, "1-1", "id"),
        _inside("XADD", S, "*", "a", "b"),
        _inside("HSET", RUN, "last", 1),
        _inside("SET", S, "x", "PX", 1),
        ("EVAL", _INSIDE, 1, RUN, "PING"),
        ("SELECT", 1),
        ("SCRIPT", "LOAD", "return 1"),
        ("SCRIPT", "KILL"),
    ],
    "operator": [
        ("SET", S, "x", "PX", 1),
        ("XREADGROUP", "GROUP", G, "me", "STREAMS", S, ">"),
        ("XACK", S, G, "1-1"),
        ("XDEL", S, "1-1"),
        ("HSET", RUN, "last", 1),
        ("SADD", KEYS.runs, "BBB"),
        ("SET", KEYS.limit, 1),
        ("SET", KEYS.audit, "x", "PX", 1),
        ("SET", LETTERS, "x", "PX", 1),
        ("HSET", KEYS.forms, "group/consumer", "2 1"),
        ("XADD", KEYS.events, "*", "events", 1),
        ("XADD", LETTERS, "*", "letter", "{}"),
        ("XTRIM", LETTERS, "MAXLEN", 0),
        _inside("SET", S, "x", "PX", 1),
        _inside("XDEL", S, "1-1"),
        _inside("HSET", RUN, "last", 1),
        ("SELECT", 1),
    ],
    "observer": [
        ("XINFO", "STREAM", S),
        ("XINFO", "STREAM", S, "FULL"),
        ("XRANGE", S, "-", "+"),
        ("XREVRANGE", S, "+", "-"),
        ("XREAD", "STREAMS", S, "0"),
        ("XREADGROUP", "GROUP", G, "me", "STREAMS", S, ">"),
        ("XADD", S, "*", "a", "b"),
        ("XLEN", LETTERS),
        ("TYPE", KEYS.audit),
        ("HGETALL", RUN),
        ("EVAL", "return 1", 0),
        ("DUMP", S),
        ("COPY", S, "other"),
        ("SELECT", 1),
    ],
}
"""What each stolen password must not be good for."""

_NOBODY: Final[list[Command]] = [
    *(("DEL", key) for key in _WHOLE_KEYS if key not in {RUN, IDS}),
    *(("UNLINK", key) for key in _WHOLE_KEYS),
    *(("RENAME", key, "other") for key in _WHOLE_KEYS),
    *(("EXPIRE", key, 1) for key in _WHOLE_KEYS),
    ("SET", "other", 1),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", 0, 1),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("DBSIZE",),
    ("ACL", "LIST"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("MONITOR",),
    ("SUBSCRIBE", "x"),
    ("PUBLISH", "x", "y"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "127.0.0.1", 1),
    ("FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('f', function() return 1 end)"),
    ("FCALL", "f", 0),
    ("SCRIPT", "FLUSH"),
    ("BGREWRITEAOF",),
    ("SLOWLOG", "GET"),
]
"""What no user may."""


@pytest.fixture(scope="module", params=[kind.name for kind in KINDS])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Give each kind of server in turn, with the users that the chart makes."""
    yield from _start(request.param, tmp_path_factory.mktemp("guarded"))


@pytest.fixture(scope="module", params=["redis-server", "redis-8.2-container"])
def dropping(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Give servers whose users are made for STREAM_FULL=drop_oldest."""
    yield from _start(request.param, tmp_path_factory.mktemp("dropping"), drops_oldest=True)


def _start(name: str, folder: Path, *, drops_oldest: bool = False) -> Iterator[Guarded]:
    try:
        one = Guarded(kind_of(name), folder, drops_oldest=drops_oldest)
    except Absent as why:
        do_without(name, why)
    yield one
    one.close()


@pytest.fixture
def guarded(running: Guarded) -> Guarded:
    """Give the server with one key of each kind in it."""
    return _seeded(running)


def _seeded(server: Guarded) -> Guarded:
    server.clear()
    with closing(server.client()) as admin:
        for number in range(3):
            admin.xadd(S, {"event_id": str(number)}, id=f"1-{number + 1}")
        admin.xgroup_create(S, G, "0")
        admin.xgroup_create(S, "other", "0")
        admin.hset(RUN, mapping={"writer": "w", "last": 3, "published": 3})
        admin.sadd(KEYS.runs, "AAA")
        admin.set(IDS, b"0123456789abcdef")
        admin.xadd(LETTERS, {"letter": "{}"}, id="1-1")
    return server


def _refused(server: Guarded, user: str, command: Command) -> str | None:
    """Send a command as a user, and give the server's words where a right is missing."""
    with closing(server.client(user)) as client:
        try:
            _raw(client, *command)
        except redis.ResponseError as error:
            if lacks_right(error):
                return str(error)
    return None


def _raw(client: redis.Redis, *command: Any) -> Any:
    """Give a reply as it is; the client itself would only read what it expects."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*command)
        reply = connection.read_response()
    finally:
        connection.disconnect()
        client.connection_pool.release(connection)
    if isinstance(reply, Exception):
        raise reply
    return reply


@pytest.mark.parametrize("user", USERS)
def test_a_user_may_do_all_that_its_programs_send(guarded: Guarded, user: str) -> None:
    """And nothing but the right is looked at: whether the command does anything is for other tests."""
    refused = {command: why for command in ALLOWED[user] if (why := _refused(guarded, user, command))}
    assert refused == {}
    assert guarded.refusals() == []


@pytest.mark.parametrize("user", USERS)
def test_a_user_may_not_do_what_its_password_must_not_be_good_for(guarded: Guarded, user: str) -> None:
    """The server itself refuses each, also from within a script, and the data is what it was."""
    before = _contents(guarded)
    commands = [*REFUSED[user], *_NOBODY]
    assert [command for command in commands if _refused(guarded, user, command) is None] == []
    assert _contents(guarded) == before


def _contents(server: Guarded) -> dict[bytes, bytes]:
    """Give everything on the server, as it would be dumped."""
    with closing(server.client()) as admin:
        keys = cast("list[bytes]", admin.keys("*"))
        return {key: cast("bytes", admin.dump(key)) for key in sorted(keys)}


@pytest.mark.parametrize("user", USERS)
def test_no_other_command_is_granted(guarded: Guarded, user: str) -> None:
    """Of all commands that this server knows, whatever their keys: those of the table, and no more."""
    assert _granted(guarded, user) == _names(ALLOWED[user]) | _ANYBODY


def test_a_producer_may_look_at_groups_and_trim_only_where_it_drops_the_oldest(dropping: Guarded) -> None:
    """These rights are for STREAM_FULL=drop_oldest; all else is as it was."""
    _seeded(dropping)
    assert [command for command in _DROPS_OLDEST if _refused(dropping, "producer", command)] == []
    assert _granted(dropping, "producer") == _names([*ALLOWED["producer"], *_DROPS_OLDEST]) | _ANYBODY
    still = [one for one in REFUSED["producer"] if not {"XTRIM", "XRANGE", "INCRBY"} & set(one)]
    assert [command for command in still if _refused(dropping, "producer", command) is None] == []
    assert _refused(dropping, "producer", ("XRANGE", LETTERS, "-", "+")) is not None


def _names(commands: list[Command]) -> set[str]:
    """Name commands as the server does: `xinfo|stream`."""
    containers = {"XINFO", "XGROUP", "SCRIPT"}
    return {"|".join(command[: 1 + (command[0] in containers)]).lower() for command in commands}


def _granted(server: Guarded, user: str) -> set[str]:
    """Ask the server which of its commands a user may send, on some key or other."""
    with closing(server.client()) as admin:
        words = {
            name: name.split("|") + ["x"] * padding for name, padding in _commands(_raw(admin, "COMMAND"))
        }
        answers = {name: _raw(admin, "ACL", "DRYRUN", user, *word) for name, word in words.items()}
    # The other refusal is of the key, and then the command is granted on another one.
    return {name for name, answer in answers.items() if b"permissions to run the" not in answer}


def _commands(table: list[Any]) -> Iterator[tuple[str, int]]:
    """Give each command, or what a container has, with the number of arguments that it needs at least."""
    for name, arity, *_, inside in table:
        if inside:
            yield from _commands(inside)
        else:
            text = name.decode()
            yield text, max(0, abs(arity) - 1 - text.count("|"))


def test_the_operator_stops_a_script_without_an_end(guarded: Guarded) -> None:
    """Whoever may send scripts may stop the server with one; the operator alone makes it serve again."""
    ended: list[str] = []

    def endless() -> None:
        with closing(guarded.client("consumer", timeout_s=_TIMEOUT_S)) as client:
            try:
                client.eval("while true do end", 0)
            except redis.ResponseError as error:
                ended.append(str(error))

    script = threading.Thread(target=endless)
    with closing(guarded.client()) as admin:
        before = int(cast("Any", admin.config_get("busy-reply-threshold"))["busy-reply-threshold"])
        admin.config_set("busy-reply-threshold", 50)
        try:
            script.start()
            eventually(lambda: _is_busy(guarded), _TIMEOUT_S, "the script keeps the server busy")
            for user in ("producer", "consumer", "observer"):
                assert _refused(guarded, user, ("SCRIPT", "KILL")) is not None
            assert _is_busy(guarded)
            with closing(guarded.client("operator")) as client:
                assert client.script_kill()
            script.join(_TIMEOUT_S)
        finally:
            admin.config_set("busy-reply-threshold", before)
    assert "killed" in ended[0].lower()
    assert not _is_busy(guarded)


def _is_busy(server: Guarded) -> bool:
    with closing(server.client("observer", timeout_s=5.0)) as client:
        try:
            client.ping()
        except redis.exceptions.ResponseError as error:
            return "BUSY" in str(error)
        except redis.ConnectionError as error:
            return "BUSY" in str(error)
    return False


def test_the_operator_makes_a_stream_go_on_that_has_had_the_last_id(guarded: Guarded) -> None:
    """Any XADD may take the last possible id. When all is read, the stream is emptied and set back."""
    with closing(guarded.client("producer")) as producer:
        producer.xadd(S, {"a": "b"}, id=LAST_ID)
        with pytest.raises(redis.ResponseError, match="exhausted the last possible ID"):
            producer.xadd(S, {"a": "b"})
        with closing(guarded.client("consumer")) as consumer:
            taken = cast("Any", consumer.xreadgroup(G, "me", {S: ">"}))[0][1]
            consumer.xack(S, G, *(entry_id for entry_id, _ in taken))
            with closing(guarded.client("operator")) as operator:
                operator.xtrim(S, maxlen=0, approximate=False)
                operator.execute_command("XSETID", S, "1700000000000-0")
                operator.xgroup_setid(S, G, "1700000000000-0")
            added = producer.xadd(S, {"a": "c"})
            (fresh,) = cast("Any", consumer.xreadgroup(G, "me", {S: ">"}))[0][1]
    assert fresh == (added, {b"a": b"c"})


def test_the_observer_sees_no_content_of_an_entry(guarded: Guarded) -> None:
    """Whatever it may send: no field and no value is in the reply."""
    with closing(guarded.client()) as admin:
        admin.xadd(S, {"secret-name": "secret-value"})
    with closing(guarded.client("observer")) as observer:
        said = repr([_raw(observer, *command) for command in ALLOWED["observer"]])
    assert "secret" not in said


def test_nobody_gets_in_without_a_password(guarded: Guarded) -> None:
    """The default user is off, and no user is let in by another's password."""
    credentials: tuple[dict[str, Any], ...] = (
        {},
        {"password": "admin"},
        {"username": "producer", "password": "operator"},
    )
    for one in credentials:
        with closing(new_client(guarded.server, **one)) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
