"""What a user types first, in an empty namespace that enforces the restricted pod security."""

import json
import time
from pathlib import Path

import pytest
from e2e.cluster import CommandFailed, Namespace, until
from e2e.conftest import NewNamespace
from e2e.pages import block_of, typed
from e2e.release import QUICK, Release


@pytest.fixture(scope="module")
def demo(namespace: Namespace) -> Release:
    """Install with the default values alone: ready within a minute."""
    release = Release(namespace)
    began = time.monotonic()
    release.install({}, timeout_s=60)
    print(f"\nhelm install demo, with the default values: ready in {time.monotonic() - began:.1f} s")
    return release


@pytest.mark.alone
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


def test_helm_test_audits_and_leaves_nothing(demo: Release) -> None:
    """No row, no letter, no entry and no run more than before; also where no consumer runs."""
    assert "missing=0" in demo.test()
    with demo.quiet():
        before = demo.settled()
        demo.scale("consumer", 0)
        assert "missing=0" in demo.test()
        demo.scale("consumer", 1)
        after = demo.settled()
    for one in ("published", "stored", "dead"):
        assert after[one] == before[one]
    assert [run["run"] for run in after["runs"]] == [run["run"] for run in before["runs"]]
    demo.assert_nothing_is_lost()


def test_the_audit_can_be_asked_without_being_switched_on(demo: Release, tmp_path: Path) -> None:
    """As the page says: the CronJob is suspended, and there to make a Job of."""
    assert demo.namespace.get("cronjob/demo-audit")["spec"]["suspend"] is True
    commands = block_of("kubernetes.md", "## Watching it", "create job audit-now")
    with typed(demo.namespace, tmp_path, commands) as said:
        assert said.splitlines()[-1].endswith(" missing=0")


def test_pods_that_end_in_order_leave_the_group(demo: Release) -> None:
    """`telemetry groups` shows those that are there, and no others."""
    for replicas in (3, 1):
        demo.scale("consumer", replicas)
    demo.namespace.kubectl("rollout", "restart", "deployment/demo-consumer")
    demo.namespace.kubectl("rollout", "status", "deployment/demo-consumer", "--timeout=60s")

    def only_one() -> bool:
        (group,) = json.loads(demo.consumer("telemetry", "groups", "--json"))["groups"]
        return (group["consumers"], group["live"]) == (1, 1)

    until(only_one, 60, "one consumer in the group")


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
