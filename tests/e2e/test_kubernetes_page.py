"""docs/kubernetes.md, and what other pages have of Kubernetes: the commands as they stand, with each Helm.

They are typed in the order of the page. A section that begins anew has a namespace without a release; the
others go on with the release of the section before.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest
from e2e import external, postgres
from e2e.cluster import (
    PATIENCE_S,
    POSTGRES,
    ROOT,
    Manifest,
    Namespace,
    has_api,
    kubectl,
    new_namespace,
    nodes,
    run_given,
    until,
)
from e2e.external import secret
from e2e.pages import block_of, typed, with_own
from e2e.release import Release

IS_SHORT: Final = os.environ.get("TELEMETRY_E2E_SHORT") == "1"
_PAGE: Final = "kubernetes.md"
_FIRST: Final = "## A first run"
_OWN_REDIS: Final = "## Your own Redis"
_INSTALL: Final = "helm install demo charts/telemetry-pipeline --wait\n"
_FOLLOW: Final = "kubectl logs deploy/demo-consumer --follow"
_UPGRADE: Final = "helm upgrade demo charts/telemetry-pipeline --reset-then-reuse-values --set ..."
"""How the page says that a value is changed."""
_REMOVE: Final = block_of(_PAGE, "## Uninstall", "kubectl delete pvc")
_CRD: Final = "apiextensions.k8s.io/v1"
_HEAD: Final = "time,device_id,zone,temperature\n"
_ROWS: Final = (
    "2026-03-01T06:00:00Z,shed-1,garden,14.5\n",
    "2026-03-01T06:10:00Z,shed-2,garden,15.5\n",
    "2026-03-01T06:20:00Z,shed-1,garden,16.5\n",
)


@pytest.fixture(scope="module", autouse=True)
def _one_helm(helm_program: str) -> None:
    """Leave the other Helm out where time is short."""
    if helm_program != "helm" and IS_SHORT:
        pytest.skip("TELEMETRY_E2E_SHORT=1: the page is typed with one Helm, since each takes ten minutes")


@pytest.fixture(scope="module")
def monitors(cluster: None) -> Iterator[None]:  # noqa: ARG001 - it decides whether there is one
    """Make the kinds of the Prometheus operator, where it is not there."""
    kinds = [] if has_api("monitoring.coreos.com/v1") else [_kind("ServiceMonitor"), _kind("PrometheusRule")]
    for kind in kinds:
        kubectl("apply", "--filename=-", stdin=json.dumps(kind))
        kubectl("wait", "--for=condition=Established", f"crd/{kind['metadata']['name']}", "--timeout=60s")
    yield
    for kind in kinds:
        kubectl("delete", "crd", kind["metadata"]["name"], "--wait=false")


def _kind(name: str) -> Manifest:
    group, one = "monitoring.coreos.com", name.lower()
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": _CRD,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{one}s.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": name, "listKind": f"{name}List", "plural": f"{one}s", "singular": one},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


@pytest.fixture(scope="module")
def main(
    helm_program: str,
    monitors: None,  # noqa: ARG001 - they go when no release has any
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Namespace]:
    """Make the namespace of most sections, with the PostgreSQL and the Valkey that are the reader's own."""
    if IS_SHORT:
        pytest.skip("TELEMETRY_E2E_SHORT=1: what needs servers of one's own takes seven minutes")
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make certificates with")
    run_given("TELEMETRY_E2E_LOAD", POSTGRES)
    with new_namespace(helm_program, "page") as one:
        postgres.deploy(one, tmp_path_factory.mktemp("postgres"), nodes()[0])
        external.deploy(one, tmp_path_factory.mktemp("valkey"))
        yield one


@pytest.fixture(scope="module")
def apart(helm_program: str) -> Iterator[Namespace]:
    """Make the namespace of the first section, and of those about files, upgrades and volumes."""
    with new_namespace(helm_program, "page") as one:
        yield one


@pytest.fixture
def fresh(helm_program: str) -> Iterator[Namespace]:
    """Make a namespace for one section."""
    with new_namespace(helm_program, "page") as one:
        yield one


def _type(namespace: Namespace, folder: Path, commands: str) -> str:
    with typed(namespace, folder, commands) as said:
        return said


def _last_audit(said: str) -> str:
    """See that no audit misses an event; give the last line of the last one."""
    audits = [line for line in said.splitlines() if line.startswith("audit: ")]
    assert [line for line in audits if not line.endswith(" missing=0")] == []
    return audits[-1]


def _upgrade(values: str) -> str:
    """Give the command of the page that changes values."""
    assert f"`{_UPGRADE}`" in (ROOT / "docs" / _PAGE).read_text(encoding="utf-8")
    return with_own(_UPGRADE, {"...": values})


def _other_redis(namespace: Namespace) -> Mapping[str, str]:
    """Give the host of the Valkey, where the page has one's own."""
    return {"redis.example.com": f"external.{namespace.name}"}


def _its_secret() -> str:
    line, *_ = block_of(_PAGE, _OWN_REDIS, "generic telemetry-redis").splitlines(keepends=True)
    return with_own(line, {"password=...": f"password='{external.PASSWORD}'"})


def test_the_first_run_of_the_readme_and_of_the_page(apart: Namespace, tmp_path: Path) -> None:
    """Three pods, lines of the log, and a proof; it is scaled and upgraded, and goes with its data."""
    readme = block_of("../README.md", "## On Kubernetes", "make cluster")
    shown = block_of(_PAGE, _FIRST, "kubectl get pods\n")
    # The page has the same again, and then what its transcript shows.
    assert readme.startswith(block_of(_PAGE, _FIRST, "make cluster images"))
    assert shown.startswith(_INSTALL)
    # Until its first line of a batch, as by Ctrl-C.
    stopped = f"{{ {_FOLLOW} || true; }} | grep --max-count=1 batch_settled"
    commands = with_own(readme, {_FOLLOW: stopped}) + shown.removeprefix(_INSTALL)
    said = _type(apart, tmp_path, commands)
    assert "STATUS: deployed" in said
    assert len(re.findall(r"^demo-\S+ +1/1 +Running +0 ", said, re.MULTILINE)) == 2 * 3
    assert said.count('"service": "consumer"') == 1 + 3  # lines of the log
    assert "stored=0 " not in _last_audit(said)
    _type(apart, tmp_path, block_of("how-to/scaling.md", "## On Kubernetes", "kubectl scale"))
    release = Release(apart)
    release.ready("consumer", 4)
    _last_audit(_type(apart, tmp_path, block_of("how-to/upgrade.md", "## On Kubernetes", "helm upgrade")))
    release.ready("consumer", 4)
    release.assert_logs()
    _type(apart, tmp_path, _REMOVE)
    assert apart.get("pvc") == []


def test_consumers_on_every_node_with_the_secret_of_each_program(main: Namespace, tmp_path: Path) -> None:
    """CloudNativePG's, Crossplane's, and one's own; what is installed again goes on where it was."""
    heading = "## PostgreSQL, and consumers on every node"
    release = Release(main)
    _last_audit(_type(main, tmp_path, block_of(_PAGE, heading, "kubectl get pods --selector")))
    assert {pod.node for pod in release.ready("consumer", 4)} == set(nodes())
    before = release.audit()["stored"]
    server = {"endpoint": postgres.HOST, "port": str(postgres.PORT)}
    main.apply(secret("orders-db", username=postgres.USER, password=postgres.PASSWORD, **server))
    own = {
        "password=...": f"password='{postgres.PASSWORD}'",
        "database.host=pg.example.com": f"database.host={postgres.HOST}",
        "database.port=6432": f"database.port={postgres.PORT}",
        "database.user=telemetry": f"database.user={postgres.USER}",
        # The system's authorities have not signed for it.
        "sslmode=verify-full": f"sslmode=verify-full --set database.caSecret={postgres.CA_SECRET}",
    }
    others = (
        block_of(_PAGE, heading, "database.keys.host=endpoint"),
        with_own(block_of(_PAGE, heading, "generic demo-database"), own),
    )
    for commands in others:
        _type(main, tmp_path, f"helm uninstall demo\n{commands}")
        release.ready("consumer")
        release.ready("producer")
        stored = release.flows(events=1)["stored"]
        assert stored > before
        before = stored
    release.assert_logs()
    _type(main, tmp_path, _REMOVE)
    assert [one["metadata"]["name"] for one in main.get("pvc")] == ["data-pg-0"]


def test_from_sqlite_to_postgresql(main: Namespace, tmp_path: Path) -> None:
    """Most of it beforehand, and the rest by the upgrade, which waits until no consumer has the claim."""
    release = Release(main)
    until(lambda: not release.pods(), PATIENCE_S, "the pods of before are gone")
    postgres.query(main, "DROP SCHEMA telemetry CASCADE")
    _type(main, tmp_path, block_of(_PAGE, _FIRST, "minikube start"))
    egress = json.dumps([{"ports": [{"port": postgres.PORT}]}])
    _type(
        main,
        tmp_path,
        _upgrade(f"networkPolicy.enabled=true --set-json networkPolicy.extraEgress='{egress}'"),
    )
    user = f"{postgres.USER}:{quote(postgres.PASSWORD, safe='')}"
    url = f"postgresql://{user}@{postgres.HOST}/{postgres.DATABASE}"
    own = {"NAMESPACE/RELEASE": f"{main.name}/demo", "postgresql://...": f"'{url}'"}
    beforehand = block_of("moving-to-postgres.md", "## On Kubernetes", "telemetry copy")
    _type(main, tmp_path, with_own(beforehand, own))
    rows = "SELECT count(*) FROM telemetry.events"
    copied = postgres.query(main, rows)
    assert copied > 0
    commands = block_of(_PAGE, "### From SQLite to PostgreSQL", "job/demo-copy")
    upgrade, _, _ = f"helm upgrade{commands.partition('helm upgrade')[2]}".partition("kubectl")
    with pytest.raises(AssertionError, match="consumers still store on the claim demo-consumer-data"):
        _type(main, tmp_path, upgrade)
    before = release.audit()["stored"]
    said = _type(main, tmp_path, commands)
    assert "the same: PostgreSQL at" in said
    _last_audit(said)
    assert postgres.query(main, rows) > max(copied, before)
    release.ready("consumer", 2)
    with release.quiet():
        release.settled()
    release.assert_logs()


def test_a_redis_of_ones_own(fresh: Namespace, tmp_path: Path) -> None:
    """By its password; the release runs none of its own."""
    external.deploy(fresh, tmp_path)
    _, _, install = block_of(_PAGE, _OWN_REDIS, "generic telemetry-redis").partition("\n")
    _type(fresh, tmp_path, _its_secret() + with_own(install, _other_redis(fresh)))
    release = Release(fresh)
    release.ready("consumer")
    release.ready("producer")
    assert release.pods("redis") == []
    release.assert_nothing_is_lost()


def test_from_the_charts_redis_to_another_and_back(main: Namespace, tmp_path: Path) -> None:
    """All is stored before; what is on the volume is told of, and there again afterwards."""
    release = Release(main)
    before = release.audit()
    commands = block_of(_PAGE, "### From the chart's Redis to another", "scale deploy/demo-producer")
    reused = "--reset-then-reuse-values"
    own = {**_other_redis(main), reused: f"{reused} --set copy.enabled=false"}  # as the section before says
    said = _type(main, tmp_path, _its_secret() + with_own(commands, own))
    assert "pending=0 undelivered=0 missing=0" in _last_audit(said)
    assert "volume data-demo-redis-0 is still there" in said
    release.ready("producer")
    release.ready("consumer", 2)
    assert release.pods("redis") == []
    release.flows(events=1)
    _type(main, tmp_path, _upgrade("redis.enabled=true --set externalRedis.host= --wait"))
    assert release.audit()["published"] > before["published"]


def test_a_password_that_changes(main: Namespace, tmp_path: Path) -> None:
    """Without a restart; events flow on."""
    release = Release(main)
    before = {pod.name: pod.restarts for pod in release.pods()}
    _type(main, tmp_path, block_of(_PAGE, "### Passwords that change", "patch secret demo-redis"))
    release.flows(events=1)
    assert {pod.name: pod.restarts for pod in release.pods()} == before


def test_templates_that_are_rendered_without_a_cluster(fresh: Namespace, tmp_path: Path) -> None:
    """With a Secret of one's own, another rendering changes nothing."""
    commands = block_of(_PAGE, "### Passwords that change", "generic demo-passwords")
    _type(fresh, tmp_path, commands)
    release = Release(fresh)
    release.ready("consumer")
    release.flows(events=1)
    before = {pod.name: pod.restarts for pod in release.pods()}
    render, _, apply = f"helm template{commands.partition('helm template')[2]}".partition(" | ")
    assert _type(fresh, tmp_path, render) == _type(fresh, tmp_path, render)
    _type(fresh, tmp_path, f"{render} | {apply}")
    assert {pod.name: pod.restarts for pod in release.pods()} == before
    release.assert_logs()


def test_watching_it(main: Namespace, tmp_path: Path) -> None:
    """Monitors and rules are made, the audit runs by the clock, and at once where one asks."""
    heading = "## Watching it"
    _type(main, tmp_path, block_of(_PAGE, heading, "serviceMonitor.enabled"))
    for kind, count in (("servicemonitors", 2), ("prometheusrules", 2)):
        found = main.get(f"{kind}.monitoring.coreos.com")
        assert [one["metadata"]["labels"]["release"] for one in found] == count * ["kube-prometheus-stack"]
    assert main.get("cronjob/demo-audit")["spec"]["suspend"] is False
    _last_audit(_type(main, tmp_path, block_of(_PAGE, heading, "create job audit-now")))


def test_a_file_once_and_once_more_with_more_lines(apart: Namespace, growing: str, tmp_path: Path) -> None:
    """A Job publishes it; the next one has the lines that are new."""
    reused = "--reset-then-reuse-values"
    file, heading = tmp_path / "measurements.csv", "## A file, once"
    file.write_text(_HEAD + "".join(_ROWS[:2]), encoding="utf-8")
    publish = block_of(_PAGE, heading, "--install demo")
    _type(apart, tmp_path, with_own(publish, {reused: f"{reused} --set global.storageClass={growing}"}))
    release = Release(apart)
    until(lambda: release.audit()["stored"] == 2, PATIENCE_S, "the file is stored")
    file.write_text(_HEAD + "".join(_ROWS), encoding="utf-8")
    _type(apart, tmp_path, block_of(_PAGE, heading, "kubectl replace"))
    until(lambda: release.audit()["stored"] == 3, PATIENCE_S, "the new line is stored")


def test_a_group_that_was_renamed(apart: Namespace, tmp_path: Path) -> None:
    """The one of before is shown, and removed."""
    _type(apart, tmp_path, _upgrade("settings.groupName=readers --wait"))
    said = _type(apart, tmp_path, block_of(_PAGE, "## Upgrades", "telemetry groups remove"))
    assert "readers" in said
    assert "removed the group telemetry_consumers" in said
    left = json.loads(Release(apart).consumer("telemetry", "groups", "--json"))["groups"]
    assert [one["name"] for one in left] == ["readers"]


def test_a_larger_volume(apart: Namespace, tmp_path: Path) -> None:
    """Of the consumers by its value, of Redis by its claim; nothing is restarted."""
    before = {pod.name: pod.restarts for pod in Release(apart).pods()}
    _type(apart, tmp_path, block_of(_PAGE, "## A larger volume", "kubectl patch pvc"))
    sizes = {
        one["metadata"]["name"]: one["spec"]["resources"]["requests"]["storage"] for one in apart.get("pvc")
    }
    assert sizes == {"demo-consumer-data": "20Gi", "data-demo-redis-0": "16Gi"}
    assert {pod.name: pod.restarts for pod in Release(apart).pods()} == before
