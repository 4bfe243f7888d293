"""The server is killed, frozen, emptied, full, or cuts connections: the pipeline goes on by itself."""

import contextlib
import signal
import sqlite3

import redis
from acceptance.publisher import KEYS
from acceptance.rig import PATIENCE_S, Process, Rig, free_port
from servers import eventually

from services.ops.audit.result import Audit


def test_a_killed_server_with_append_only_file_costs_nothing(rig: Rig) -> None:
    """After SIGKILL of the server in the middle, and a restart, the same processes settle everything."""
    publisher = rig.publisher()
    consumers = [rig.consumer(f"consumer-{number}") for number in range(2)]
    for _ in range(3):
        before = rig.count()
        publisher.mix(400).send()
        rig.wait_for_rows(before + 1)
        rig.server.kill()
        for one in consumers:
            one.says("redis_unavailable")
        rig.server.start()
        publisher.mix(100).send()
        rig.drain(*consumers)
    for one in consumers:
        assert one.lines("redis_back")
        one.stop()
    rig.assert_complete()


def test_a_frozen_server_makes_consumers_unready_until_it_thaws(rig: Rig) -> None:
    """A server that doesn't answer for longer than the timeout is waited for; then all goes on."""
    publisher = rig.publisher()
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    publisher.mix(200).send()
    assert consumer.is_ready()
    rig.server.pause()
    assert consumer.is_unready("does not answer")
    assert consumer.probe("/livez")[0] == 200
    rig.server.resume()
    publisher.mix(200).send()
    rig.drain(consumer)
    assert consumer.is_ready()
    consumer.stop()
    rig.assert_complete()


def test_cut_connections_cost_nothing(rig: Rig) -> None:
    """Connections that are cut again and again, wherever the consumers are in their work, cost nothing."""
    publisher = rig.publisher()
    consumers = [rig.consumer(f"consumer-{number}") for number in range(2)]
    for _ in range(25):
        before = rig.count()
        publisher.mix(100).send()
        rig.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        rig.wait_for_rows(before + 1)
        rig.assert_law()
    rig.drain(*consumers)
    for one in consumers:
        one.stop()
    rig.assert_complete()


def test_an_emptied_server_is_recovered_from_and_the_audit_names_the_loss(rig: Rig) -> None:
    """After FLUSHALL the consumer goes on by itself and says so, and each lost event is named."""
    publisher = rig.publisher()
    consumer = rig.consumer(BATCH_SIZE="10", SQLITE_BUSY_TIMEOUT_MS="20")
    kept = publisher.valid(50).send()
    rig.drain(consumer)
    with contextlib.closing(sqlite3.connect(rig.settings.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        in_danger = publisher.valid(60).send()
        eventually(lambda: consumer.lines("write_unavailable"), PATIENCE_S, "it waits for the sink")
        rig.client.flushall()
        connection.execute("ROLLBACK")
    consumer.says("group_created")
    after = publisher.valid(40).send()
    eventually(lambda: rig.count() >= 100 and not rig.pending(), PATIENCE_S, "it goes on")
    consumer.stop()
    stored = rig.stored()
    assert {one.event_id for one in (*kept, *after)} <= set(stored)
    lost = [str(one.event_id) for one in in_danger if one.event_id not in stored]
    assert len(lost) >= 40, "what it had in hand is stored, and no more"
    result = rig.audit(show=1000)
    assert result.total.missing == len(lost)
    assert sorted(name[14:] for name in lost) == sorted(name.strip("*-") for name in result.runs[0].missing)
    created = consumer.lines("group_created")[-1]
    assert created["levelname"] == "WARNING"
    assert "telemetry audit" in created["hint"]
    assert consumer.lines("redis_unavailable")[-1]["levelname"] == "ERROR"


def test_a_destroyed_group_is_made_again_and_the_stream_read_from_its_start(rig: Rig) -> None:
    """Without its group the server has forgotten who has read what: all is read again, once stored."""
    publisher = rig.publisher()
    # Nothing is trimmed, so there is something to read again.
    consumer = rig.consumer(RETENTION_INTERVAL_S="0")
    publisher.mix(300).send()
    rig.drain(consumer)
    for _ in range(3):
        rig.client.xgroup_destroy(KEYS.stream, KEYS.group)
        publisher.mix(100).send()
        rig.drain(consumer)
    consumer.stop()
    created = consumer.lines("group_created")
    # Within ten seconds it is written once, and at the end it is told how many were held back.
    assert len(created) + sum(line.get("held_back", 0) for line in created) == 4
    rig.assert_complete()


def test_a_full_server_is_emptied_by_its_consumers(rig: Rig) -> None:
    """At maxmemory nothing can be published, and consumers go on: also one that was started after."""
    publisher = rig.publisher()
    publisher.mix(2000).send()
    rig.client.xgroup_create(KEYS.stream, KEYS.group, "0")
    rig.client.config_set("maxmemory-policy", "noeviction")
    rig.client.config_set("maxmemory", 1_000_000)
    with contextlib.suppress(redis.ResponseError):
        rig.client.set("filler", "x")
        raise AssertionError("the server is not full")
    consumer = rig.consumer(BATCH_SIZE="100")
    rig.drain(consumer)
    rig.client.config_set("maxmemory", 0)
    publisher.mix(100).send()
    rig.drain(consumer)
    # Acknowledged entries are trimmed, or the stream grows until producers may not go on.
    eventually(lambda: rig.client.xlen(KEYS.stream) == 0, PATIENCE_S, "the stream is trimmed")
    consumer.stop()
    rig.assert_complete()


def test_a_full_server_is_emptied_though_it_keeps_the_dead_letters(rig: Rig) -> None:
    """Beside a producer that takes all room: a letter comes before the acknowledgement that makes some."""
    rig.client.setrange("filler", 10_000_000, "x")
    rig.client.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True)
    rig.client.config_set("maxmemory-policy", "noeviction")
    used = int(rig.client.info("memory")["used_memory"])
    rig.client.config_set("maxmemory", used + 1_000_000)
    producer = _producer(rig, rate=5000)
    producer.says("redis_unavailable")
    length = rig.client.xlen(KEYS.stream)
    consumer = rig.consumer(DEAD_LETTERS="stream")
    rig.wait_for_rows(2 * length)
    assert rig.client.xlen(KEYS.dead_letters) > 0
    producer.signal(signal.SIGTERM)
    assert producer.wait() == 0, producer.text
    rig.drain(consumer)


def test_a_foreign_key_in_the_streams_place_is_waited_for(rig: Rig) -> None:
    """Something else under the stream's name: unready, the key untouched; once it is gone, all goes on."""
    rig.client.set(KEYS.stream, "something else")
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    assert consumer.is_unready("WRONGTYPE")
    assert rig.client.get(KEYS.stream) == b"something else"
    rig.client.delete(KEYS.stream)
    rig.publisher().mix(100).send()
    rig.drain(consumer)
    assert consumer.is_ready()
    consumer.stop()
    rig.assert_complete()


def _producer(rig: Rig, rate: int) -> Process:
    command = [*rig.python, "-m", "services.producer", "--rate", str(rate), "--duration", "0"]
    ratios = {"INVALID_RATIO": "0.02", "DUPLICATE_RATIO": "0.02", "PRODUCER_METRICS_PORT": "0"}
    return rig.start("producer", command, {**ratios, "BATCH_SIZE": "50"})


def _settle(rig: Rig, producer: Process, *consumers: Process) -> Audit:
    """End the producer, let the consumers finish, and prove what the run was."""
    producer.signal(signal.SIGTERM)
    assert producer.wait() == 0, producer.text
    rig.drain(*consumers)
    eventually(lambda: rig.audit().total.undelivered == 0 and rig.is_drained(), PATIENCE_S, "all is settled")
    for one in consumers:
        one.stop()
    result = rig.audit()
    total = result.total
    assert (total.missing, total.pending, total.undelivered) == (0, 0, 0), result
    assert total.stored == len(rig.stored())
    rig.assert_integrity()
    return result


def test_a_full_server_makes_the_producer_wait(rig: Rig) -> None:
    """At maxmemory the real producer waits and says so, and goes on when there is room again."""
    consumer = rig.consumer()
    producer = _producer(rig, rate=500)
    rig.wait_for_rows(200)
    rig.client.config_set("maxmemory-policy", "noeviction")
    rig.client.config_set("maxmemory", 1)
    producer.says("redis_unavailable")
    rig.drain(consumer)
    before = rig.count()
    rig.client.config_set("maxmemory", 0)
    producer.says("redis_back")
    rig.wait_for_rows(before + 200)
    _settle(rig, producer, consumer)


def test_producer_server_and_consumers_killed_in_turn_lose_nothing(rig: Rig) -> None:
    """Whoever of the three dies, the other two go on, and each run is proven whole."""
    consumers = [rig.consumer(f"consumer-{number}") for number in range(2)]
    producer = _producer(rig, rate=400)
    for turn in range(3):
        rig.wait_for_rows(rig.count() + 200)
        rig.server.restart()
        rig.wait_for_rows(rig.count() + 100)
        producer.kill()
        producer = _producer(rig, rate=400)
        rig.wait_for_rows(rig.count() + 100)
        consumers[turn % 2].kill()
        consumers[turn % 2] = rig.consumer(f"consumer-{turn % 2}")
    result = _settle(rig, producer, *consumers)
    assert len(result.runs) == 4
