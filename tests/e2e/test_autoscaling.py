"""Consumers scaled by what waits for them, and by their CPU: out under load, and back."""

import json
from typing import Final

import pytest
from e2e import ipv6
from e2e.cluster import PATIENCE_S, has_api, kubectl, on_node, run_given, until
from e2e.conftest import NewNamespace
from e2e.release import QUICK, Release, Values, merged

_AT_ONCE = {"scaleDown": {"stabilizationWindowSeconds": 0}}
_METRICS = "metrics.k8s.io/v1beta1"
_KEDA = "keda.sh/v1alpha1"


def _scaled(release: Release, least: int, most: int, timeout_s: float) -> int:
    def count_in_bounds() -> int:
        count = len([pod for pod in release.pods("consumer") if pod.is_ready])
        return count if least <= count <= most else 0

    return until(count_in_bounds, timeout_s, f"{least} to {most} consumers")


def _scales_out_and_back(release: Release) -> tuple[int, int]:
    """See that load brings more consumers, that they go again without it, and that nothing is lost.

    Gives how many there were under load, and after it. Nobody but the autoscaler has ever said how many.
    """
    under_load = _scaled(release, 2, 3, 180)
    release.flows()
    release.assert_logs()
    release.scale("producer", 0)
    release.settled()
    idle = _scaled(release, 1, 1, 180)
    release.settled()
    release.assert_logs()
    return under_load, idle


_SCALED_ON_LAG: Final[Values] = {
    # What waits is bounded, so that it is also worked off in a moment.
    "producer": {"settings": {"rate": 1500, "streamMaxLength": 2500}},
    "consumer": {
        "settings": {"batchSize": 1},
        "keda": {
            "enabled": True,
            "maxReplicas": 3,
            "pollingInterval": 2,
            "lagCount": 500,
            "pendingEntriesCount": 500,
            "behavior": _AT_ONCE,
        },
    },
}
"""A stream that fills faster than one consumer empties it, an event at a time."""


@pytest.fixture
def keda(cluster: None) -> None:  # noqa: ARG001 - it decides whether there is one
    """Have KEDA in the cluster."""
    if not has_api(_KEDA) and not run_given("TELEMETRY_E2E_KEDA"):
        pytest.skip("no KEDA in the cluster, and no TELEMETRY_E2E_KEDA to install it with")


@pytest.mark.usefixtures("keda")
def test_keda_scales_consumers_out_on_lag_and_back(new: NewNamespace) -> None:
    """More while the stream fills, and one again when nothing comes any more."""
    release = Release(new())
    release.install(merged(QUICK, _SCALED_ON_LAG))
    until(lambda: _is_scaled_by_keda(release), PATIENCE_S, "KEDA sees the stream")
    under_load, idle = _scales_out_and_back(release)
    assert under_load > idle == 1


@pytest.mark.usefixtures("keda")
def test_keda_reads_the_lag_at_an_ipv6_address(new: NewNamespace) -> None:
    """And the services are there by the same address: the server listens at no other."""
    node = until(_node_of_keda, PATIENCE_S, "KEDA's operator is on a node")
    namespace = new()
    host = ipv6.deploy(namespace, node)
    if not host:
        pytest.skip(f"the pods of {node} do not reach each other by IPv6")
    there = {"nodeSelector": on_node(node)}
    external = {
        "redis": {"enabled": False},
        "externalRedis": {"host": host},
        "producer": there,
        "consumer": there,
    }
    release = Release(namespace)
    release.install(merged(QUICK, _SCALED_ON_LAG, external))
    until(lambda: _is_scaled_by_keda(release), PATIENCE_S, "KEDA sees the stream")
    assert _scaled(release, 2, 3, PATIENCE_S) > 1
    release.flows()
    release.assert_logs()


@pytest.mark.usefixtures("keda")
def test_an_audit_can_be_asked_while_keda_keeps_no_consumer(new: NewNamespace) -> None:
    """Nothing comes, so no consumer runs; the Job audits, wakes none, and the next event does."""
    keda = {"enabled": True, "minReplicas": 0, "pollingInterval": 2, "cooldownPeriod": 5}
    release = Release(new())
    release.install(merged(QUICK, {"consumer": {"keda": keda}}))
    release.flows()
    release.scale("producer", 0)
    until(lambda: not release.pods("consumer"), PATIENCE_S, "KEDA leaves no consumer")
    release.namespace.kubectl("create", "job", "audit-now", "--from=cronjob/demo-audit")
    ended = ("--for=condition=complete", "job/audit-now", f"--timeout={PATIENCE_S:g}s")
    release.namespace.kubectl("wait", *ended, timeout_s=PATIENCE_S + 10)
    assert " pending=0 undelivered=0 missing=0" in release.namespace.kubectl("logs", "job/audit-now")
    assert release.pods("consumer") == []
    release.scale("producer", 1)
    release.ready("consumer")
    release.flows()


def _node_of_keda() -> str:
    pods = json.loads(kubectl("get", "pods", "--all-namespaces", "--selector=app=keda-operator", "-o=json"))
    return next((one["spec"].get("nodeName", "") for one in pods["items"]), "")


def _is_scaled_by_keda(release: Release) -> bool:
    (scaled,) = release.namespace.get("scaledobjects.keda.sh")
    conditions = {one["type"]: one["status"] for one in scaled.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True"


def test_an_autoscaler_on_cpu_scales_consumers_out_and_back(new: NewNamespace) -> None:
    """The CPU that a consumer takes is far above what it asks for, and idle far below."""
    if not has_api(_METRICS):
        pytest.skip("no metrics API in the cluster, so nothing can be scaled by CPU")
    values = {
        "producer": {"settings": {"rate": 600}},
        "consumer": {
            "resources": {"requests": {"cpu": "50m"}},
            "autoscaling": {
                "enabled": True,
                "maxReplicas": 3,
                "targetCPUUtilizationPercentage": 80,
                "behavior": _AT_ONCE,
            },
        },
    }
    release = Release(new())
    release.install(merged(QUICK, values))
    under_load, idle = _scales_out_and_back(release)
    assert under_load > idle == 1
