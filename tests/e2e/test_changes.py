"""What people change in a release that runs: passwords, the group, the file of a replay, the Redis itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from e2e import external
from e2e.cluster import CHART, PATIENCE_S, CommandFailed, Namespace, until
from e2e.conftest import NewNamespace
from e2e.release import QUICK, Release, Values, merged

_USERS: Final = ("producer", "consumer", "operator", "observer")
_OLD, _NEW = "telemetry_consumers", "readers"
_HOLD: Final[Values] = {"producer": {"settings": {"streamMaxLength": 4000}}}


@pytest.fixture(scope="module")
def demo(namespace: Namespace) -> Iterator[Release]:
    """Install a release; after all of it, no event is lost, and no pod was restarted."""
    release = Release(namespace)
    release.install(merged(QUICK, _HOLD))
    release.flows()
    yield release
    release.assert_nothing_is_lost()
    assert {pod.name: pod.restarts for pod in release.pods() if pod.restarts} == {}


def _restarts(release: Release) -> dict[str, int]:
    return {pod.name: pod.restarts for pod in release.pods()}


def test_passwords_that_are_rotated_hold_without_a_restart(demo: Release) -> None:
    """All four at once. Commands in a pod connect anew, and work when the kubelets have brought them."""
    before = _restarts(demo)
    changed = {f"{user}-password": f"{user}-rotated" for user in _USERS}
    patch = json.dumps({"stringData": changed})
    demo.namespace.kubectl("patch", "secret", "demo-redis", "--patch", patch)
    until(lambda: "those of the Secret hold now" in _log(demo, "redis"), PATIENCE_S, "Redis has read them")
    demo.flows()
    assert _restarts(demo) == before
    # The probes had a minute and more to find fault with it.
    assert demo.pod("redis").is_ready


def test_templates_rendered_twice_without_a_cluster_do_no_harm(new: NewNamespace) -> None:
    """As Argo CD does it: each time other passwords. Nobody is killed for it, and events flow."""
    release = Release(new(), "rendered")
    arguments = ("template", release.name, CHART, "--values=-", "--skip-tests", "--kube-version=1.30.0")
    secrets = []
    for _ in range(2):
        manifests = release.namespace.helm(*arguments, stdin=json.dumps(QUICK))
        release.namespace.kubectl("apply", "--filename=-", stdin=manifests)
        release.ready("consumer")
        release.flows()
        secrets.append(release.namespace.get("secret/rendered-redis")["data"])
    assert secrets[0] != secrets[1]
    until(lambda: "those of the Secret hold now" in _log(release, "redis"), PATIENCE_S, "Redis has read them")
    release.flows()
    assert set(_restarts(release).values()) == {0}


def _log(release: Release, component: str) -> str:
    return "\n".join(release.pod(component).logs(component))


def test_a_group_that_was_renamed_is_named_and_removed(demo: Release) -> None:
    """The group of before holds the stream until it is full; the operator's command ends that."""
    demo.upgrade(merged(QUICK, _HOLD, {"settings": {"groupName": _NEW}}))

    def told() -> list[dict[str, Any]]:
        # The pod of before may be there for a moment still.
        lines = [line for pod in demo.pods("producer") for line in pod.logged("stream_full")]
        return [line for line in lines if line.get("held_by") == _OLD]

    line = until(told, PATIENCE_S, "the producer names the group that holds the stream")[0]
    assert line["held_entries"] > 3000
    found = json.loads(demo.consumer("telemetry", "groups", "--json"))["groups"]
    groups = {one["name"]: one for one in found}
    assert (groups[_NEW]["is_ours"], groups[_OLD]["is_ours"]) == (True, False)
    with pytest.raises(CommandFailed, match="GROUP_NAME"):
        demo.consumer("telemetry", "groups", "remove", _NEW, "--yes")
    until(lambda: _removed(demo), PATIENCE_S, "nobody reads by the old group, and it is removed")
    (producer,) = demo.ready("producer")
    until(lambda: producer.logged("stream_has_room"), PATIENCE_S, "the producer goes on")
    demo.flows()


def _removed(demo: Release) -> str:
    return demo.consumer("telemetry", "groups", "remove", _OLD, "--yes")


def test_a_replay_file_that_changed_is_another_job(new: NewNamespace) -> None:
    """Of a file that grew the rest is published, of other content all, and of the same again nothing."""
    release = Release(new(), "replay")
    head = "event_id,device_id,zone,ts,kpi,value\n"
    row = ",pump-1,hall,17000000{:02},temperature,{}\n"
    values = merged(QUICK, {"producer": {"mode": "replay", "replay": {"configMap": "file", "file": "a.csv"}}})
    jobs: list[set[str]] = []
    for rows, value in ((2, 21), (5, 21), (5, 21), (3, 22)):
        text = head + "".join(row.format(number, value) for number in range(rows))
        _config_map(release.namespace, "file", {"a.csv": text})
        options = ("--install", "--wait-for-jobs") if not jobs else ("--wait-for-jobs",)
        release.upgrade(values, *options)
        jobs.append({one["metadata"]["name"] for one in release.namespace.get("jobs")})
    assert jobs[0].isdisjoint(jobs[1])
    assert jobs[1] == jobs[2]
    assert jobs[2].isdisjoint(jobs[3])
    (name,) = jobs[3]
    assert f"job/{name}" in release.namespace.helm("get", "notes", release.name)
    until(lambda: release.audit()["stored"] == 8, PATIENCE_S, "both files are stored")


def test_a_replay_that_can_not_use_its_file_ends_at_once(new: NewNamespace) -> None:
    """One pod, which says why, and no other is tried."""
    release = Release(new(), "unusable")
    _config_map(release.namespace, "file", {"a.csv": "no,such,columns\n1,2,3\n"})
    values = {"producer": {"mode": "replay", "replay": {"configMap": "file", "file": "a.csv"}}}
    release.start(merged(QUICK, values))  # helm that waits fails with the Job, where it sees that in time
    (job,) = release.namespace.get("jobs")
    name = job["metadata"]["name"]
    release.namespace.kubectl("wait", "--for=condition=Failed", f"job/{name}", "--timeout=60s")
    (pod,) = release.pods("producer")
    assert pod.logged("source_unusable")
    (failed,) = (
        one for one in release.namespace.get(f"job/{name}")["status"]["conditions"] if one["type"] == "Failed"
    )
    assert failed["reason"] == "PodFailurePolicy"


def _config_map(namespace: Namespace, name: str, data: dict[str, str]) -> None:
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def test_a_volume_that_goes_with_its_redis_is_told_of(new: NewNamespace, tmp_path: Path) -> None:
    """Before it is too late; one that is kept: test_kubernetes_page.py."""
    release = Release(new(), "moved")
    external.deploy(release.namespace, tmp_path)
    other = {
        "redis": {"enabled": False},
        "externalRedis": {"host": "external", "existingSecret": "external"},
    }
    brief = {"redis": {"persistence": {"keep": False}}}
    release.install(merged(QUICK, brief))
    release.upgrade(merged(QUICK, brief, other))
    notes = release.namespace.helm("get", "notes", release.name)
    assert "Its volume is deleted with it" in notes
    assert "still there" not in notes
