"""Consumers that can't reach Redis, though both are well: the network between their nodes is cut."""

import os

import pytest
from e2e.cluster import PATIENCE_S, Namespace, holds, nodes, on_node, run_given, until
from e2e.release import QUICK, Release, merged

_LIVENESS_TIMEOUT_S = 15
_CUT_OFF_S = 60


@pytest.fixture(scope="module")
def apart(cluster: None) -> tuple[str, str]:  # noqa: ARG001 - it decides whether there is one
    """Name two nodes that can be cut off from each other."""
    if not (os.environ.get("TELEMETRY_E2E_PARTITION") and os.environ.get("TELEMETRY_E2E_HEAL")):
        pytest.skip("no TELEMETRY_E2E_PARTITION and TELEMETRY_E2E_HEAL, so no network is cut")
    found = nodes()
    if len(found) < 2:
        pytest.skip("one node only, so no network is cut")
    return found[0], found[1]


@pytest.fixture(scope="module")
def release(namespace: Namespace, apart: tuple[str, str]) -> Release:
    """Install a release with the consumers on another node than everything else."""
    with_redis, with_data = (on_node(node) for node in apart)
    placed = {
        "redis": {"nodeSelector": with_redis},
        "producer": {"nodeSelector": with_redis},
        "consumer": {
            "replicas": 2,
            "nodeSelector": with_data,
            # Shorter than the cut: waiting for Redis is life, and no reason for a restart.
            "settings": {"livenessTimeoutS": _LIVENESS_TIMEOUT_S},
            "livenessProbe": {"periodSeconds": 2},
        },
    }
    one = Release(namespace)
    one.install(merged(QUICK, placed))
    return one


@pytest.mark.alone
def test_consumers_cut_off_from_redis_wait_unready_and_go_on(
    release: Release, apart: tuple[str, str]
) -> None:
    """For longer than their liveness timeout: none restarts, each says why, and nothing is lost."""
    release.assert_nothing_is_lost()
    try:
        run_given("TELEMETRY_E2E_PARTITION", *apart)
        until(
            lambda: all(pod.logged("redis_unavailable") for pod in release.pods("consumer")),
            PATIENCE_S,
            "both consumers say that Redis is away",
        )
        until(lambda: not any(pod.is_ready for pod in release.pods("consumer")), PATIENCE_S, "both unready")
        holds(
            lambda: not any(pod.is_ready or pod.restarts for pod in release.pods("consumer")),
            _CUT_OFF_S,
            "both consumers wait, unready",
        )
    finally:
        run_given("TELEMETRY_E2E_HEAL")
    release.ready("consumer", 2)
    for pod in release.pods("consumer"):
        assert not pod.restarts
        assert pod.logged("redis_back")
    release.assert_nothing_is_lost()
