"""Devices that send to a release by HTTP: what leads to the producers, what they read, how they end."""

import base64
from typing import Any, Final

import pytest
from chart.rendering import SETS, Rendered, Values, annotations_of, merged, nested, refusal, render, source_of

from services.producer.http.tokens import parse_tokens
from services.producer.mapping.keys import build
from services.producer.mapping.mapping_file import read_mapping

pytestmark = pytest.mark.usefixtures("helm")

PLAIN: Final = SETS["http"]
OUTSIDE: Final = SETS["http-ingress"]
ANYBODY: Final[Values] = {"producer": {"mode": "http", "http": {"anonymous": True, "preStopSeconds": 0}}}
MODES: Final = {"tokens": PLAIN, "outside": OUTSIDE, "anybody": ANYBODY}


def _files(rendered: Rendered) -> dict[str, tuple[str, str, str]]:
    """Give where each file comes from that a setting of the door names."""
    found = rendered.environment("producer")
    named = {name: path for name, path in found.items() if name.startswith(("HTTP_", "INFLUX_"))}
    return {name: source_of(rendered, path) for name, path in named.items() if name.endswith("_FILE")}


@pytest.mark.parametrize("mode", MODES)
def test_a_service_leads_to_the_port_that_events_are_taken_on(mode: str) -> None:
    """And to no other: metrics and probes are apart."""
    rendered = render(MODES[mode])
    found = rendered.environment("producer")
    assert (found["PRODUCER_MODE"], found["HTTP_HOST"]) == ("http", "0.0.0.0")
    pod = rendered.pod("producer")
    assert pod.kind == "Deployment"
    ports = {one["name"]: str(one["containerPort"]) for one in pod.main["ports"]}
    assert ports == {"http-metrics": found["PRODUCER_METRICS_PORT"], "events": found["HTTP_PORT"]}
    service = rendered.named("Service", "demo-http")["spec"]
    assert service["selector"].items() <= pod.labels.items()
    (port,) = service["ports"]
    assert port["targetPort"] == "events"
    assert service.get("clusterIP") != "None"
    probes = [pod.main[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")]
    assert probes == ["http-metrics"] * 3
    metrics = rendered.named("Service", "demo-producer")["spec"]
    assert [one["targetPort"] for one in metrics["ports"]] == ["http-metrics"]


def test_a_service_is_of_the_kind_that_is_asked_for() -> None:
    """Inside of the cluster, unless one says else; of another kind it keeps what is of that kind alone."""
    service = render(PLAIN).named("Service", "demo-http")["spec"]
    assert (service["type"], service["ports"][0]["port"], service["ports"][0]["name"]) == (
        "ClusterIP",
        8080,
        "http",
    )
    rendered = render(OUTSIDE)
    balanced = rendered.named("Service", "demo-http")
    assert annotations_of(balanced)["example.com/balancer"] == "internal"
    (port,) = balanced["spec"]["ports"]
    assert (port["name"], port["appProtocol"], port["port"], port["nodePort"]) == (
        "https",
        "https",
        443,
        30443,
    )
    assert balanced["spec"]["loadBalancerSourceRanges"] == ["203.0.113.0/24"]
    inside = merged(OUTSIDE, nested("producer.http.service.type", "ClusterIP"))
    spec = render(inside).named("Service", "demo-http")["spec"]
    assert "nodePort" not in spec["ports"][0]
    assert "loadBalancerSourceRanges" not in spec
    on_nodes = merged(OUTSIDE, nested("producer.http.service.type", "NodePort"))
    spec = render(on_nodes).named("Service", "demo-http")["spec"]
    assert (spec["ports"][0]["nodePort"], "loadBalancerSourceRanges" in spec) == (30443, False)


def test_tokens_that_stand_among_the_values_are_a_secret() -> None:
    """As they were written, and nowhere else; others restart nobody, since the file is read again."""
    rendered = render(PLAIN)
    assert _files(rendered)["HTTP_TOKENS_FILE"] == ("secret", "demo-http-tokens", "tokens.toml")
    secret = rendered.named("Secret", "demo-http-tokens")
    text = base64.b64decode(secret["data"]["tokens.toml"]).decode()
    assert [one.name for one in parse_tokens(text).values()] == ["gateway-1"]
    assert "at least 16 characters" not in rendered.text
    other = merged(PLAIN, nested("producer.http.tokens", text + '[lab]\ntoken = "another long secret"\n'))
    assert render(other).pod("producer").identity() == rendered.pod("producer").identity()


def test_a_secret_and_config_maps_that_are_there_are_read() -> None:
    """By their names and keys, which may be templates; the chart makes none of its own."""
    rendered = render(OUTSIDE)
    assert _files(rendered) == {
        "HTTP_TOKENS_FILE": ("secret", "demo-devices", "writers.toml"),
        "HTTP_CERT_FILE": ("secret", "demo-certificate", "tls.crt"),
        "HTTP_KEY_FILE": ("secret", "demo-certificate", "tls.key"),
        "HTTP_CLIENT_CA_FILE": ("secret", "device-authority", "devices.pem"),
        "HTTP_MAPPING_FILE": ("configMap", "mappings", "json.toml"),
        "INFLUX_MAPPING_FILE": ("configMap", "mappings", "influx.toml"),
    }
    assert rendered.of("Secret", "producer") == []
    assert [one["metadata"]["name"] for one in rendered.of("ConfigMap", "producer")] == ["demo-producer"]


def test_mappings_that_stand_among_the_values_are_read_and_another_is_another_pod() -> None:
    """They are read once, at the start."""
    rendered = render(PLAIN)
    found = rendered.environment("producer")
    for setting in ("HTTP_MAPPING_FILE", "INFLUX_MAPPING_FILE"):
        text = rendered.file("producer", found[setting])
        assert text is not None
        errors: list[str] = []
        build(read_mapping(text, setting, errors), errors)
        assert errors == []
    for key in ("mapping", "influxMapping"):
        other = merged(PLAIN, nested(f"producer.http.{key}", "decimal = ','\n"))
        assert render(other).pod("producer").identity() != rendered.pod("producer").identity()


def test_without_tokens_anybody_sends_where_that_is_said() -> None:
    """And then no file is looked for."""
    rendered = render(ANYBODY)
    assert rendered.environment("producer")["ANONYMOUS"] == "true"
    assert _files(rendered) == {}
    assert "ANONYMOUS" not in render(PLAIN).environment("producer")


def test_certificates_of_clients_need_no_tokens() -> None:
    """Then no file of tokens is looked for, and nobody is let in without one."""
    alone = nested("producer.http.tokensSecret", "")
    found = render(merged(OUTSIDE, alone)).environment("producer")
    assert "HTTP_CLIENT_CA_FILE" in found
    assert found.keys().isdisjoint({"HTTP_TOKENS_FILE", "ANONYMOUS"})


def test_no_pod_ends_before_its_successor_is_ready_and_while_it_is_sent_to() -> None:
    """One more at first; and who ends goes on for as long as the cluster needs to hear of it."""
    for values, seconds in ((PLAIN, 5), (OUTSIDE, 15)):
        rendered = render(values)
        strategy = rendered.one("Deployment", "producer")["spec"]["strategy"]
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        assert rendered.pod("producer").main["lifecycle"] == {"preStop": {"sleep": {"seconds": seconds}}}
    assert "lifecycle" not in render(ANYBODY).pod("producer").main
    assert "lifecycle" not in render().pod("producer").main
    assert render().one("Deployment", "producer")["spec"]["strategy"] == {"type": "RollingUpdate"}
    own = merged(PLAIN, nested("producer.strategy", {"type": "Recreate"}))
    assert render(own).one("Deployment", "producer")["spec"]["strategy"] == {"type": "Recreate"}


def test_the_time_of_an_end_is_enough_for_a_request() -> None:
    """One second less is refused, and so is a longer request."""
    assert render(merged(PLAIN, nested("producer.terminationGracePeriodSeconds", 28))).all
    for path, value in (
        ("producer.terminationGracePeriodSeconds", 27),
        ("producer.http.preStopSeconds", 8),
        ("producer.http.settings.httpWaitS", 12.5),
        ("producer.http.settings.httpReadTimeoutS", "12.5"),
    ):
        assert "producer.terminationGracePeriodSeconds" in refusal(merged(PLAIN, nested(path, value)))


def test_an_ingress_leads_to_the_service() -> None:
    """Where it is asked for, with a certificate of its own."""
    rendered = render(OUTSIDE)
    ingress = rendered.one("Ingress", "http")
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [
        {"hosts": ["telemetry.example.com"], "secretName": "telemetry-example-com"}
    ]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "telemetry.example.com"
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    backend = path["backend"]["service"]
    service = rendered.named("Service", backend["name"])
    assert backend["port"]["number"] == service["spec"]["ports"][0]["port"]
    assert annotations_of(ingress)["nginx.ingress.kubernetes.io/backend-protocol"] == "HTTPS"
    assert render(PLAIN).of("Ingress") == []
    bare = nested("producer.http.ingress", {"enabled": True, "host": "{{ .Release.Name }}.example.com"})
    spec = render(merged(PLAIN, bare)).one("Ingress")["spec"]
    assert spec["rules"][0]["host"] == "demo.example.com"
    assert spec.keys() == {"rules"}


def test_an_autoscaler_scales_the_producers_and_upgrades_leave_their_number() -> None:
    """Between its bounds, at its aim; a number among the values would undo its work."""
    rendered = render(merged(OUTSIDE, nested("producer.replicas", 2)))
    spec = rendered.one("HorizontalPodAutoscaler", "producer")["spec"]
    target = rendered.one("Deployment", "producer")
    assert spec["scaleTargetRef"]["name"] == target["metadata"]["name"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 9)
    (metric,) = spec["metrics"]
    assert metric["resource"]["target"]["averageUtilization"] == 60
    assert spec["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 60}}
    assert "replicas" not in target["spec"]
    plain = render(PLAIN)
    assert plain.one("Deployment", "producer")["spec"]["replicas"] == 2
    assert plain.of("HorizontalPodAutoscaler") == []


def test_what_is_of_http_alone_is_of_no_other_mode() -> None:
    """Values of a mode that is not on make nothing, and change no pod."""
    http: dict[str, Any] = {"producer": {"http": OUTSIDE["producer"]["http"]}}
    for base in ({}, SETS["replay-volume"]):
        found, expected = (
            sorted((one["kind"], one["metadata"]["name"]) for one in render(values).all)
            for values in (merged(base, http), base)
        )
        assert found == expected
        assert (
            render(merged(base, http)).pod("producer").identity() == render(base).pod("producer").identity()
        )
    off = render(merged(OUTSIDE, nested("producer.enabled", False)))
    assert [one["kind"] for one in off.all if "http" in one["metadata"]["name"]] == []


def test_what_watches_the_generator_watches_the_door() -> None:
    """A budget, and a monitor of the Service with the metrics."""
    rendered = render(OUTSIDE)
    assert rendered.one("PodDisruptionBudget", "producer")["spec"]["maxUnavailable"] == 1
    monitor = rendered.one("ServiceMonitor", "producer")["spec"]
    assert [one["port"] for one in monitor["endpoints"]] == ["http-metrics"]
    pods = merged(PLAIN, nested("podMonitor.enabled", True))
    assert render(pods).one("PodMonitor", "producer")
