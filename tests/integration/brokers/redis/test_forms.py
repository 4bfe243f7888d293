"""What consumers say of the forms that they read: before they read, and never in the way of reading."""

import contextlib
import logging
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import pytest
import redis
from consumers import KEYS, LOGGER, Consumer, ids, publish
from servers import LocalServer, Server, new_client

from services.contract.errors import SourceUnavailable

OwnServer = Callable[..., LocalServer]

_DAY_MS = 86_400_000


def said(client: redis.Redis) -> dict[str, tuple[int, int]]:
    """Give what each consumer says: the form, and for how long from now on, in ms."""
    seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    found = cast("dict[bytes, bytes]", client.hgetall(KEYS.forms))
    told = {name.decode(): [int(part) for part in text.split()] for name, text in found.items()}
    return {name: (form, until - now) for name, (form, until) in told.items()}


def test_a_consumer_says_what_it_reads_before_it_reads(server: Server) -> None:
    """Its first read is covered, each later one too, and the server keeps nothing of those long gone."""
    at = [0.0]
    with closing(server.client()) as client, closing(Consumer(server, monotonic=lambda: at[0])) as source:
        now = client.time()[0] * 1000
        client.hset(
            KEYS.forms, mapping={"g/gone": f"2 {now - 2 * _DAY_MS}", "g/lately": f"2 {now - _DAY_MS // 2}"}
        )
        assert source.read() == []
        found = said(client)
        assert found.keys() == {f"{KEYS.group}/consumer-1", "g/lately"}
        form, holds_ms = found[f"{KEYS.group}/consumer-1"]
        assert form == 2
        assert 30_000 < holds_ms <= 60_000
        client.delete(KEYS.forms)
        assert source.read() == []
        assert said(client) == {}
        at[0] += 11
        assert source.read() == []
        assert said(client).keys() == {f"{KEYS.group}/consumer-1"}


def test_it_ends_with_the_consumer(server: Server) -> None:
    """Whoever reads under its name later has not said it. Who never read says nothing, at its end neither."""
    with closing(server.client()) as client:
        source = Consumer(server)
        publish(client, 3)
        source.read()
        source.close()
        assert said(client)[f"{KEYS.group}/consumer-1"][1] <= 0
        client.delete(KEYS.forms)
        Consumer(server).close()
        assert client.exists(KEYS.forms) == 0


def test_it_ends_where_the_consumer_may_not_leave_its_group(own_server: OwnServer) -> None:
    """A right that is missing keeps its name in the group, and not what it has said."""
    server = own_server()
    with closing(server.client()) as admin:
        publish(admin, 3)
        admin.xgroup_create(KEYS.stream, KEYS.group, "0")
        rights = ("+@all", "-xgroup|delconsumer")
        admin.execute_command("ACL", "SETUSER", "c", "on", ">pass", "~*", *rights)
        source = Consumer(server, client=new_client(server, username="c", password="pass"))  # noqa: S106
        source.ack(source.read())
        assert said(admin)[f"{KEYS.group}/consumer-1"][1] > 0
        source.close()
        assert len(cast("list[Any]", admin.xinfo_consumers(KEYS.stream, KEYS.group))) == 1
        assert said(admin)[f"{KEYS.group}/consumer-1"][1] <= 0


def test_it_is_said_anew_to_a_server_that_may_be_another(server: Server) -> None:
    """After every error: that one may never have heard it."""
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        source.read()
        client.flushall()
        client.client_kill_filter(_type="normal", skipme=True)
        published = publish(client, 1)
        found: list[bytes] = []
        while not found:
            with contextlib.suppress(SourceUnavailable):
                found += ids(source.read())
        assert found == published
        assert said(client).keys() == {f"{KEYS.group}/consumer-1"}


@pytest.mark.parametrize("trouble", ["full", "a key of another type", "no right"])
def test_nothing_keeps_a_consumer_from_reading(
    own_server: OwnServer, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading makes the room of a full server; and what it can't say, the log says once."""
    caplog.set_level(logging.WARNING, LOGGER.name)
    server = own_server()
    at = [0.0]
    with closing(server.client()) as admin:
        published = publish(admin, 3)
        admin.xgroup_create(KEYS.stream, KEYS.group, "0")
        admin.execute_command("ACL", "SETUSER", "c", "on", ">pass", f"~{KEYS.stream}", "+@all")
        user = "c" if trouble == "no right" else "default"
        client = new_client(server, username="c", password="pass") if user == "c" else new_client(server)  # noqa: S106
        if trouble == "full":
            admin.config_set("maxmemory", 1)
        elif user == "default":
            admin.set(KEYS.forms, "a text")
        with closing(Consumer(server, client=client, monotonic=lambda: at[0])) as source:
            assert ids(source.read()) == published
            at[0] += 11
            source.read()
        told = [one for one in caplog.records if one.getMessage() == "right_lacking"]
        assert len(told) == (0 if trouble == "full" else 1)
        if trouble == "full":
            admin.config_set("maxmemory", 0)
            assert said(admin).keys() == {f"{KEYS.group}/consumer-1"}
