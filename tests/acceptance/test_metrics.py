"""What a scrape of real consumers says: the law at every moment, and the group by one of them only."""

import sqlite3
from contextlib import closing

import pytest
from acceptance.rig import CROWDED, PATIENCE_S, Process, Rig
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from servers import eventually, free_port

from services.runtime.telemetry.catalogue import CATALOGUE

OF_THE_GROUP = {one.name for one in CATALOGUE if one.scope == "group"}


def _scrape(process: Process) -> dict[str, float]:
    """Add up the series of each name; nothing while nobody answers."""
    code, text = process.probe("/metrics")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text) if code == 200 else ():
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def _observes(process: Process) -> bool:
    return _scrape(process).get("telemetry_group_observer") == 1


def _check_law(scraped: dict[str, float]) -> None:
    received, settled, in_flight = (
        scraped[f"telemetry_consumer_{what}"]
        for what in ("received_events_total", "settled_events_total", "in_flight_events")
    )
    assert received == settled + in_flight


@pytest.fixture
def replicas(rig: Rig) -> list[Process]:
    """Start two consumers that can be scraped."""
    found = [
        rig.consumer(f"consumer-{number}", CONSUMER_METRICS_PORT=str(free_port()), **CROWDED)
        for number in range(2)
    ]
    for one in found:
        one.is_ready()
    return found


def test_every_scrape_of_every_replica_keeps_the_law(rig: Rig, replicas: list[Process]) -> None:
    """While they work, and when all is settled: together they received all, and it is where it belongs."""
    rig.publisher().valid(2000).unreadable().send()
    seen = 0
    while not rig.is_drained():
        for one in replicas:
            _check_law(_scrape(one))
            seen += 1
    last = [_scrape(one) for one in replicas]
    for scraped in last:
        _check_law(scraped)
    assert seen > 0
    assert sum(one["telemetry_consumer_settled_events_total"] for one in last) == 2001
    assert sum(one["telemetry_consumer_dead_events_total"] for one in last) == 1
    assert {one["telemetry_consumer_in_flight_events"] for one in last} == {0}
    for scraped in last:
        assert scraped["telemetry_sink_database_bytes"] > 0
        assert 0 < scraped["telemetry_disk_free_bytes"] <= scraped["telemetry_disk_size_bytes"]
        assert scraped["process_resident_memory_bytes"] > 0


def test_one_replica_observes_until_it_is_gone_however_it_goes(rig: Rig, replicas: list[Process]) -> None:
    """The other one follows a SIGKILL when the lease is over, and a SIGTERM at its next look."""
    rig.publisher().valid(10).send()
    rig.drain(*replicas)
    eventually(lambda: any(map(_observes, replicas)), PATIENCE_S, "one observes")
    (first,) = (one for one in replicas if _observes(one))
    (second,) = (one for one in replicas if one is not first)
    assert not OF_THE_GROUP & set(_scrape(second))
    first.kill()
    eventually(lambda: _observes(second), PATIENCE_S, "the other one observes")
    third = rig.consumer("consumer-3", CONSUMER_METRICS_PORT=str(free_port()), **CROWDED)
    third.is_ready()
    assert not _observes(third)
    scraped = _scrape(second)
    added, lag = scraped["telemetry_stream_added_entries_total"], scraped["telemetry_group_lag_entries"]
    assert (added, lag) == (10, 0)
    second.stop()
    eventually(lambda: _observes(third), PATIENCE_S, "the third one observes")
    assert "right_lacking" not in third.text


def test_the_group_is_observed_while_nothing_is_consumed(rig: Rig) -> None:
    """The sink is held by somebody else: what waits is told, and what is in flight, until it is back."""
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    consumer.is_ready()
    with closing(sqlite3.connect(rig.settings.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        rig.publisher().valid(50).send()

        def waits() -> bool:
            scraped = _scrape(consumer)
            _check_law(scraped)
            return (
                scraped["telemetry_consumer_in_flight_events"] > 0
                and scraped["telemetry_sink_up"] == 0
                and scraped.get("telemetry_group_pending_entries", 0) > 0
                and scraped["telemetry_group_oldest_pending_seconds"] > 0
            )

        eventually(waits, PATIENCE_S, "the outage in the metrics")
        other.execute("ROLLBACK")
    rig.drain(consumer)
    eventually(lambda: _scrape(consumer)["telemetry_sink_up"] == 1, PATIENCE_S, "the sink is back")


def test_a_consumer_without_events_says_that_all_is_up(rig: Rig) -> None:
    """0 would be an outage, and wake somebody."""
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
    consumer.is_ready()
    scraped = _scrape(consumer)
    assert (scraped["telemetry_sink_up"], scraped["telemetry_redis_up"]) == (1, 1)


def test_a_sink_that_cant_be_opened_is_no_trouble_of_redis(rig: Rig) -> None:
    """Nobody has asked the server yet, so nothing is said of it."""
    rig.settings.data_dir.mkdir(parents=True)
    with closing(sqlite3.connect(rig.settings.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()))
        eventually(lambda: _scrape(consumer).get("telemetry_sink_up") == 0, PATIENCE_S, "the sink is down")
        assert "telemetry_redis_up" not in _scrape(consumer)
        other.execute("ROLLBACK")
    eventually(lambda: _scrape(consumer).get("telemetry_redis_up") == 1, PATIENCE_S, "it works")
    assert _scrape(consumer)["telemetry_sink_up"] == 1


def test_a_traced_batch_can_be_found_from_its_latency(rig: Rig) -> None:
    """Who asks for OpenMetrics gets the trace id that the log has."""
    traced = {"OTEL_TRACES_EXPORTER": "otlp", "TRACE_SAMPLE_RATIO": "1"}
    consumer = rig.consumer(CONSUMER_METRICS_PORT=str(free_port()), **traced)
    consumer.is_ready()
    rig.publisher().valid(10).send()
    rig.drain(consumer)
    consumer.says("batch_settled")

    def examples() -> set[str]:
        _, text = consumer.probe("/metrics", accept="application/openmetrics-text; version=1.0.0")
        return {
            sample.exemplar.labels["trace_id"]
            for family in openmetrics(text)  # type: ignore[no-untyped-call]
            for sample in family.samples
            if sample.exemplar
        }

    assert eventually(examples, PATIENCE_S, "an exemplar") <= {
        line["trace_id"] for line in consumer.lines("batch_settled")
    }


def test_a_taken_port_stops_no_pipeline(rig: Rig) -> None:
    """Two consumers that are given one port: the second says so, has no endpoint, and works all the same."""
    port = str(free_port())
    first = rig.consumer("consumer-1", CONSUMER_METRICS_PORT=port)
    assert first.is_ready()
    second = rig.consumer("consumer-2", CONSUMER_METRICS_PORT=port)
    second.says("health_port_taken")
    first.stop()
    rig.publisher().mix(100).send()
    rig.drain(second)
    second.stop()
    rig.assert_complete()
