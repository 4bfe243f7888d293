"""A collector that is away, silent or refusing costs no event, and little time at the end."""

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from acceptance.rig import PATIENCE_S, Process, Rig
from observability import RefusingCollector, SilentCollector, absent_collector
from servers import eventually

LONGEST_END_S = 5.0
"""Two seconds are promised; the rest is for a busy machine. The SDK by itself takes ten to thirty."""


@contextlib.contextmanager
def _collector(kind: str) -> Iterator[int]:
    """Give the port of a collector of this kind."""
    if kind == "absent":
        with absent_collector() as port:
            yield port
    elif kind == "silent":
        with SilentCollector() as silent:
            yield silent.port
    else:
        with RefusingCollector(int(kind)) as refusing:
            yield refusing.port


def _ended_after_s(process: Process) -> float:
    """Tell how long a process took from its last word of its work to its end, seconds."""
    (line,) = process.lines("consumer_finished") or process.lines("producer_finished")
    return time.time() - datetime.fromisoformat(line["asctime"]).timestamp()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("kind", ["absent", "silent", "400", "503"])
def test_a_bad_collector_costs_no_event_and_little_time(rig: Rig, kind: str, protocol: str) -> None:
    """Every batch is sampled, every line and number is sent, so there is a lot that nobody takes."""
    with _collector(kind) as port:
        traced = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_BLRP_SCHEDULE_DELAY": "50",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_METRIC_EXPORT_INTERVAL": "50",
            "TRACE_SAMPLE_RATIO": "1",
            "PRODUCER_METRICS_PORT": "0",
        }
        options = ["--rate", "1000", "--duration", "1", "--invalid-ratio", "0.01"]
        producer = rig.start("producer", [*rig.python, "-m", "services.producer", *options], traced)
        consumer = rig.consumer(**traced)
        assert producer.wait() == 0, producer.text
        assert _ended_after_s(producer) < LONGEST_END_S
        eventually(lambda: consumer.lines("batch_settled"), PATIENCE_S, "a batch")
        eventually(lambda: not rig.audit().total.undelivered and not rig.pending(), PATIENCE_S, "all settled")
        consumer.stop()
        assert _ended_after_s(consumer) < LONGEST_END_S
    total = rig.audit().total
    assert (total.missing, total.pending, total.undelivered) == (0, 0, 0)
    assert total.published >= 500
    for process in (producer, consumer):
        assert "Traceback" not in process.text
        for signal in ("spans", "logs", "metrics"):
            mine = {f"{signal}_not_sent", f"last_{signal}_given_up"}
            said = [line for line in process.lines() if line["message"] in mine]
            assert said, f"nobody says that the {signal} are lost"
            assert len(said) <= 4  # the first, what was held back at both ends of the closing, and the last
        strange = [line for line in process.text.splitlines() if not line.startswith("{")]
        assert strange == []
