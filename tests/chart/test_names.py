"""Names, labels and selectors: what belongs to a release, and to no other."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from chart.rendering import (
    SETS,
    Manifest,
    Pod,
    Rendered,
    annotations_of,
    labels_of,
    merged,
    nested,
    render,
    template,
)

pytestmark = pytest.mark.usefixtures("helm")

ALL: Final = merged(
    SETS["production"],
    {"redis": {"enabled": True}, "externalRedis": {"host": ""}},
)
"""A Redis and nearly everything else."""

CLUSTER_WIDE: Final = {"ClusterRole", "ClusterRoleBinding", "Namespace", "PersistentVolume", "PriorityClass"}
CHANGING: Final = {"app.kubernetes.io/version", "helm.sh/chart", "app.kubernetes.io/managed-by"}


def _selectors(rendered: Rendered) -> Iterator[tuple[str, dict[str, str]]]:
    """Give every selector of pods, with the name of what selects."""
    for one in rendered.all:
        spec, name = one.get("spec") or {}, f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] == "Service":
            yield name, spec["selector"]
        if one["kind"] in {"Deployment", "StatefulSet", "PodDisruptionBudget", "PodMonitor"}:
            yield name, _only_labels(spec["selector"])
        if one["kind"] == "NetworkPolicy":
            yield name, _only_labels(spec["podSelector"])
    for pod in rendered.pods:
        for term in _terms(pod.spec.get("affinity") or {}):
            yield f"affinity of {pod.name}", _of_its_component(term["labelSelector"], pod)
        for constraint in pod.spec.get("topologySpreadConstraints") or []:
            yield f"spread of {pod.name}", _only_labels(constraint["labelSelector"])


def _only_labels(selector: Manifest) -> dict[str, str]:
    assert selector.keys() == {"matchLabels"}, selector
    return selector["matchLabels"]  # type: ignore[no-any-return]


def _of_its_component(selector: Manifest, pod: Pod) -> dict[str, str]:
    """Give the labels by which a pod looks for those beside it: of its own kind, and of the others named."""
    component = pod.labels["app.kubernetes.io/component"]
    labels = dict(selector["matchLabels"])
    for one in selector.get("matchExpressions", ()):
        assert (one["key"], one["operator"]) == ("app.kubernetes.io/component", "In")
        assert {component, "consumer"} <= set(one["values"])
        labels[one["key"]] = component
    return labels


def _terms(affinity: Any) -> Iterator[Manifest]:
    """Give the required terms between pods."""
    for kind in ("podAffinity", "podAntiAffinity"):
        yield from (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or []


def _selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def _names(rendered: Rendered) -> set[tuple[str, str]]:
    return {(one["kind"], one["metadata"]["name"]) for one in rendered.all}


@pytest.mark.parametrize(
    "other", ["other", "demo-redis", "demo-consumer", "demo2", "telemetry-pipeline", "redis"]
)
def test_two_releases_in_one_namespace_share_nothing(other: str) -> None:
    """No name, and no selector that finds a pod of the other."""
    one, two = render(ALL), render(ALL, release=other)
    assert _names(one) & _names(two) == set()
    for mine, theirs in ((one, two), (two, one)):
        for name, selector in _selectors(mine):
            found = [pod.name for pod in theirs.pods if _selects(selector, pod.labels)]
            assert found == [], (name, selector)


@pytest.mark.parametrize("name", SETS)
def test_all_is_in_the_namespace_of_the_release_and_there_once(name: str) -> None:
    """So two namespaces hold two releases of one name."""
    rendered = render(SETS[name])
    assert len(_names(rendered)) == len(rendered.all)
    assert {one["kind"] for one in rendered.all} & CLUSTER_WIDE == set()
    for one in rendered.all:
        if not one["metadata"]["name"].startswith("demo-extra"):
            assert one["metadata"]["namespace"] == "telemetry", one["metadata"]["name"]


@pytest.mark.parametrize("name", SETS)
def test_every_selector_finds_pods_of_its_own_release_and_one_component(name: str) -> None:
    """And no selector has what changes with a version: it can never be changed."""
    rendered = render(SETS[name])
    for what, selector in _selectors(rendered):
        assert selector["app.kubernetes.io/instance"] == "demo", what
        assert selector.keys() & CHANGING == set(), what
        assert "team" not in selector, what
        found = {
            pod.labels["app.kubernetes.io/component"]
            for pod in rendered.pods
            if _selects(selector, pod.labels)
        }
        assert found, what
        if what.split()[0] != "NetworkPolicy":
            assert len(found) == 1, (what, found)


def test_selectors_outlast_every_value_that_is_no_name() -> None:
    """An upgrade could not change the selector of a Deployment."""
    before = dict(_selectors(render()))
    for name, values in SETS.items():
        if name in {"extras", "rolling"}:  # these change the name
            continue
        after = dict(_selectors(render(values)))
        for what in before.keys() & after.keys():
            if not what.startswith("NetworkPolicy"):
                assert before[what] == after[what], (name, what)


@pytest.mark.parametrize("release", ["a" * 53, "demo", "telemetry-pipeline", "my-redis"])
def test_names_are_short_enough(release: str) -> None:
    """For labels, for Services, and for the labels that controllers make of names."""
    for one in render(ALL, release=release).all:
        name = one["metadata"]["name"]
        most = {"StatefulSet": 52}.get(one["kind"], 63)
        assert len(name) <= most, (one["kind"], name)
        for label, text in labels_of(one).items():
            assert len(text) <= 63, (name, label)


@pytest.mark.parametrize("name", SETS)
def test_everything_has_the_recommended_labels(name: str) -> None:
    """On the object and on its pods; what one adds by extraObjects is left as it is."""
    rendered = render(SETS[name])
    expected = {"app.kubernetes.io/name", "app.kubernetes.io/instance", *CHANGING}
    for one in rendered.all:
        if not one["metadata"]["name"].startswith("demo-extra"):
            assert labels_of(one).keys() >= expected, one["metadata"]["name"]
            assert labels_of(one)["app.kubernetes.io/instance"] == "demo"
    for pod in rendered.pods:
        assert pod.labels.keys() >= {
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/component",
        }


def test_common_labels_and_annotations_are_on_everything() -> None:
    """On what Redis is made of too, by its own values."""
    common = {"commonLabels": {"team": "metrology"}, "commonAnnotations": {"contact": "metrology"}}
    rendered = render(merged(ALL, common, {"redis": common}))
    for one in rendered.all:
        assert labels_of(one)["team"] == "metrology", (one["kind"], one["metadata"]["name"])
        assert annotations_of(one)["contact"] == "metrology", (one["kind"], one["metadata"]["name"])


def test_labels_and_annotations_of_ones_own_are_there_once_whatever_they_are() -> None:
    """Those of the pods above those of all, both above the chart's; a selector's stand above everything."""
    taken = {
        "app.kubernetes.io/instance": "mine",
        "app.kubernetes.io/component": "mine",
        "app.kubernetes.io/part-of": "platform",
        "tier": "all",
    }
    pods = {"podLabels": {"tier": "pods"}, "podAnnotations": {"checksum/settings": "mine", "a": "pods"}}
    common: Manifest = {"commonLabels": taken, "commonAnnotations": {"a": "all"}}
    rendered = render(
        merged(
            ALL,
            common,
            {"redis": merged(common, pods), "producer": pods, "consumer": pods, "audit": pods},
        )
    )
    for pod in rendered.lasting_pods:
        assert pod.labels["app.kubernetes.io/instance"] == "demo"
        assert pod.labels["app.kubernetes.io/component"] in {"producer", "consumer", "redis", "audit"}
        assert (pod.labels["app.kubernetes.io/part-of"], pod.labels["tier"]) == ("platform", "pods")
        assert pod.annotations["a"] == "pods"
    for component in ("producer", "consumer"):
        assert rendered.pod(component).annotations["checksum/settings"] != "mine"


def test_a_release_may_have_a_number_for_a_name() -> None:
    """What YAML would read as one is a text all the same; Services have names of their own then."""
    rendered = render(merged(ALL, {"fullnameOverride": "readings"}), release="1234")
    for one in rendered.all:
        assert labels_of(one)["app.kubernetes.io/instance"] == "1234", one["kind"]
    for what, selector in _selectors(rendered):
        assert selector["app.kubernetes.io/instance"] == "1234", what


@pytest.mark.parametrize("release", ["1234", "my.release"])
def test_a_name_that_no_service_can_have_is_refused(release: str) -> None:
    """With the value that helps."""
    assert "fullnameOverride: the name" in template(release=release).stderr
    assert template({"fullnameOverride": "readings"}, release=release).returncode == 0
    named = {"fullnameOverride": "readings", "redis": {"fullnameOverride": "r.2"}}
    assert "/fullnameOverride" in template(named, release=release).stderr


def test_a_name_of_ones_own_stands_for_that_of_the_release() -> None:
    """It is the beginning of every name; Redis may have one of its own."""
    rendered = render(SETS["rolling"])
    for one in rendered.all:
        assert one["metadata"]["name"].startswith("readings"), one["metadata"]["name"]
    assert rendered.one("StatefulSet")["metadata"]["name"] == "readings-redis"
    assert rendered.environment("consumer")["REDIS_HOST"] == "readings-redis"
    for own, name in (("nameOverride", "readings-store"), ("fullnameOverride", "store")):
        named = render(merged(SETS["rolling"], nested(f"redis.{own}", "store")))
        assert named.one("StatefulSet")["metadata"]["name"] == name
        assert named.environment("consumer")["REDIS_HOST"] == name


def test_names_are_what_the_documentation_types() -> None:
    """`kubectl logs deploy/demo-consumer`, and the server at demo-redis."""
    rendered = render()
    assert {one["metadata"]["name"] for one in rendered.of("Deployment")} == {
        "demo-producer",
        "demo-consumer",
    }
    assert rendered.one("StatefulSet")["metadata"]["name"] == "demo-redis"
    assert "demo-redis" in {one["metadata"]["name"] for one in rendered.of("Service")}


@pytest.mark.parametrize("name", SETS)
def test_ports_are_found_by_the_names_that_point_to_them(name: str) -> None:
    """From a Service to its pods, from a monitor to its Service or pods, from a probe to its container."""
    rendered = render(SETS[name])
    for service in rendered.of("Service"):
        pods = [pod for pod in rendered.lasting_pods if _selects(service["spec"]["selector"], pod.labels)]
        assert pods, service["metadata"]["name"]
        for pod in pods:
            names = {port["name"] for port in pod.main["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for monitor in rendered.of("ServiceMonitor"):
        selector = _only_labels(monitor["spec"]["selector"])
        (service,) = (one for one in rendered.of("Service") if _selects(selector, labels_of(one)))
        names = {port["name"] for port in service["spec"]["ports"]}
        assert {one["port"] for one in monitor["spec"]["endpoints"]} <= names
    for monitor in rendered.of("PodMonitor"):
        selector = _only_labels(monitor["spec"]["selector"])
        (pod,) = (pod for pod in rendered.lasting_pods if _selects(selector, pod.labels))
        names = {port["name"] for port in pod.main["ports"]}
        assert {one["port"] for one in monitor["spec"]["podMetricsEndpoints"]} <= names
    for pod in rendered.lasting_pods:
        names = {port["name"] for port in pod.main.get("ports") or []}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = pod.main.get(kind) or {}
            port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
            assert port is None or port in names, (pod.name, kind)


@pytest.mark.parametrize("service", ["producer", "consumer"])
def test_the_port_of_the_metrics_is_the_one_that_the_service_opens(service: str) -> None:
    """By default and by value."""
    for values in (SETS["default"], SETS["settings"]):
        rendered = render(values)
        (port,) = (one for one in rendered.pod(service).main["ports"] if one["name"] == "http-metrics")
        assert str(port["containerPort"]) == rendered.environment(service)[f"{service.upper()}_METRICS_PORT"]


def test_no_container_has_a_variable_twice(rendered: Rendered) -> None:
    """Helm 4 applies on the server, where that is an error."""
    for pod in rendered.pods:
        for container in pod.containers:
            names = [one["name"] for one in container.get("env") or []]
            assert len(names) == len(set(names)), (pod.name, names)


def test_every_mount_has_its_volume_and_no_path_is_mounted_twice(rendered: Rendered) -> None:
    """And no volume is there twice."""
    for pod in rendered.pods:
        volumes = [one["name"] for one in pod.spec.get("volumes") or []]
        volumes += [one["metadata"]["name"] for one in pod.owner["spec"].get("volumeClaimTemplates") or []]
        assert len(volumes) == len(set(volumes)), pod.name
        for container in pod.containers:
            mounts = container.get("volumeMounts") or []
            assert {one["name"] for one in mounts} <= set(volumes), pod.name
            paths = [one["mountPath"] for one in mounts]
            assert len(paths) == len(set(paths)), pod.name
