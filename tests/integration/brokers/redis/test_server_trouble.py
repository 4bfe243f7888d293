"""Servers that are there and don't serve: each is an error with a clear line, and none a loss."""

import json
from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import Any

import pytest
import redis
from consumers import KEYS, LOGGER, Consumer, ids, publish
from fakes import FakeClock
from samples import dead, event_fields
from servers import LocalServer, Server, answers, eventually

from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.consuming.upkeep import Upkeep
from services.brokers.redis.server.connection import connect, explain
from services.contract.consuming.letter import PORTION_CHARS
from services.contract.errors import DeadLettersUnavailable, SourceUnavailable
from services.runtime.settings import ConsumerSettings
from services.runtime.telemetry.metrics import Metrics

OwnServer = Callable[..., LocalServer]
FIRST = "first"


def line_of(error: SourceUnavailable, server: Server | LocalServer) -> str:
    """Say what the worker would say."""
    settings = ConsumerSettings(redis_host=server.host, redis_port=server.port)
    line = explain(error.__cause__ or error, settings)
    assert f"Redis at {server.host}:{server.port}" in line
    assert "\n" not in line
    return line


def test_a_key_of_another_type_is_named(server: Server) -> None:
    """A string where the stream should be is told with the key, left as it is, and recovered from."""
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        client.set(KEYS.stream, "mine")
        for _ in range(2):
            with pytest.raises(SourceUnavailable) as caught:
                source.read()
            assert caught.value.kind == "wrongtype"
            assert "the key telemetry_stream is no stream (STREAM_NAME)" in line_of(caught.value, server)
        assert client.get(KEYS.stream) == b"mine"
        client.delete(KEYS.stream)
        published = publish(client)
        assert ids(source.read()) == published


def test_nobody_there_is_told_with_the_address() -> None:
    """A closed port names host, port and the settings to look at."""
    server = Server("nobody", "127.0.0.1", 1)
    with closing(Consumer(server)) as source, pytest.raises(SourceUnavailable) as caught:
        source.read()
    assert "can't be reached" in line_of(caught.value, server)
    assert "REDIS_HOST" in line_of(caught.value, server)


def test_a_replica_is_waited_for(own_server: OwnServer) -> None:
    """A server that became a replica takes no reads of a group; promoted again, it goes on."""
    server = own_server()
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        published = publish(client, 2)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(SourceUnavailable) as caught:
            source.read()
        assert caught.value.kind in {"readonly", "masterdown"}
        assert "says:" in line_of(caught.value, server)
        client.execute_command("REPLICAOF", "NO", "ONE")
        assert ids(source.settle_all()) == published


def test_a_server_that_loads_its_data_is_waited_for(own_server: OwnServer) -> None:
    """While it loads, the line says so and doesn't send anybody to look for the address."""
    server = own_server("--loading-process-events-interval-bytes", "1024")
    with closing(server.client()) as client:
        published = publish(client, 100)
        pipeline = client.pipeline(transaction=False)
        for number in range(2000):
            pipeline.set(f"key-{number}", "x" * 100)
        pipeline.execute()
        client.bgrewriteaof()  # what is loaded key by key can be loaded slowly

        def is_written() -> bool:
            told = client.info("persistence")
            return not told["aof_rewrite_in_progress"] and not told["aof_rewrite_scheduled"]

        eventually(is_written, 10, "the file is rewritten")
    server.kill()
    server.slow_start(key_us=1000)
    seen: list[SourceUnavailable] = []
    taken: list[bytes] = []
    with closing(Consumer(server, batch_size=100)) as source:

        def is_back() -> bool:
            try:
                taken.extend(ids(source.read()))
            except SourceUnavailable as error:
                seen.append(error)
            return bool(taken)

        eventually(is_back, 30, "the server has loaded its data")
    assert taken == published
    assert answers(server)
    loading = [one for one in seen if "loading the dataset" in str(one)]
    assert loading, f"it was not met while it loaded: {seen}"
    for one in loading:
        assert "says: " in line_of(one, server)
        assert "REDIS_HOST" not in line_of(one, server)


def test_a_wrong_password_is_told_and_a_right_one_found(own_server: OwnServer) -> None:
    """Rights that were changed under a running consumer are named, and mended without a restart."""
    server = own_server()
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        published = publish(client, 2)
        source.ack(source.read())
        client.execute_command("CONFIG", "SET", "requirepass", "other")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for _ in range(2):
            with pytest.raises(SourceUnavailable) as caught:
                source.read()
        assert "refuses the password or user" in line_of(caught.value, server)
        client.execute_command("CONFIG", "SET", "requirepass", "")
        assert source.read() == []
        assert len(published) == 2


def test_a_rotated_password_file_is_read_again(own_server: OwnServer) -> None:
    """REDIS_PASSWORD_FILE is read at each connection, so a new password needs no restart."""
    server = own_server("--requirepass", "first")
    secret = server.folder / "password"
    secret.write_text("first\n", encoding="utf-8")
    settings = ConsumerSettings(
        redis_host=server.host, redis_port=server.port, redis_password_file=str(secret)
    )
    with (
        closing(server.client(password=FIRST)) as client,
        closing(Consumer(server, client=connect(settings))) as source,
    ):
        publish(client)
        source.ack(source.read())
        client.execute_command("CONFIG", "SET", "requirepass", "second")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for _ in range(2):
            with pytest.raises(SourceUnavailable):
                source.read()
        secret.write_text("second", encoding="utf-8")
        assert source.read() == []
        secret.unlink()
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(SourceUnavailable):
            source.read()
        with pytest.raises(SourceUnavailable) as caught:
            source.read()
        assert "REDIS_PASSWORD_FILE" in line_of(caught.value, server)


def test_a_missing_right_is_named(own_server: OwnServer) -> None:
    """A user who may not read the group is told which command it is."""
    server = own_server()
    with closing(server.client()) as client:
        client.execute_command("ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@all", "-xreadgroup")
        with closing(Consumer(server, client=server.client(username="poor", password="x"))) as source:  # noqa: S106 - it has none
            publish(client)
            with pytest.raises(SourceUnavailable) as caught:
                source.read()
            assert caught.value.kind == "noperm"
            line = line_of(caught.value, server)
            assert "lacks a right for this user" in line
            assert "xreadgroup" in line.lower()


def test_the_time_is_the_server_s_or_not_told(own_server: OwnServer) -> None:
    """A right that is missing is no outage; a server that is away is one, and what is in hand comes again."""
    server = own_server()
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        told = source.now()
        assert told is not None
        seconds, _ = client.time()
        assert 0 <= seconds - int(told) < 60
        client.execute_command("ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@all", "-time")
        poor = server.client(username="poor", password="x")  # noqa: S106 - it has none
        with closing(Consumer(server, "consumer-2", client=poor)) as other:
            assert other.now() is None
            publish(client)
            assert len(other.read()) == 1
        server.kill()
        with pytest.raises(SourceUnavailable):
            source.now()


def test_a_full_server_keeps_no_dead_letter_and_says_so(own_server: OwnServer) -> None:
    """Where the dead-letter stream can't grow, the put fails whole, and works when there is room."""
    server = own_server()
    with (
        closing(server.client()) as client,
        closing(DeadLetterStream(server.client(), KEYS, lambda: 1.0)) as letters,
    ):
        client.config_set("maxmemory", 1)
        with pytest.raises(DeadLettersUnavailable):
            letters.put([dead(1), dead(2)])
        client.config_set("maxmemory", 0)
        assert list(letters.read()) == []
        letters.put([dead(1)])
        assert len(list(letters.read())) == 1


def test_a_letter_is_kept_a_little_above_maxmemory(own_server: OwnServer) -> None:
    """With it its entry can be trimmed; without the right to a script it waits, as beyond a tenth."""
    server = own_server()
    with (
        closing(server.client()) as client,
        closing(DeadLetterStream(server.client(), KEYS, lambda: 1.0)) as letters,
    ):
        client.setrange("filler", 10_000_000, "x")
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used - 100_000)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("another", "x")
        letters.put([dead(1), dead(2)])
        assert [one.entry_id for one in letters.read()] == ["1700000000000-1", "1700000000000-2"]
        client.execute_command("ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@all", "-eval", "-evalsha")
        poor = server.client(username="poor", password="x")  # noqa: S106 - it has none
        with closing(DeadLetterStream(poor, KEYS, lambda: 1.0)) as others:
            with pytest.raises(DeadLettersUnavailable) as caught:
                others.put([dead(3)])
            assert caught.value.kind == "oom"
        client.config_set("maxmemory", used * 4 // 5)
        with pytest.raises(DeadLettersUnavailable) as caught:
            letters.put([dead(3)])
        assert caught.value.kind == "oom"
        assert len(list(letters.read())) == 2


class Cut(redis.Redis):
    """A client whose connection ends behind so many transactions."""

    left = 0

    def pipeline(self, *arguments: Any, **more: Any) -> Any:
        if not self.left:
            raise redis.ConnectionError("told to be cut")
        self.left -= 1
        return super().pipeline(*arguments, **more)


def test_letters_that_are_kept_in_part_are_kept_once(server: Server) -> None:
    """Those of a batch that come to more than a portion, tried again while one portion passes each time."""
    put = [dead(number, event_fields(number, zone="z" * PORTION_CHARS)) for number in range(3)]
    client = Cut(host=server.host, port=server.port)
    with closing(DeadLetterStream(client, KEYS, lambda: 1.0)) as letters:
        for kept in range(1, 4):
            client.left = 1
            with nullcontext() if kept == 3 else pytest.raises(DeadLettersUnavailable):
                letters.put(put)
        assert [one.entry_id for one in letters.read()] == [one.entry.entry_id.decode() for one in put]
        client.left = 3
        letters.put(put)
        assert len(list(letters.read())) == 6, "delivered again, it is another letter"


def test_foreign_entries_among_the_dead_letters_are_passed_over(server: Server) -> None:
    """What somebody else put into the dead-letter stream spoils no reading."""
    with (
        closing(server.client()) as client,
        closing(DeadLetterStream(server.client(), KEYS, lambda: 1.0)) as letters,
    ):
        client.xadd(KEYS.dead_letters, {"a": "b"})
        letters.put([dead(1)])
        client.xadd(KEYS.dead_letters, {"letter": json.dumps([1])})
        assert [one.entry_id for one in letters.read()] == ["1700000000000-1"]


def test_upkeep_trims_and_counts(server: Server) -> None:
    """What all have acknowledged is trimmed, at its interval."""
    clock, metrics = FakeClock(), Metrics("consumer")
    with closing(server.client()) as client, closing(Consumer(server)) as source:
        upkeep = Upkeep(client, KEYS, "consumer-1", 10.0, 3600.0, clock, metrics, LOGGER)
        upkeep.run_due()
        publish(client, 15)
        source.ack(source.read())
        clock.sleep(5.0)
        upkeep.run_due()
        assert client.xlen(KEYS.stream) == 15
        assert metrics.value("telemetry_trimmed_entries_total") == 0
        clock.sleep(5.0)
        upkeep.run_due()
        assert metrics.value("telemetry_trimmed_entries_total") == 10
        assert client.xlen(KEYS.stream) == 5
        source.ack(source.read())
        source.drain()
        upkeep.run_due()
        assert client.xlen(KEYS.stream) == 5, "it trims again before its interval is over"
        clock.sleep(10.0)
        upkeep.run_due()
        assert client.xlen(KEYS.stream) == 0
