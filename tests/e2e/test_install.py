"""What a user types first, in an empty namespace that enforces the restricted pod security."""

import time

import pytest
from e2e.cluster import CommandFailed, Namespace, until
from e2e.conftest import NewNamespace
from e2e.release import QUICK, Release


@pytest.fixture(scope="module")
def demo(namespace: Namespace) -> Release:
    """Install with the default values alone: ready within a minute."""
    release = Release(namespace)
    began = time.monotonic()
    release.install({}, timeout_s=60)
    print(f"\nhelm install demo, with the default values: ready in {time.monotonic() - began:.1f} s")
    return release


def test_a_release_with_default_values_is_ready_within_a_minute_and_events_flow(demo: Release) -> None:
    """Helm itself gives up after 60 s; then both services tell of events, and none is lost."""
    (producer,) = demo.ready("producer")
    (consumer,) = demo.ready("consumer")
    until(lambda: producer.logged("published"), 30, "the producer tells of events")
    until(lambda: consumer.logged("batch_settled"), 30, "the consumer tells of events")
    demo.assert_nothing_is_lost()


def test_no_container_has_restarted(demo: Release) -> None:
    """Whatever comes up first waits for the others."""
    assert {pod.name: pod.restarts for pod in demo.pods() if pod.restarts} == {}


def test_helm_test_publishes_events_and_audits_them(demo: Release) -> None:
    """And the audit of the release holds with them in it."""
    assert "missing=0" in demo.test()
    demo.assert_nothing_is_lost()


def test_two_releases_in_two_namespaces_know_nothing_of_each_other(demo: Release, new: NewNamespace) -> None:
    """The same name in both; each audits its own producer runs."""
    other = Release(new())
    other.install(QUICK)
    other.flows()
    runs = [{run["run"] for run in release.audit()["runs"]} for release in (demo, other)]
    assert runs[0].isdisjoint(runs[1])
    demo.assert_nothing_is_lost()
    other.assert_nothing_is_lost()


def test_a_release_that_is_installed_again_goes_on_with_the_kept_volumes(demo: Release) -> None:
    """Uninstalled beside running producers; the events of before are all there, with their proof."""
    before = demo.flows(events=1)
    demo.assert_logs()
    demo.namespace.helm("uninstall", demo.name)
    until(lambda: not demo.pods(), 90, "the pods are gone")
    claims = {one["metadata"]["name"] for one in demo.namespace.get("persistentvolumeclaims")}
    assert claims == {"demo-consumer-data", "data-demo-redis-0"}
    demo.install(QUICK)
    after = demo.assert_nothing_is_lost()
    assert after["published"] > before["published"]
    assert {run["run"] for run in before["runs"]} < {run["run"] for run in after["runs"]}


def test_a_misspelt_value_is_refused_by_name(namespace: Namespace) -> None:
    """Nothing is installed, and the message says which key it was."""
    with pytest.raises(CommandFailed, match="replica5"):
        Release(namespace, "misspelt").start({"consumer": {"replica5": 3}})
