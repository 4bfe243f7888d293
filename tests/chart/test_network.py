"""NetworkPolicies, worked out by the rules of Kubernetes: who reaches whom."""

from dataclasses import dataclass
from typing import Any, Final

import pytest
from chart.rendering import POSTGRES, SETS, Manifest, Rendered, merged, nested, render

pytestmark = pytest.mark.usefixtures("helm")

DNS_PORT: Final = 53


@dataclass(frozen=True)
class Peer:
    """A pod somewhere in the cluster, or an address outside."""

    labels: dict[str, str]
    namespace: str = "telemetry"
    address: str = ""


STRANGER: Final = Peer({"app": "stranger"})
KEDA: Final = Peer({"app": "keda-operator"}, "keda")
PROMETHEUS: Final = Peer({"app.kubernetes.io/name": "prometheus"}, "monitoring")
DNS: Final = Peer({"k8s-app": "kube-dns"}, "kube-system")


def _pod(rendered: Rendered, component: str) -> Peer:
    return Peer(rendered.pod(component).labels)


def _labels_match(selector: Manifest, labels: dict[str, str]) -> bool:
    for one in selector.get("matchExpressions") or []:
        assert one["operator"] == "In", one
        if labels.get(one["key"]) not in one["values"]:
            return False
    return (selector.get("matchLabels") or {}).items() <= labels.items()


def _matches(rule: Manifest, peer: Peer) -> bool:
    if "ipBlock" in rule:
        return peer.address != "" and rule["ipBlock"]["cidr"].split(".")[:3] == peer.address.split(".")[:3]
    if peer.address:
        return False
    if "namespaceSelector" in rule:
        if not _labels_match(rule["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != "telemetry":
        return False
    return _labels_match(rule.get("podSelector") or {}, peer.labels)


def _lets(rendered: Rendered, pod: Peer, other: Peer, port: tuple[str, int], direction: str) -> bool:
    """Tell whether the policies on one pod let it talk to another, in one direction."""
    if pod.namespace != "telemetry" or pod.address:
        return True
    policies = [
        one["spec"]
        for one in rendered.of("NetworkPolicy")
        if direction in one["spec"]["policyTypes"] and _labels_match(one["spec"]["podSelector"], pod.labels)
    ]
    if not policies:
        return True
    key, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    for policy in policies:
        for rule in policy.get(key) or []:
            ports: list[Any] = [one["port"] for one in rule.get("ports") or []]
            if (not ports or port[0] in ports or port[1] in ports) and (
                not rule.get(peers) or any(_matches(one, other) for one in rule[peers])
            ):
                return True
    return False


def _reaches(rendered: Rendered, source: Peer, target: Peer, port: tuple[str, int]) -> bool:
    """Tell whether a connection comes about: the source may go out, and the target lets it in."""
    return _lets(rendered, source, target, port, "Egress") and _lets(
        rendered, target, source, port, "Ingress"
    )


REDIS_PORT: Final = ("redis", 6379)
METRICS: Final = ("http-metrics", 8000)
PRODUCER_METRICS: Final = ("http-metrics", 8001)


@pytest.mark.parametrize("name", ["default", "extras", "replay-volume", "valkey", "rolling", "audit"])
def test_what_has_to_talk_talks(name: str) -> None:
    """Both services, the audit and the pods of `helm test` to Redis, all of them to DNS."""
    rendered = render(SETS[name])
    redis = _pod(rendered, "redis")
    clients = [Peer(pod.labels) for pod in rendered.pods if pod.kind != "StatefulSet"]
    assert len(clients) == 4
    for client in clients:
        assert _reaches(rendered, client, redis, REDIS_PORT), client
        assert _reaches(rendered, client, DNS, ("dns", DNS_PORT)), client


def test_nobody_else_does() -> None:
    """A stranger in the namespace, another namespace, or the services among themselves."""
    rendered = render()
    producer, consumer, redis = (_pod(rendered, name) for name in ("producer", "consumer", "redis"))
    for peer in (STRANGER, KEDA, PROMETHEUS):
        assert not _reaches(rendered, peer, redis, REDIS_PORT)
        assert not _reaches(rendered, peer, consumer, METRICS)
        assert not _reaches(rendered, peer, producer, PRODUCER_METRICS)
    assert not _reaches(rendered, producer, consumer, METRICS)
    assert not _reaches(rendered, consumer, producer, PRODUCER_METRICS)
    for target in (STRANGER, PROMETHEUS, Peer({}, address="192.0.2.1")):
        for source in (producer, consumer, redis):
            assert not _reaches(rendered, source, target, ("https", 443)), source


def test_another_release_is_a_stranger() -> None:
    """Its consumers do not reach this Redis."""
    one, two = render(), render(release="other")
    assert not _lets(one, _pod(one, "redis"), _pod(two, "consumer"), REDIS_PORT, "Ingress")
    assert not _lets(two, _pod(two, "consumer"), _pod(one, "redis"), REDIS_PORT, "Egress")


def test_every_pod_is_denied_all_that_is_not_let_through(rendered: Rendered) -> None:
    """In and out; with the policies off, nothing is."""
    policies = rendered.of("NetworkPolicy")
    if not policies:
        assert rendered.text == render(SETS["network-policy-off"]).text
        return
    for pod in rendered.pods:
        directions = {
            direction
            for one in policies
            if _labels_match(one["spec"]["podSelector"], pod.labels)
            for direction in one["spec"]["policyTypes"]
        }
        assert directions == {"Ingress", "Egress"}, pod.name


def test_those_who_read_the_metrics_are_let_in_to_them_only() -> None:
    """To the port of the metrics of both services, and not to Redis."""
    rendered = render(SETS["network-policy-peers"])
    producer, consumer, redis = (_pod(rendered, name) for name in ("producer", "consumer", "redis"))
    for reader in (PROMETHEUS, Peer({}, address="10.1.0.7")):
        assert _reaches(rendered, reader, consumer, METRICS)
        assert _reaches(rendered, reader, producer, PRODUCER_METRICS)
        assert not _reaches(rendered, reader, redis, REDIS_PORT)
    assert not _reaches(rendered, Peer({}, "monitoring"), consumer, METRICS)
    assert not _reaches(rendered, STRANGER, consumer, METRICS)


EVENTS: Final = ("events", 8080)


def test_whoever_has_a_token_reaches_the_door_and_nothing_else() -> None:
    """Where nobody is named; in any other mode nobody does."""
    rendered = render(SETS["http"])
    producer, consumer = _pod(rendered, "producer"), _pod(rendered, "consumer")
    for peer in (STRANGER, PROMETHEUS, Peer({}, address="198.51.100.1")):
        assert _reaches(rendered, peer, producer, EVENTS)
        assert not _reaches(rendered, peer, producer, PRODUCER_METRICS)
        assert not _reaches(rendered, peer, consumer, EVENTS)
    assert not _reaches(render(), STRANGER, _pod(render(), "producer"), EVENTS)


def test_those_who_may_send_reach_the_door_alone() -> None:
    """On its own port; and those who read the metrics only those."""
    rendered = render(SETS["http-ingress"])
    producer = _pod(rendered, "producer")
    sender, port = Peer({}, "ingress"), ("events", 8443)
    assert _reaches(rendered, sender, producer, port)
    assert not _reaches(rendered, sender, producer, PRODUCER_METRICS)
    assert _reaches(rendered, PROMETHEUS, producer, PRODUCER_METRICS)
    for peer in (PROMETHEUS, STRANGER, Peer({}, address="198.51.100.1")):
        assert not _reaches(rendered, peer, producer, port)


def test_the_metrics_are_let_through_on_the_port_that_they_are_on() -> None:
    """A port of one's own too."""
    peers = SETS["network-policy-peers"]
    rendered = render(merged(peers, {"consumer": {"settings": {"consumerMetricsPort": 18000}}}))
    assert _reaches(rendered, PROMETHEUS, _pod(rendered, "consumer"), ("http-metrics", 18000))


def test_an_exporter_that_is_named_reaches_redis() -> None:
    """By redis.networkPolicy.allowFrom."""
    rendered = render(SETS["network-policy-peers"])
    assert _reaches(rendered, Peer({"app": "redis-exporter"}), _pod(rendered, "redis"), REDIS_PORT)


def test_only_the_dns_that_is_named_is_asked() -> None:
    """And a collector that is named is reached, on its port."""
    rendered = render(SETS["network-policy-peers"])
    consumer = _pod(rendered, "consumer")
    assert _reaches(rendered, consumer, DNS, ("dns", DNS_PORT))
    assert not _reaches(rendered, consumer, Peer({}, "kube-system"), ("dns", DNS_PORT))
    assert _reaches(rendered, consumer, Peer({}, "observability"), ("otlp", 4317))
    assert not _reaches(rendered, consumer, Peer({}, "observability"), ("http", 80))


def test_dns_is_asked_by_udp_and_tcp() -> None:
    """A long answer comes by TCP."""
    rendered = render()
    for policy in rendered.of("NetworkPolicy"):
        for rule in policy["spec"].get("egress") or []:
            ports = [one for one in rule.get("ports") or [] if one["port"] == DNS_PORT]
            assert not ports or {one["protocol"] for one in ports} == {"TCP", "UDP"}


def test_keda_reaches_redis_where_it_scales() -> None:
    """From the namespace that is named."""
    rendered = render(SETS["keda"])
    assert _reaches(rendered, KEDA, _pod(rendered, "redis"), REDIS_PORT)
    assert not _reaches(rendered, Peer({}, "other"), _pod(rendered, "redis"), REDIS_PORT)
    assert not _reaches(render(), KEDA, _pod(render(), "redis"), REDIS_PORT)
    elsewhere = render(merged(SETS["keda"], {"consumer": {"keda": {"namespace": "scaling"}}}))
    assert _reaches(elsewhere, Peer({}, "scaling"), _pod(elsewhere, "redis"), REDIS_PORT)


def test_an_external_redis_is_reached_where_it_is() -> None:
    """Anywhere on its port, or only where it is said to be."""
    anywhere = render(SETS["external-redis"])
    outside = Peer({}, address="198.51.100.1")
    assert _reaches(anywhere, _pod(anywhere, "consumer"), outside, ("redis", 6379))
    assert not _reaches(anywhere, _pod(anywhere, "consumer"), outside, ("https", 443))
    named = render(SETS["external-redis-tls"])
    for component in ("producer", "consumer"):
        assert _reaches(named, _pod(named, component), Peer({}, address="192.0.2.9"), ("redis", 6380))
        assert not _reaches(named, _pod(named, component), outside, ("redis", 6380))


def test_the_database_is_reached_by_all_that_open_it() -> None:
    """Anywhere on its port, or only where it is said to be; the producer has no business there."""
    anywhere = render(POSTGRES)
    outside = Peer({}, address="198.51.100.1")
    named = render(SETS["postgres-tls"])
    there = Peer({}, "databases")
    for component in ("consumer", "audit"):
        assert _reaches(anywhere, _pod(anywhere, component), outside, ("postgres", 5432))
        assert not _reaches(anywhere, _pod(anywhere, component), outside, ("https", 443))
        assert _reaches(named, _pod(named, component), there, ("postgres", 6432))
        assert not _reaches(named, _pod(named, component), there, ("postgres", 5432))
        assert not _reaches(named, _pod(named, component), outside, ("postgres", 6432))
    (test,) = (Peer(pod.labels) for pod in named.pods if pod.kind == "Pod")
    assert _reaches(named, test, there, ("postgres", 6432))
    for rendered, place in ((anywhere, outside), (named, there)):
        for port in (5432, 6432):
            assert not _reaches(rendered, _pod(rendered, "producer"), place, ("postgres", port))
    assert not _reaches(render(), _pod(render(), "consumer"), outside, ("postgres", 5432))


def test_the_collector_is_reached_where_it_is() -> None:
    """On the port of its address, or of its scheme; and nobody is, where none is named."""
    rendered = render(SETS["otlp"])
    for component in ("producer", "consumer"):
        assert _reaches(rendered, _pod(rendered, component), Peer({}, "observability"), ("otlp", 4317))
        assert not _reaches(rendered, _pod(rendered, component), Peer({}, "monitoring"), ("otlp", 4317))
    assert not _reaches(rendered, _pod(rendered, "redis"), Peer({}, "observability"), ("otlp", 4317))
    for endpoint, port in (("https://otlp.example.com", 443), ("http://otlp.example.com/path", 80)):
        elsewhere = render(nested("otlp.endpoint", endpoint))
        assert _reaches(elsewhere, _pod(elsewhere, "consumer"), Peer({}, address="192.0.2.1"), ("otlp", port))
