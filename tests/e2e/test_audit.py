"""The audit at fixed times: its CronJob runs, and a consumer's metrics tell what it found."""

import re
from typing import Final

import pytest
from e2e.cluster import PATIENCE_S, CommandFailed, Namespace, has_api, kubectl, until
from e2e.release import QUICK, Release, merged
from runbooks import shell_commands

# Midnight of a new year: in a test it runs when it is told to.
_NEVER: Final = {"audit": {"enabled": True, "schedule": "0 0 1 1 *"}}
_EVERY_MINUTE: Final = {"audit": {"enabled": True, "schedule": "* * * * *"}}
_NO_BREAKER: Final = {"consumer": {"settings": {"dlqBreakerRatio": 0}}}
_SILENCE: Final = {"consumer": {"settings": {"silentAfterS": 60}}}
"""A runbook's command asks for silent devices."""
_OURS: Final = {"consumer": {"podLabels": {"audited": "here"}}}
"""Other releases are called demo as well; a drain is to leave them where they are."""

# Runs in a consumer's container, which has no other HTTP client.
_METRICS: Final = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8000/metrics", timeout=5).read().decode())
"""
_DELETE: Final = """
import sqlite3, time
connection = sqlite3.connect("/data/telemetry.db", timeout=30, isolation_level=None)
# Stored from now on, so no audit has proven it; and 50 behind it, so that who publishes it twice has done so.
(seen,) = connection.execute("SELECT max(event_id) FROM telemetry_events").fetchone()
later = "FROM telemetry_events WHERE event_id > ?"
delete = (
    f"DELETE FROM telemetry_events WHERE event_id = (SELECT min(event_id) {later}) "
    f"AND (SELECT count(*) {later}) > 50"
)
while connection.execute(delete, (seen, seen)).rowcount != 1:
    time.sleep(0.5)
"""
_KUBECTL: Final = [command[1:] for command in shell_commands() if command[0] == "kubectl"]


@pytest.fixture(scope="module")
def demo(namespace: Namespace) -> Release:
    """Install a release that is audited when it is told to; events flow, and some are dead letters.

    A runbook's command replays these, and they die again, all in one batch: the breaker would open.
    """
    release = Release(namespace)
    release.install(merged(QUICK, _OURS, _NEVER, _NO_BREAKER, _SILENCE))
    release.flows()
    return release


def _audit_now(demo: Release, name: str, condition: str) -> None:
    """Start the CronJob's Job, as a person would, and wait for its end."""
    demo.namespace.kubectl("create", "job", name, "--from=cronjob/demo-audit")
    ended = (f"--for=condition={condition}", f"job/{name}", f"--timeout={PATIENCE_S:g}s")
    demo.namespace.kubectl("wait", *ended, timeout_s=PATIENCE_S + 10)


def _gauge(demo: Release, name: str) -> float | None:
    """Read a metric of the consumer; None where it has none of that name."""
    found = re.search(rf"^{name} (\S+)$", demo.consumer("python", "-c", _METRICS), re.MULTILINE)
    return float(found[1]) if found else None


def test_an_audit_that_finds_nothing_is_in_the_metrics_of_a_consumer(demo: Release) -> None:
    """It ends well, and the replica that observes the group tells of it."""
    assert _gauge(demo, "telemetry_audit_missing_events") is None
    _audit_now(demo, "audit-clean", "Complete")
    until(lambda: _gauge(demo, "telemetry_audit_published_events"), PATIENCE_S, "the audit is told")
    assert _gauge(demo, "telemetry_audit_missing_events") == 0
    assert "missing=0" in demo.namespace.kubectl("logs", "job/audit-clean")


@pytest.mark.parametrize("command", _KUBECTL, ids=" ".join)
def test_a_command_of_a_runbook_works_on_the_cluster(demo: Release, command: list[str]) -> None:
    """As it is written, for a release that is called demo."""
    if command[0] == "top" and not has_api("metrics.k8s.io/v1beta1"):
        pytest.skip("this cluster has no metrics API, so `kubectl top` has nothing to say")

    def works() -> bool:
        try:
            demo.namespace.kubectl(*command)
        except CommandFailed as failed:
            # Letters whose event has no readable id can't be replayed as they are, and the command says so.
            if "without a readable event_id" not in str(failed):
                raise
        return True

    # The metrics of pods that are new come after a minute.
    assert until(works, PATIENCE_S, "it works")


def test_an_audit_that_misses_an_event_fails_and_says_so(demo: Release) -> None:
    """A row is deleted that none has seen: the Job fails, and is not tried again."""
    demo.consumer("python", "-c", _DELETE)
    _audit_now(demo, "audit-missing", "Failed")
    until(lambda: _gauge(demo, "telemetry_audit_missing_events") == 1, PATIENCE_S, "one is missing")
    assert demo.namespace.get("job/audit-missing")["status"]["failed"] == 1


def test_an_audit_needs_no_consumer(demo: Release) -> None:
    """None is wanted, and the Job is put where the volume is."""
    demo.scale("consumer", 0)
    # The row that was deleted above is missing still.
    _audit_now(demo, "audit-alone", "Failed")
    assert "missing=1" in demo.namespace.kubectl("logs", "job/audit-alone")
    demo.scale("consumer", 1)


@pytest.mark.alone
def test_an_audit_can_be_asked_while_the_node_of_the_data_is_drained(demo: Release) -> None:
    """The consumers are gone, and can't come back before the node does."""
    node = demo.pod("consumer").node
    ours = "--pod-selector=audited=here"
    try:
        kubectl("drain", node, ours, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=100s")
        until(lambda: not any(pod.is_ready for pod in demo.pods("consumer")), 60, "no consumer runs")
        _audit_now(demo, "audit-drained", "Failed")
        assert "missing=1" in demo.namespace.kubectl("logs", "job/audit-drained")
    finally:
        kubectl("uncordon", node)
    demo.ready("consumer")


def test_the_schedule_starts_audits(demo: Release) -> None:
    """Every minute now; each is as the one that was started by hand, so it fails."""
    before = _gauge(demo, "telemetry_audit_last_run_timestamp_seconds")
    assert before is not None
    demo.upgrade(merged(QUICK, _OURS, _EVERY_MINUTE, _NO_BREAKER))
    until(
        lambda: (_gauge(demo, "telemetry_audit_last_run_timestamp_seconds") or 0) > before,
        PATIENCE_S,
        "an audit by the clock",
    )
    assert demo.namespace.get("cronjob/demo-audit")["status"]["lastScheduleTime"]
