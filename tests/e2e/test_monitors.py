"""What the monitors say is there: they select our Services and pods, and port and path answer.

The operator that would read them is not needed: what it would look up is asked of the API server.
"""

import json
from typing import Any, Final

import pytest
import yaml
from e2e.cluster import CHART, CommandFailed, Namespace, kubectl, run
from e2e.release import QUICK, Release, merged

Monitor = dict[str, Any]

_SCRAPED: Final = merged(QUICK, {"networkPolicy": {"enabled": False}})
"""Whether policies let a Prometheus in is another test's matter: the API server asks from outside."""


@pytest.fixture(scope="module")
def release(namespace: Namespace) -> Release:
    """Install a release, and another one that no monitor of the first may select."""
    Release(namespace, "other").start(merged(_SCRAPED, {"producer": {"enabled": False}}))
    release = Release(namespace, "scraped")
    release.install(_SCRAPED)
    return release


def _monitors(release: Release, switch: str) -> list[Monitor]:
    """Render the monitors of a release."""
    text = run(
        "helm", "template", release.name, CHART, f"--namespace={release.namespace.name}", "--values=-",
        stdin=json.dumps(merged(_SCRAPED, {switch: {"enabled": True}})),
    )  # fmt: skip
    kind = switch[0].upper() + switch[1:]
    return [one for one in yaml.safe_load_all(text) if one and one["kind"] == kind]


def _selected(release: Release, monitor: Monitor, what: str) -> list[dict[str, Any]]:
    """Give the objects that a monitor selects."""
    assert monitor["metadata"]["namespace"] == release.namespace.name
    assert monitor["spec"].get("namespaceSelector", {}).get("matchNames", [release.namespace.name]) == [
        release.namespace.name
    ]
    labels = ",".join(f"{name}={value}" for name, value in monitor["spec"]["selector"]["matchLabels"].items())
    found: list[dict[str, Any]] = release.namespace.get(what, f"--selector={labels}")
    return found


def _metrics(release: Release, target: str, path: str) -> str:
    """Ask a Service or a pod, by the API server's way to it; empty where it does not answer."""
    address = f"/api/v1/namespaces/{release.namespace.name}/{target}/proxy{path}"
    try:
        return kubectl("get", "--raw", address)
    except CommandFailed:
        return ""


def test_service_monitors_select_services_whose_port_and_path_answer(release: Release) -> None:
    """One each, by the name of the port; its metrics are those of that service."""
    monitors = _monitors(release, "serviceMonitor")
    told = {}
    for monitor in monitors:
        (service,) = _selected(release, monitor, "services")
        (endpoint,) = monitor["spec"]["endpoints"]
        name = service["metadata"]["name"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        told[name] = _metrics(release, f"services/{name}:{endpoint['port']}", endpoint["path"])
    assert set(told) == {"scraped-producer", "scraped-consumer"}
    for name, text in told.items():
        assert f"telemetry_{name.removeprefix('scraped-')}_" in text, name


def test_pod_monitors_select_pods_whose_port_and_path_answer(release: Release) -> None:
    """Every pod of the service, and none of another release."""
    for monitor in _monitors(release, "podMonitor"):
        pods = _selected(release, monitor, "pods")
        assert pods
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        for pod in pods:
            assert pod["metadata"]["labels"]["app.kubernetes.io/instance"] == release.name
            ports = {
                port["name"]: port["containerPort"]
                for container in pod["spec"]["containers"]
                for port in container.get("ports", ())
            }
            text = _metrics(
                release, f"pods/{pod['metadata']['name']}:{ports[endpoint['port']]}", endpoint["path"]
            )
            assert "telemetry_build_info" in text
