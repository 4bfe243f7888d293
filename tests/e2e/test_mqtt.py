"""A broker in the cluster, and pods that share what comes there: each reading is stored, and once."""

import json
from typing import Any, Final

import pytest
from e2e.cluster import PATIENCE_S, Manifest, Namespace, our_images, run_given, server_pod, until
from e2e.conftest import NewNamespace
from e2e.release import Release, Values

_IMAGE: Final = "eclipse-mosquitto:2"
_TOPIC: Final = "plant/hall/oven-1/temperature"
_POISON: Final = "cold"

# What waits for a session is kept, however much it is: a broker's loss is none that an audit could see.
_BROKER: Final = r"""
printf 'listener 1883\nallow_anonymous true\nmax_queued_messages 0\n' > /tmp/mosquitto.conf
exec mosquitto -c /tmp/mosquitto.conf
"""

# Publishes until it is told to stop, and says how many readings are confirmed. Each has a time of its own.
_SEND: Final = """
import itertools, json, os, time
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

client, begun = Client(CallbackAPIVersion.VERSION2, "gateway"), time.time()
client.connect("broker", 1883)
client.loop_start()
for number in itertools.count(1):
    reading = {"value": number % 100, "ts": round(begun + number / 1000, 3)}
    client.publish("TOPIC", json.dumps(reading), qos=1).wait_for_publish(30)
    is_over = os.path.exists("/tmp/stop")
    if is_over or number % 20 == 0:
        print(number, flush=True)
    if is_over:
        break
    time.sleep(0.005)
client.disconnect()
client.loop_stop()
""".replace("TOPIC", _TOPIC)

# Says whether the broker has a session of that name.
_ASK: Final = """
import queue, sys
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

heard = queue.SimpleQueue()
client = Client(CallbackAPIVersion.VERSION2, sys.argv[1], protocol=MQTTProtocolVersion.MQTTv5)
client.on_connect = lambda client, data, flags, *more: heard.put(flags.session_present)
client.connect("broker", 1883, clean_start=False)
client.loop_start()
print(heard.get(timeout=30))
client.disconnect()
client.loop_stop()
"""


def _broker() -> list[Manifest]:
    labels = {"app": "broker"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "broker", "labels": labels},
            "spec": server_pod("mosquitto", _IMAGE, "sh", "-c", _BROKER),
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "broker"},
            "spec": {"selector": labels, "ports": [{"name": "mqtt", "port": 1883}]},
        },
    ]


def _sender() -> Manifest:
    spec = server_pod("python", our_images()[0], "python", "-c", _SEND, restartPolicy="Never")
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sender"}, "spec": spec}


def _confirmed(namespace: Namespace) -> int:
    """Give how many readings the broker has confirmed to the sender, up to now."""
    lines = namespace.kubectl("logs", "sender", "--tail=1").split()
    return int(lines[-1]) if lines else 0


def _has_session(namespace: Namespace, name: str) -> bool:
    """Ask the broker whether it has a session; whoever has it at the moment is thrown out."""
    return namespace.kubectl("exec", "sender", "--", "python", "-c", _ASK, name).strip() == "True"


@pytest.fixture(scope="module")
def release(new: NewNamespace) -> Release:
    """Install two pods that share what a broker in their namespace has."""
    run_given("TELEMETRY_E2E_LOAD", _IMAGE)
    namespace = new()
    namespace.apply(*_broker())
    namespace.kubectl("wait", "--for=condition=Ready", "pod/broker", "--timeout=60s")
    mqtt: Values = {
        "url": "mqtt://broker:1883",
        "topics": ["plant/{zone}/{device}/{kpi}"],
        "settings": {"mqttEndSession": True},
    }
    producer: Values = {"mode": "mqtt", "replicas": 2, "readinessProbe": {"periodSeconds": 1}, "mqtt": mqtt}
    one = Release(namespace)
    one.install({"producer": producer})
    return one


def test_pods_share_what_comes_and_one_that_is_scaled_away_leaves_nothing_behind(release: Release) -> None:
    """Under load: its session ends once the broker has nothing for it; each reading is stored, and once.

    What makes no event is a dead letter, and keeps nothing behind it from coming.
    """
    namespace = release.namespace
    pods = {pod.name: pod for pod in release.ready("producer", 2)}
    assert pods.keys() == {"demo-producer-0", "demo-producer-1"}
    for name, pod in pods.items():
        assert pod.logged("mqtt_connected")[-1]["client_id"] == f"{namespace.name}.{name}"
    namespace.apply(_sender())
    for pod in pods.values():
        until(lambda one=pod: one.logged("published"), PATIENCE_S, f"{pod.name} has a share")  # type: ignore[misc]
    namespace.kubectl("exec", "broker", "--", "mosquitto_pub", "-q", "1", "-t", _TOPIC, "-m", _POISON)
    release.assert_logs()
    namespace.kubectl("scale", "statefulset/demo-producer", "--replicas=1")
    (left,) = release.ready("producer", 1)
    assert (left.name, left.restarts) == ("demo-producer-0", 0)
    assert not _has_session(namespace, f"{namespace.name}.demo-producer-1")
    before = _confirmed(namespace)
    until(lambda: _confirmed(namespace) > before + 100, PATIENCE_S, "the broker takes more")
    namespace.kubectl("exec", "sender", "--", "touch", "/tmp/stop")  # noqa: S108 - of its container
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/sender", "--timeout=60s")
    published = _confirmed(namespace)
    until(lambda: release.audit()["stored"] >= published, PATIENCE_S, "all has come")
    found = release.settled()
    assert (found["stored"], found["dead"]) == (published, 1)
    (letter,) = _letters(release)
    assert (letter["reason"], letter["event"]["topic"], letter["event"]["payload"]) == (
        "missing_field",
        _TOPIC,
        _POISON,
    )
    release.assert_logs()


def _letters(release: Release) -> list[dict[str, Any]]:
    return [json.loads(line) for line in release.consumer("telemetry", "dlq", "list", "--json").splitlines()]
