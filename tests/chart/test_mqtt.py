"""Producers at an MQTT broker: their sessions, what they read, and where they may go."""

from typing import Any, Final

import pytest
from chart.rendering import SETS, Rendered, Values, merged, nested, render, source_of

from services.producer.mapping.keys import build
from services.producer.mapping.mapping_file import read_mapping

pytestmark = pytest.mark.usefixtures("helm")

SHARED: Final = SETS["mqtt"]
ALONE: Final[Values] = {
    "producer": {"mode": "mqtt", "mqtt": {"url": "mqtt://broker", "topics": ["a/{device}"]}}
}


def _files(rendered: Rendered) -> dict[str, tuple[str, str, str]]:
    found = rendered.environment("producer")
    return {
        name: source_of(rendered, path)
        for name, path in found.items()
        if name.startswith("MQTT_") and name.endswith("_FILE")
    }


def test_each_pod_has_a_session_of_its_own_that_outlives_it() -> None:
    """By the name of the pod, which a StatefulSet gives to the next one too, and its namespace."""
    rendered = render(SHARED)
    pod = rendered.pod("producer")
    assert pod.kind == "StatefulSet"
    assert rendered.of("Deployment", "producer") == []
    names = [one["name"] for one in pod.main["env"]]
    (client,) = (one for one in pod.main["env"] if one["name"] == "MQTT_CLIENT_ID")
    assert client["value"] == "$(POD_NAMESPACE).$(POD_NAME)"
    # Kubernetes puts in what stands before.
    assert names.index("MQTT_CLIENT_ID") > max(names.index("POD_NAMESPACE"), names.index("POD_NAME"))
    spec = pod.owner["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"]) == (3, "Parallel")
    assert rendered.named("Service", spec["serviceName"])["spec"]["clusterIP"] == "None"
    assert "volumeClaimTemplates" not in spec
    assert "replicas" not in render(ALONE).pod("producer").owner["spec"]
    assert rendered.one("PodDisruptionBudget", "producer")["spec"]["maxUnavailable"] == 1


def test_the_pods_of_a_release_share_what_comes_and_no_other_release_does() -> None:
    """By a group of their own, unless somebody wants none."""
    found = render(SHARED).environment("producer")
    assert found["PRODUCER_MODE"] == "mqtt"
    assert found["MQTT_URL"] == "mqtts://demo-broker.example.com:8884"
    assert found["MQTT_TOPICS"] == "plant/{zone}/{device}/{kpi},lab/{device}/#"
    assert found["MQTT_SHARE"] == "telemetry.demo"
    assert render(SHARED, release="other").environment("producer")["MQTT_SHARE"] == "telemetry.other"
    unshared = merged(ALONE, nested("producer.mqtt.shared", False))
    assert "MQTT_SHARE" not in render(unshared).environment("producer")


def test_user_and_certificates_are_those_of_the_secrets() -> None:
    """By their keys; of a mapping among the values the chart makes a ConfigMap."""
    rendered = render(SHARED)
    assert _files(rendered) == {
        "MQTT_USERNAME_FILE": ("secret", "demo-mqtt", "user"),
        "MQTT_PASSWORD_FILE": ("secret", "demo-mqtt", "secret"),
        "MQTT_CA_FILE": ("secret", "broker-authority", "ca.pem"),
        "MQTT_CERT_FILE": ("secret", "our-certificate", "tls.crt"),
        "MQTT_KEY_FILE": ("secret", "our-certificate", "tls.key"),
        "MQTT_MAPPING_FILE": ("configMap", "demo-mqtt-mapping", "mapping.toml"),
    }
    text = rendered.file("producer", rendered.environment("producer")["MQTT_MAPPING_FILE"])
    assert text is not None
    errors: list[str] = []
    build(read_mapping(text, "mapping", errors), errors)
    assert errors == []
    other = merged(SHARED, nested("producer.mqtt.mapping", "decimal = ','\n"))
    assert render(other).pod("producer").identity() != rendered.pod("producer").identity()
    named = {"mapping": "", "mappingConfigMap": "mappings", "mappingKey": "mqtt.toml"}
    rendered = render(merged(SHARED, {"producer": {"mqtt": named}}))
    assert _files(rendered)["MQTT_MAPPING_FILE"] == ("configMap", "mappings", "mqtt.toml")
    assert [one["metadata"]["name"] for one in rendered.of("ConfigMap", "producer")] == ["demo-producer"]
    assert _files(render(ALONE)) == {}


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("mqtt://broker", 1883),
        ("mqtts://broker", 8883),
        ("mqtt://[fd00::1]:1884", 1884),
        ("mqtt://[fd00::1]", 1883),
    ],
)
def test_the_network_lets_it_to_the_port_of_the_broker(url: str, port: int) -> None:
    """Anywhere, or where the broker is said to be; and nobody comes in."""
    policy = render(merged(ALONE, nested("producer.mqtt.url", url))).named("NetworkPolicy", "demo-producer")
    assert {"ports": [{"port": port, "protocol": "TCP"}]} in policy["spec"]["egress"]
    assert "ingress" not in policy["spec"]
    named = render(SHARED).named("NetworkPolicy", "demo-producer")["spec"]["egress"]
    assert {
        "ports": [{"port": 8884, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
    } in named


def test_what_is_of_mqtt_alone_is_of_no_other_mode() -> None:
    """Values of a mode that is not on make nothing, and change no pod."""
    mqtt: dict[str, Any] = {"producer": {"mqtt": SHARED["producer"]["mqtt"]}}
    for base in ({}, SETS["http"]):
        found, expected = (
            sorted((one["kind"], one["metadata"]["name"]) for one in render(values).all)
            for values in (merged(base, mqtt), base)
        )
        assert found == expected
        assert (
            render(merged(base, mqtt)).pod("producer").identity() == render(base).pod("producer").identity()
        )
