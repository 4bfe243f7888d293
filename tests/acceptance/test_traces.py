"""Traces of real processes, through a real collector into Jaeger, and read back from there."""

import contextlib
import json
import sqlite3
from typing import Any

import pytest
from acceptance.publisher import KEYS
from acceptance.rig import PATIENCE_S, Rig
from observability import Observability, Trace
from servers import eventually

SEND, WAIT, PROCESS = (f"{what} {KEYS.stream}" for what in ("send", "wait", "process"))
SENSOR = ("ab" * 15 + "{:02x}", "cd" * 8)
STAGES = {"decode", "validate", "process", "store", f"ack {KEYS.stream}"}


@pytest.fixture
def traced(rig: Rig, observability: Observability) -> Rig:
    """Give a pipeline whose traces go to Jaeger; of itself it samples nothing."""
    rig.environment |= observability.environment() | {"TRACE_SAMPLE_RATIO": "0"}
    rig.environment["PRODUCER_METRICS_PORT"] = "0"
    return rig


def _produce(rig: Rig, *options: str, **environment: str) -> None:
    """Run a producer to its end."""
    process = rig.start("producer", [*rig.python, "-m", "services.producer", *options], environment)
    assert process.wait() == 0, process.text


def _settle(rig: Rig, **environment: str) -> list[dict[str, Any]]:
    """Run a consumer until nothing waits; gives its log."""
    consumer = rig.consumer(**environment)
    eventually(lambda: rig.audit().total.undelivered == 0 and not rig.pending(), PATIENCE_S, "all is settled")
    consumer.stop()
    assert rig.audit().total.missing == 0
    return consumer.lines()


def _write(rig: Rig, *records: dict[str, Any]) -> str:
    """Write a file of events, all valid but for what a record says."""
    whole = {"device_id": "d", "zone": "z", "ts": "1700000000", "kpi": "humidity", "value": "42.5"}
    path = rig.folder / "events.jsonl"
    path.write_text("".join(json.dumps(whole | record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def _trace(observability: Observability, trace_id: str, *names: str) -> Trace:
    """Wait until a trace has spans of these names."""

    def found() -> Trace | None:
        trace = observability.trace(trace_id)
        return trace if trace is not None and set(names) <= set(trace.names) else None

    trace: Trace = eventually(found, PATIENCE_S, f"{', '.join(names)} in trace {trace_id}")
    return trace


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_one_event_is_followed_from_the_sensor_to_its_row(
    traced: Rig, observability: Observability, protocol: str
) -> None:
    """Sensor, send, wait, process, store, in two processes; and by a link the batch with its stages."""
    traced.environment |= observability.environment(protocol)
    trace_id = SENSOR[0].format(len(protocol))
    traceparent = f"00-{trace_id}-{SENSOR[1]}-01"
    others = [{"device_id": f"d-{number}"} for number in range(20)]
    _produce(traced, "--from", _write(traced, *others, {"traceparent": traceparent}, *others))
    _settle(traced, BATCH_SIZE="100")
    trace = _trace(observability, trace_id, SEND, WAIT, PROCESS, "store")
    assert trace.names == sorted([SEND, WAIT, PROCESS, "store"])
    send, wait, process, store = (trace.one(name) for name in (SEND, WAIT, PROCESS, "store"))
    assert [one.parent for one in (send, wait, process, store)] == [SENSOR[1]] * 4
    assert [one.service for one in (send, wait, process, store)] == [
        "telemetry-producer", *["telemetry-consumer"] * 3,
    ]  # fmt: skip
    assert send.started_at <= wait.ended_at == process.started_at <= store.started_at
    assert store.ended_at <= process.ended_at + 1e-6
    assert process.tags["telemetry.outcome"] == "stored"
    assert process.tags["telemetry.event_id"] in traced.stored()
    ((batch_trace_id, batch_span_id),) = process.links
    batch_trace = _trace(observability, batch_trace_id, *STAGES)
    assert set(batch_trace.names) == {PROCESS, *STAGES}
    batch = batch_trace.one(PROCESS)
    assert batch.span_id == batch_span_id
    assert batch.links == [(trace_id, SENSOR[1])]
    assert batch.tags["messaging.batch.message_count"] == 41
    assert {batch_trace.one(stage).parent for stage in STAGES} == {batch_span_id}
    ((_, sent),) = send.links
    assert _trace(observability, send.links[0][0], SEND).one(SEND).span_id == sent


def test_a_published_batch_and_its_events_are_one_trace(traced: Rig, observability: Observability) -> None:
    """The producer's span, and below it each of its events in the consumer's process."""
    _produce(traced, "--rate", "100", "--duration", "0.5", "--batch-size", "10", TRACE_SAMPLE_RATIO="1")
    contexts: list[Any] = [fields[b"traceparent"] for _, fields in _entries(traced)]
    trace_id = contexts[0].decode().split("-")[1]
    number = contexts.count(contexts[0])
    _settle(traced)

    def whole() -> Trace | None:
        trace = observability.trace(trace_id)
        return trace if trace and len(trace.named(PROCESS)) == number else None

    trace: Trace = eventually(whole, PATIENCE_S, "every event of the batch")
    send = trace.one(SEND)
    assert (send.service, send.parent) == ("telemetry-producer", None)
    assert send.tags["messaging.batch.message_count"] == number
    assert {span.parent for span in trace.named(PROCESS)} == {send.span_id}
    assert {span.service for span in trace.named(PROCESS)} == {"telemetry-consumer"}


def _entries(rig: Rig) -> Any:
    return rig.client.xrange(KEYS.stream)


def test_retries_are_in_the_trace_that_the_log_line_names(traced: Rig, observability: Observability) -> None:
    """Nothing was sampled: a batch that had trouble is in all the same, with each try."""
    first = traced.consumer()
    traced.publisher().valid(1).send()
    traced.drain(first)
    traced.publisher(1).valid(5).send()
    with contextlib.closing(sqlite3.connect(traced.settings.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        traced.publisher(2).valid(5).send()
        first.says("write_unavailable")
        connection.execute("ROLLBACK")
    traced.drain(first)
    first.stop()
    line = first.lines("write_unavailable")[0]
    trace = _trace(observability, line["trace_id"], *STAGES)
    assert trace.one(PROCESS).span_id == line["span_id"]
    tries = trace.one("store").events
    assert ("retry", 1) in [(one["event"], one.get("telemetry.attempt")) for one in tries]
    assert "sink unavailable" in [one["event"] for one in tries]
    traced.assert_complete()


def test_a_replay_links_to_the_trace_in_which_the_letter_died(
    traced: Rig, observability: Observability
) -> None:
    """And its event's second life is below the replay."""
    _produce(traced, "--from", _write(traced, {}, {"value": "-1"}))
    _settle(traced)
    ((letter,),) = traced.letters().values()
    assert letter.trace_id is not None
    died = _trace(observability, letter.trace_id, "dead-letter", *STAGES)
    assert died.one(PROCESS).span_id == letter.span_id
    (event,) = died.one("dead-letter").events
    assert (event["telemetry.reason"], event["messaging.message.id"]) == ("value_negative", letter.entry_id)

    command = [*traced.python, "-m", "services.ops", "dlq", "replay", "--set", "value=1", "--yes"]
    replay = traced.start("replay", command, {})
    assert replay.wait() == 0, replay.text
    assert replay.text == "replayed 1\n"
    _settle(traced)

    def replayed() -> Trace | None:
        found = (trace for trace in observability.traces("telemetry-replay") if trace.named("store"))
        return next((one for one in found if (letter.trace_id, letter.span_id) in one.one(SEND).links), None)

    trace: Trace = eventually(replayed, PATIENCE_S, "the replay's trace")
    assert trace.names == sorted([SEND, WAIT, PROCESS, "store"])
    assert trace.one(PROCESS).parent == trace.one(SEND).span_id
    assert trace.one(PROCESS).tags["telemetry.event_id"] == letter.text("event_id")
    assert letter.text("event_id") in traced.stored()


def test_an_event_with_a_trace_of_its_own_lives_twice_in_it(
    traced: Rig, observability: Observability
) -> None:
    """Its sensor's trace has how it died, how it was sent again, and how it was stored."""
    trace_id = SENSOR[0].format(99)
    traceparent = f"00-{trace_id}-{SENSOR[1]}-01"
    _produce(traced, "--from", _write(traced, {"value": "-1", "traceparent": traceparent}))
    _settle(traced)
    died = _trace(observability, trace_id, SEND, PROCESS, "dead-letter")
    assert died.one(PROCESS).tags["error.type"] == "value_negative"
    command = [*traced.python, "-m", "services.ops", "dlq", "replay", "--set", "value=1", "--yes"]
    assert traced.start("replay", command, {}).wait() == 0
    _settle(traced)
    trace = _trace(observability, trace_id, "store", "dead-letter")
    assert [span.tags["telemetry.outcome"] for span in trace.named(PROCESS)] == ["dead", "stored"]


def test_an_idle_consumer_has_no_spans(traced: Rig, observability: Observability) -> None:
    """Though everything would be sampled, an empty read is no batch."""
    service = "idle-consumer"
    consumer = traced.consumer(TRACE_SAMPLE_RATIO="1", OTEL_SERVICE_NAME=service, SLEEP_INTERVAL="0.01")
    consumer.says("consumer_started")
    publisher = traced.publisher()
    for _ in range(3):
        publisher.valid(1).send()
        traced.drain(consumer)
    consumer.stop()
    traces: list[Trace] = eventually(
        lambda: len(found := observability.traces(service)) >= 3 and found, PATIENCE_S, "three batches"
    )
    assert all(set(trace.names) == {PROCESS, *STAGES} for trace in traces)
    assert sum(trace.one(PROCESS).tags["messaging.batch.message_count"] for trace in traces) == 3
