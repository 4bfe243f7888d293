"""One event, from a line of `kubectl logs` by its trace id into Jaeger and to its row."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.cluster import CHART, PATIENCE_S, CommandFailed, Namespace, kubectl, run_given, until
from e2e.pages import block_of, typed, with_own
from e2e.release import Release

_JAEGER: Final = "jaegertracing/all-in-one:1.76.0"
_INSTALL, _LOOK, _FOLLOW = re.split(
    r"^(?=kubectl logs|event=)",
    block_of("tracing.md", "## Follow one event", "k8s/jaeger.yaml"),
    flags=re.MULTILINE,
)
_EVENT_LINES: Final = ("event_healthy", "event_degraded")

Span = dict[str, Any]


@pytest.fixture(scope="module")
def release(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Install a release beside a Jaeger, by the commands of the page."""
    if shutil.which("jq") is None:
        pytest.skip("no jq here, by which the page reads a trace")
    if _is_in_docker(_JAEGER):
        run_given("TELEMETRY_E2E_LOAD", _JAEGER)
    _type(namespace, tmp_path_factory.mktemp("page"), _INSTALL)
    namespace.kubectl("rollout", "status", "deployment/jaeger", f"--timeout={PATIENCE_S:g}s")
    release = Release(namespace)
    yield release
    release.assert_nothing_is_lost()


def _type(namespace: Namespace, folder: Path, commands: str) -> str:
    with typed(namespace, folder, commands) as said:
        return said


def test_a_stored_event_is_followed_from_its_log_line_to_its_row(release: Release, tmp_path: Path) -> None:
    """By its trace id it is in Jaeger, from the producer's batch to the write; by its id it is a row."""
    until(lambda: _line(release, _EVENT_LINES), PATIENCE_S, "a line of an event with a trace")
    said = _type(release.namespace, tmp_path, _LOOK)
    line = json.loads(said[said.index("{") :])
    event, trace = line["event_id"], line["event_trace_id"]
    _trace(release, trace, ("send", "wait", "process", "store"))
    shown = re.search(r"^event=(\S+) trace=(\S+)$", _FOLLOW, re.MULTILINE)
    assert shown is not None
    own = {shown[1]: event, shown[2]: trace, "/namespaces/default/": f"/namespaces/{release.namespace.name}/"}
    said = _type(release.namespace, tmp_path, with_own(_FOLLOW, own))
    stages = [line.split()[:2] for line in said.splitlines() if line.startswith("telemetry-")]
    assert stages == [
        ["telemetry-producer", "send"],
        ["telemetry-consumer", "wait"],
        ["telemetry-consumer", "process"],
        ["telemetry-consumer", "store"],
    ]
    assert said.splitlines()[-1].endswith(event)


def test_a_dead_event_is_followed_from_its_log_line_to_its_letter(release: Release) -> None:
    """The letter names the trace, and the trace says why."""
    invalid = ("--reset-then-reuse-values", "--set", "producer.settings.invalidRatio=0.1")
    release.namespace.helm("upgrade", release.name, CHART, *invalid)
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
