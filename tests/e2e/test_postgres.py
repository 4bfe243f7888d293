"""A release on PostgreSQL: consumers on every node, and nothing is missing or doubled, whatever happens."""

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from e2e.cluster import (
    PATIENCE_S,
    POSTGRES,
    CommandFailed,
    Namespace,
    has_api,
    kubectl,
    nodes,
    on_node,
    run_given,
    until,
)
from e2e.conftest import NewNamespace
from e2e.external import certificate_for, secret
from e2e.postgres import CA_SECRET, HOST, POD, SECRET, deploy, longest_pause_s, query
from e2e.release import QUICK, Pod, Release, Values, merged

_KEDA: Final = "keda.sh/v1alpha1"
_DATABASE: Final[Values] = {"database": {"existingSecret": SECRET, "caSecret": CA_SECRET}}
_NEWER: Final = (
    "INSERT INTO telemetry.schema_migrations (version, name) "
    "SELECT max(version) + 1, 'later' FROM telemetry.schema_migrations"
)
_BETWEEN_BATCHES_S: Final = 0.5
"""How long nothing may be stored where nothing is wrong; an idle machine restarts a consumer in 0.8 s."""
_ROWS: Final = "SELECT count(*) FROM telemetry.events"
_ROLLED: Final = ("rollout", "status", "deployment/spread-consumer", f"--timeout={PATIENCE_S:g}s")


@pytest.fixture(scope="module")
def node(cluster: None) -> str:  # noqa: ARG001 - it decides whether there is one
    """Name the node that all data will be on; another one is there too."""
    found = nodes()
    if len(found) < 2:
        pytest.skip("one node only, so nothing can be spread")
    run_given("TELEMETRY_E2E_LOAD", POSTGRES)
    return found[0]


@pytest.fixture(scope="module")
def server(new: NewNamespace, node: str, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """Run a PostgreSQL in a namespace."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make certificates with")
    namespace = new(prefix="pg")
    deploy(namespace, tmp_path_factory.mktemp("tls"), node)
    return namespace


@pytest.fixture(scope="module")
def values(node: str) -> Values:
    """Give the values of the release: Redis and producer are on the node of the database."""
    # A write may take five seconds there, and a batch 12.5.
    waits = {"consumer": {"settings": {"claimIdleMs": 25_000}}}
    placed = {part: {"nodeSelector": on_node(node)} for part in ("redis", "producer")}
    return merged(QUICK, _DATABASE, waits, placed)


@pytest.fixture(scope="module")
def release(server: Namespace, values: Values) -> Release:
    """Install with four consumers at once on an empty database: each would make the tables."""
    one = Release(server, "spread")
    one.install(merged(values, {"consumer": {"replicas": 4}}))
    return one


def _works(pod: Pod) -> bool:
    return bool(pod.logged("batch_settled"))


def _last_words(pod: Pod) -> list[dict[str, Any]]:
    """Give the log lines of a consumer's container, or of the one before it."""
    lines = pod.logs("consumer", previous=bool(pod.restarts))
    # In place of a log that is gone there is a sentence.
    return [json.loads(line) for line in lines if line.startswith("{")]


def _all_work(release: Release, replicas: int) -> list[Pod]:
    pods = release.ready("consumer", replicas)
    for pod in pods:
        until(lambda pod=pod: _works(pod), PATIENCE_S, f"{pod.name} works")  # type: ignore[misc]
    return pods


def test_four_that_start_at_once_make_the_tables_and_run_on_every_node(release: Release) -> None:
    """One of them runs the migrations, the others wait for it; none restarts, and there is no volume."""
    pods = _all_work(release, 4)
    assert {pod.node for pod in pods} == set(nodes())
    assert sum(pod.restarts for pod in pods) == 0
    claims = [one["metadata"]["name"] for one in release.namespace.get("pvc")]
    assert sorted(claims) == ["data-pg-0", "data-spread-redis-0"]
    updates = [line["step"] for pod in pods for line in pod.logged("schema_updated")]
    steps = query(release.namespace, "SELECT json_agg(name ORDER BY name) FROM telemetry.schema_migrations")
    assert sorted(updates) == steps != []
    encrypted = (
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_port > 0"
    )
    assert query(release.namespace, encrypted) == "t"
    release.assert_nothing_is_lost()


def test_all_the_commands_find_the_database(release: Release) -> None:
    """By the Secret's words: rows, sums and dead letters; and there are some."""
    stored = json.loads(release.consumer("telemetry", "events", "--json", "--limit", "1").splitlines()[0])
    assert stored["event_id"]
    assert "conflict" not in release.consumer("telemetry", "dlq", "list")
    letters = query(release.namespace, "SELECT count(*) FROM telemetry.dead_letters")
    assert letters > 0


def test_helm_test_and_the_audits_job_need_no_volume(release: Release) -> None:
    """Both see what the consumers see."""
    assert "missing=0" in release.test()
    release.namespace.kubectl("create", "job", "audit-now", "--from=cronjob/spread-audit")
    release.namespace.kubectl("wait", "--for=condition=complete", "job/audit-now", "--timeout=90s")
    assert "missing=0" in release.namespace.kubectl("logs", "job/audit-now")


@pytest.fixture
def restart_s(release: Release) -> float:
    """Delete the only consumer, and tell how long nothing was stored: on this machine, at its load of now."""
    release.scale("consumer", 1)
    (pod,) = _all_work(release, 1)
    began = time.time()
    release.namespace.kubectl("delete", "pod", pod.name)
    _all_work(release, 1)
    release.flows()
    pause_s = longest_pause_s(release.namespace, began)
    release.scale("consumer", 4)
    _all_work(release, 4)
    print(f"\nlongest pause of a restart of the only consumer: {pause_s:.1f} s")
    return pause_s


@pytest.mark.alone
def test_an_upgrade_rolls_without_a_pause(release: Release, values: Values, restart_s: float) -> None:
    """New consumers come before old ones go, also on tables of one version newer: as after a rollback."""
    query(release.namespace, _NEWER)
    began = time.time()
    before = {pod.name for pod in release.pods("consumer")}
    try:
        changed = {"consumer": {"replicas": 4, "settings": {"batchSize": 200}}}
        release.upgrade(merged(values, changed))
        release.namespace.kubectl(*_ROLLED, timeout_s=PATIENCE_S + 10)
        pods = _all_work(release, 4)
        assert before.isdisjoint(pod.name for pod in pods)
        assert sum(pod.restarts for pod in pods) == 0
        assert {pod.node for pod in pods} == set(nodes())
        pause_s = longest_pause_s(release.namespace, began)
        print(f"\nlongest pause of a rolling upgrade: {pause_s:.1f} s")
        assert pause_s <= restart_s + _BETWEEN_BATCHES_S
    finally:
        query(release.namespace, "DELETE FROM telemetry.schema_migrations WHERE name = 'later'")
    release.assert_nothing_is_lost()


def test_a_version_that_is_too_old_for_the_tables_replaces_nobody(release: Release) -> None:
    """The rollout stands still, the new pod says why, and those of before go on."""
    for _ in range(2):
        query(release.namespace, _NEWER)
    try:
        before = {pod.name for pod in release.ready("consumer", 4)}
        release.namespace.kubectl("rollout", "restart", "deployment/spread-consumer")

        def refused() -> list[dict[str, Any]]:
            new = [pod for pod in release.pods("consumer") if pod.name not in before and pod.restarts]
            return [line for pod in new for line in _last_words(pod)]

        lines = until(refused, PATIENCE_S, "a new pod gives up")
        assert any("has schema" in str(line) for line in lines), lines
        # Nor may a command of that version read: the rows are counted by the server.
        rows = query(release.namespace, _ROWS)
        until(lambda: query(release.namespace, _ROWS) > rows + 200, PATIENCE_S, "those of before go on")
        assert len([pod for pod in release.pods("consumer") if pod.name in before and pod.is_ready]) >= 3
    finally:
        query(release.namespace, "DELETE FROM telemetry.schema_migrations WHERE name = 'later'")
    release.namespace.kubectl("rollout", "undo", "deployment/spread-consumer")
    release.ready("consumer", 4)
    release.assert_nothing_is_lost()


@pytest.fixture
def drained(node: str) -> Iterator[str]:
    """Name a node without data, and give it back afterwards."""
    other = next(one for one in nodes() if one != node)
    yield other
    kubectl("uncordon", other)


@pytest.mark.alone
def test_a_drained_node_makes_no_pause_longer_than_a_restart(
    release: Release, drained: str, restart_s: float
) -> None:
    """Consumers of the other node go on, and the drain ends: one goes at a time."""
    # Those of the rollout before are on whatever node there was.
    release.namespace.kubectl("rollout", "restart", "deployment/spread-consumer")
    release.namespace.kubectl(*_ROLLED, timeout_s=PATIENCE_S + 10)
    assert {pod.node for pod in _all_work(release, 4)} == set(nodes())
    release.assert_logs()
    began = time.time()
    ours = f"--pod-selector=app.kubernetes.io/instance={release.name}"
    kubectl("drain", drained, ours, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=100s")
    pods = _all_work(release, 4)
    assert {pod.node for pod in pods} == {one for one in nodes() if one != drained}
    pause_s = longest_pause_s(release.namespace, began)
    print(f"\nlongest pause of a drain: {pause_s:.1f} s")
    assert pause_s <= restart_s + _BETWEEN_BATCHES_S
    release.assert_nothing_is_lost()


def test_the_databases_pod_killed_is_waited_for(release: Release) -> None:
    """Crashed, and then deleted: nobody restarts with it, and all go on by themselves."""
    release.scale("consumer", 2)
    others = {pod.name: pod for pod in _all_work(release, 2)}
    for kill in (("exec", POD, "--", "sh", "-c", "kill -QUIT 1"), ("delete", "pod", POD)):
        began = time.time()
        before = release.namespace.get(f"pod/{POD}")
        release.namespace.kubectl(*kill)
        until(lambda before=before: _is_another(release, before), PATIENCE_S, "the server is another one")  # type: ignore[misc]
        release.flows()
        print(f"\nlongest pause of a killed database: {longest_pause_s(release.namespace, began):.1f} s")
    for pod in release.ready("consumer", 2):
        assert pod.restarts == others[pod.name].restarts
        assert pod.logged("write_unavailable")
    release.assert_nothing_is_lost()


def _is_another(release: Release, before: dict[str, Any]) -> bool:
    now = Pod(release.namespace, release.namespace.get(f"pod/{POD}"))
    is_same = now.document["metadata"]["uid"] == before["metadata"]["uid"]
    return now.is_ready and (not is_same or now.restarts > Pod(release.namespace, before).restarts)


def test_consumers_killed_without_grace_lose_nothing(release: Release) -> None:
    """All of them at once; what they held is taken over on whatever node."""
    for _ in range(2):
        for pod in _all_work(release, 2):
            pod.assert_log()
            release.namespace.kubectl("delete", "pod", pod.name, "--grace-period=0", "--force")
    _all_work(release, 2)
    release.assert_nothing_is_lost()


def test_keda_scales_over_the_nodes_from_one_to_four_and_back(release: Release, values: Values) -> None:
    """A stream that fills faster than one consumer empties it, an event at a time."""
    if not has_api(_KEDA) and not run_given("TELEMETRY_E2E_KEDA"):
        pytest.skip("no KEDA in the cluster, and no TELEMETRY_E2E_KEDA to install it with")
    release.scale("producer", 0)
    release.settled()
    release.scale("consumer", 1)
    keda = {
        "enabled": True,
        "maxReplicas": 4,
        "pollingInterval": 2,
        "lagCount": 500,
        "pendingEntriesCount": 500,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }
    scaled = {
        "producer": {"settings": {"rate": 1500, "streamMaxLength": 2500}},
        "consumer": {"settings": {"batchSize": 1}, "keda": keda},
    }
    release.upgrade(merged(values, scaled))
    release.scale("producer", 1)
    pods = release.ready("consumer", 4, 180)
    assert {pod.node for pod in pods} == set(nodes())
    release.flows()
    release.assert_logs()
    release.scale("producer", 0)
    release.settled()
    release.ready("consumer", 1, 180)
    release.settled()
    release.assert_logs()


def test_a_release_moves_from_sqlite_by_another_stream(server: Namespace, values: Values) -> None:
    """Without a copy: its audits start from nothing, and the rows are published again with their ids."""
    moved = Release(server, "moved")
    query(server, "CREATE DATABASE moved")
    on_sqlite = {key: value for key, value in values.items() if key != "database"}
    moved.install(merged(on_sqlite, {"consumer": {"persistence": {"keep": False}}}))
    moved.flows()
    moved.scale("producer", 0)
    before = moved.settled()
    lines = moved.consumer("telemetry", "events", "--json", "--limit", "0").splitlines()
    assert len(lines) == before["stored"]
    stream = {"settings": {"streamName": "moved_2"}, "redis": {"auth": {"stream": "moved_2"}}}
    database = {"database": {"name": "moved"}}
    with pytest.raises(CommandFailed, match="moved-consumer-data has what this release stored in SQLite"):
        moved.upgrade(merged(values, database, stream))
    moved.upgrade(on_sqlite)  # kept, from now on
    moved.upgrade(merged(values, database, stream))
    moved.scale("producer", 1)
    environment = ("env", "--unset=BATCH_SIZE", "--unset=SLEEP_INTERVAL", "PRODUCER_METRICS_PORT=0")
    publish = ("python", "-m", "services.producer", "--from", "-", "--format", "jsonl")
    target = ("deployment/moved-producer", "--container=producer")
    text = "\n".join(reversed(lines))
    moved.namespace.kubectl("exec", "--stdin", *target, "--", *environment, *publish, stdin=text)
    moved.consumer("telemetry", "audit", "--wait", "60")
    ids = ",".join(f"('{json.loads(line)['event_id']}'::uuid)" for line in lines)
    there = f"SELECT count(*) FROM telemetry.events JOIN (VALUES {ids}) AS old (event_id) USING (event_id)"  # noqa: S608
    assert query(server, there, "moved") == len(lines)
    assert {one["metadata"]["name"] for one in server.get("pvc")} >= {"moved-consumer-data"}
    moved.namespace.helm("uninstall", moved.name)


# What is wrong among the values, and what Helm or the consumer has to say about it.
_REFUSED: Final[dict[str, tuple[Values, str]]] = {
    "a key that the Secret lacks": (
        {"keys": {"host": "endpoint"}},
        "database.keys.host: the Secret pg-app has no key endpoint",
    ),
    "a port that is not the Secret's": ({"port": 6432}, "database.port: the Secret pg-app says 5432"),
}
_WRONG: Final[dict[str, tuple[Values, str]]] = {
    "nobody": ({"host": "nobody"}, "PostgreSQL at nobody:5432/telemetry"),
    "password": ({"existingSecret": "wrong"}, "password authentication failed"),
    "untrusted": ({"caSecret": "wrong-ca"}, "certificate verify failed"),
    "absent": ({"name": "absent"}, 'database "absent" does not exist'),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_what_the_secret_does_not_say_is_refused_before_a_pod_waits_for_it(
    server: Namespace, values: Values, case: str
) -> None:
    """By its name, with what the Secret has."""
    wrong, expected = _REFUSED[case]
    with pytest.raises(CommandFailed, match=expected):
        Release(server, "refused").start(merged(values, {"database": wrong}))


@pytest.fixture(scope="module")
def wrong(server: Namespace, values: Values, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    """Install a release for each thing that can be wrong, all at once, without producers."""
    texts = {"username": "app", "password": "guessed", "dbname": "telemetry", "host": HOST, "port": "5432"}
    certificate = certificate_for("elsewhere", tmp_path_factory.mktemp("wrong"))[1]
    server.apply(secret("wrong", **texts), secret("wrong-ca", **{"ca.crt": certificate.read_text()}))
    server.kubectl("create", "service", "clusterip", "nobody", "--tcp=5432")
    releases = {name: Release(server, name) for name in _WRONG}
    for name, release in releases.items():
        release.start(merged(values, {"database": _WRONG[name][0], "producer": {"enabled": False}}))
    return releases


@pytest.mark.parametrize("name", _WRONG)
def test_consumers_that_may_not_use_the_database_say_why(wrong: dict[str, Release], name: str) -> None:
    """In one line that names what to change, without the password and without a traceback."""
    release, expected = wrong[name], _WRONG[name][1]

    def complaint() -> str:
        (pod,) = release.pods("consumer")
        errors = [line.get("error", "") for line in _last_words(pod)]
        return "\n".join(error for error in errors if expected in error)

    said = until(complaint, PATIENCE_S, f"a consumer says {expected!r}")
    assert "guessed" not in said
    (pod,) = release.pods("consumer")
    assert not pod.is_ready
    assert "Traceback" not in "\n".join(pod.logs("consumer"))
    release.namespace.helm("uninstall", release.name)
