"""One event, from a line of `kubectl logs` by its trace id into Jaeger and to its row."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest
from e2e.cluster import PATIENCE_S, ROOT, CommandFailed, Namespace, kubectl, run_given, until
from e2e.release import QUICK, Release, merged

_JAEGER: Final = "jaegertracing/all-in-one:1.76.0"
_TRACED: Final = {
    "otlp": {"endpoint": "http://jaeger:4318"},
    "settings": {"traceSampleRatio": 1, "traceSpansPerSecond": 0},
    "producer": {"settings": {"rate": 20, "invalidRatio": 0.1}},
}
_EVENT_LINES: Final = ("event_healthy", "event_degraded")

Span = dict[str, Any]


@pytest.fixture(scope="module")
def release(namespace: Namespace) -> Iterator[Release]:
    """Install a release beside a Jaeger, as k8s/jaeger.yaml says."""
    if _is_in_docker(_JAEGER):
        run_given("TELEMETRY_E2E_LOAD", _JAEGER)
    namespace.kubectl("apply", f"--filename={ROOT / 'k8s' / 'jaeger.yaml'}")
    release = Release(namespace, "traced")
    release.install(merged(QUICK, _TRACED))
    namespace.kubectl("rollout", "status", "deployment/jaeger", f"--timeout={PATIENCE_S:g}s")
    yield release
    release.assert_nothing_is_lost()


def test_a_stored_event_is_followed_from_its_log_line_to_its_row(release: Release) -> None:
    """By its trace id it is in Jaeger, from the producer's batch to the write; by its id it is a row."""
    line = until(lambda: _line(release, _EVENT_LINES), PATIENCE_S, "a line of an event with a trace")
    spans = _trace(release, line["event_trace_id"], ("send", "wait", "process", "store"))
    (processed,) = (one for one in spans if _tags(one).get("telemetry.event_id") == line["event_id"])
    assert _tags(processed)["telemetry.outcome"] == "stored"
    row = json.loads(release.consumer("telemetry", "events", "--id", line["event_id"], "--json"))
    assert (row["device_id"], row["value"]) == (line["device_id"], line["value"])


def test_a_dead_event_is_followed_from_its_log_line_to_its_letter(release: Release) -> None:
    """The letter names the trace, and the trace says why."""
    line = until(lambda: _line(release, ("event_dead_lettered",)), PATIENCE_S, "a line of a dead event")
    letter = json.loads(release.consumer("telemetry", "dlq", "show", line["entry_id"], "--json"))
    assert letter["reason"] == line["reason"]
    spans = _trace(release, line["event_trace_id"], ("send", "wait", "process", "dead-letter"))
    reasons = {_tags(one).get("messaging.message.id"): _tags(one).get("error.type") for one in spans}
    assert reasons[line["entry_id"]] == line["reason"]


def test_spans_name_their_pod(release: Release) -> None:
    """From a span to the pod's log."""
    line = until(lambda: _line(release, _EVENT_LINES), PATIENCE_S, "a line of an event with a trace")
    trace = until(lambda: _ask(release, line["event_trace_id"]), PATIENCE_S, "the trace is in Jaeger")
    pods = {
        tag["value"]
        for process in trace["processes"].values()
        for tag in process["tags"]
        if tag["key"] == "k8s.pod.name"
    }
    assert pods <= {pod.name for pod in release.pods()}
    assert pods


def _is_in_docker(image: str) -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    return asked.returncode == 0


def _line(release: Release, events: Sequence[str]) -> dict[str, Any] | None:
    """Give the newest log line about one of these events that names a trace."""
    pod = release.pod("consumer")
    lines = [line for event in events for line in pod.logged(event) if "event_trace_id" in line]
    return lines[-1] if lines else None


def _ask(release: Release, trace_id: str) -> dict[str, Any] | None:
    """Look a trace up, by the API server's way to the Service."""
    address = f"/api/v1/namespaces/{release.namespace.name}/services/jaeger:http-query/proxy"
    try:
        found = json.loads(kubectl("get", "--raw", f"{address}/api/traces/{trace_id}"))["data"]
    except CommandFailed:  # not there yet
        return None
    return found[0] if found else None


def _trace(release: Release, trace_id: str, operations: Sequence[str]) -> list[Span]:
    """Wait until a trace has spans of all these operations; give its spans."""

    def whole() -> list[Span] | None:
        spans: list[Span] = (_ask(release, trace_id) or {"spans": []})["spans"]
        names = {span["operationName"].split()[0] for span in spans}
        return spans if names >= set(operations) else None

    return until(whole, PATIENCE_S, f"trace {trace_id} has {', '.join(operations)}")


def _tags(span: Span) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}
