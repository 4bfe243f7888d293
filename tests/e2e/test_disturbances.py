"""One release under load, and one disturbance after another: after each, nothing is missing or doubled."""

import time

import pytest
from e2e.cluster import PATIENCE_S, CommandFailed, Namespace, kubectl, nodes, on_node, until
from e2e.release import QUICK, Pod, Release, merged

# Page after page of a file in memory: it counts for the container, and for no process of it. So where
# the limit is hit, the kernel ends the largest process, which is the consumer itself: process 1.
_FILL_MEMORY = """
import os
file = os.memfd_create("ballast")
while True:
    os.write(file, bytes(1 << 20))
"""


@pytest.fixture(scope="module")
def node(cluster: None) -> str:  # noqa: ARG001 - it decides whether there is one
    """Name the node that all data will be on."""
    return nodes()[-1]


@pytest.fixture(scope="module")
def release(namespace: Namespace, node: str) -> Release:
    """Install a release with all of its data on one node, under a name that no other pods have."""
    one = Release(namespace, "disturbed")
    one.install(merged(QUICK, {part: {"nodeSelector": on_node(node)} for part in ("redis", "consumer")}))
    return one


def _works(pod: Pod) -> bool:
    return bool(pod.logged("batch_settled"))


def test_consumers_scale_from_one_to_four_and_back(release: Release) -> None:
    """All four on the node of their volume, each with its share of the work."""
    release.scale("consumer", 4)
    consumers = release.pods("consumer")
    assert len({pod.node for pod in consumers}) == 1
    for pod in consumers:
        until(lambda pod=pod: _works(pod), PATIENCE_S, f"{pod.name} works")  # type: ignore[misc]
    release.assert_nothing_is_lost()
    release.scale("consumer", 1)
    release.assert_nothing_is_lost()


def test_an_upgrade_under_load_loses_nothing(release: Release, node: str) -> None:
    """Other settings for both services: their pods are replaced while events are published."""
    before = {pod.name for pod in release.pods() if not pod.name.endswith("redis-0")}
    changed = {
        "thresholds": {"temperature": 75},
        "producer": {"settings": {"rate": 800}},
        "consumer": {"settings": {"batchSize": 200}},
    }
    placed = {part: {"nodeSelector": on_node(node)} for part in ("redis", "consumer")}
    release.upgrade(merged(QUICK, placed, changed))
    release.ready("consumer")
    release.ready("producer")
    after = {pod.name for pod in release.pods()}
    assert before.isdisjoint(after)
    assert release.consumer("printenv", "BATCH_SIZE", "THRESHOLD_TEMPERATURE").split() == ["200", "75"]
    release.assert_nothing_is_lost()


def test_consumers_killed_without_grace_again_and_again_lose_nothing(release: Release) -> None:
    """Both at once, as soon as both work: what they held is taken over, and stored once."""
    release.scale("consumer", 2)
    for _ in range(5):
        for pod in release.ready("consumer", 2):
            until(lambda pod=pod: _works(pod), PATIENCE_S, f"{pod.name} works")  # type: ignore[misc]
            pod.assert_log()
            release.namespace.kubectl("delete", "pod", pod.name, "--grace-period=0", "--force")
    release.ready("consumer", 2)
    release.assert_nothing_is_lost()


def test_a_restart_of_redis_is_waited_for(release: Release) -> None:
    """Nobody restarts with it, both services say that it was away, and go on."""
    others = {pod.name: pod for name in ("producer", "consumer") for pod in release.pods(name)}
    release.namespace.kubectl("delete", "pod", f"{release.name}-redis-0")
    release.ready("redis")
    release.flows()
    for name in ("producer", "consumer"):
        for pod in release.ready(name, len(release.pods(name))):
            assert pod.restarts == others[pod.name].restarts
            until(lambda pod=pod: pod.logged("redis_back"), PATIENCE_S, f"{pod.name} goes on")  # type: ignore[misc]
            assert not pod.logged("redis_lost_writes")
    release.assert_nothing_is_lost()


def test_a_consumer_that_runs_out_of_memory_comes_back(release: Release) -> None:
    """Killed by the kernel in the middle of its work; started again, it goes on with what it held."""
    victim = release.pods("consumer")[0]

    def killed() -> bool:
        try:
            target = (victim.name, "--container=consumer")
            release.namespace.kubectl("exec", *target, "--", "python", "-c", _FILL_MEMORY)
        except CommandFailed:
            (pod,) = (pod for pod in release.pods("consumer") if pod.name == victim.name)
            return any(_was_out_of_memory(one) for one in pod.containers)
        return False

    until(killed, PATIENCE_S, "a consumer is killed for its memory")
    release.ready("consumer", 2)
    release.assert_nothing_is_lost()


def _was_out_of_memory(container: dict[str, dict[str, dict[str, str]]]) -> bool:
    states = (container["state"], container["lastState"])
    return any(state.get("terminated", {}).get("reason") == "OOMKilled" for state in states)


@pytest.mark.alone
def test_a_drain_of_the_node_with_the_data_ends_and_all_goes_on_when_it_is_back(
    release: Release, node: str
) -> None:
    """No PodDisruptionBudget holds it up, Redis and consumers leave together, and wait for their volumes."""
    release.assert_logs()
    # Only what is of this release: the cluster may have other work to do.
    ours = f"--pod-selector=app.kubernetes.io/instance={release.name}"
    try:
        kubectl("drain", node, ours, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=100s")
        until(lambda: all(pod.node != node for pod in release.pods()), 60, f"{node} is empty")
        assert not any(pod.is_ready for pod in release.pods("consumer"))
    finally:
        kubectl("uncordon", node)
    began = time.monotonic()
    release.ready("redis")
    release.ready("consumer", 2)
    print(f"\nready {time.monotonic() - began:.1f} s after the node was back")
    release.assert_nothing_is_lost()


def test_helm_test_passes_after_all_of_it(release: Release) -> None:
    """Whatever happened before, a new event finds its way."""
    assert "missing=0" in release.test()
    release.assert_nothing_is_lost()
