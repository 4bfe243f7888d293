"""A broker in the cluster, and pods that share what comes there: each reading is stored, and once."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.cluster import PATIENCE_S, Manifest, Namespace, our_images, run_given, server_pod, until
from e2e.conftest import NewNamespace
from e2e.pages import blocks_of, typed, with_own
from e2e.release import Release
from servers import free_port

_IMAGE: Final = "eclipse-mosquitto:2"
_TOPIC: Final = "plant/hall/oven-1/temperature"
_POISON: Final = "cold"
_HEADING: Final = "### Several producers, and none, on Kubernetes"

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


def _install_and_publish(namespace: Namespace) -> str:
    """Give the commands of the page from nothing to a stored reading, with a broker and a port of ours."""
    install, publish, _ = blocks_of("devices.md", _HEADING)
    port = free_port()
    own = {
        "broker.iot:1883": f"broker.{namespace.name}:1883",
        "--namespace iot service/broker 1883": f"--namespace {namespace.name} service/broker {port}:1883",
        "mosquitto_pub -u": f"mosquitto_pub -p {port} -u",
    }
    return with_own(install + publish, own)


@pytest.fixture(scope="module")
def release(new: NewNamespace, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Run a broker, and the commands of the page: two pods share what comes, and a reading is stored."""
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("no mosquitto_pub here, by which the page publishes")
    run_given("TELEMETRY_E2E_LOAD", _IMAGE)
    namespace = new()
    namespace.apply(*_broker())
    namespace.kubectl("wait", "--for=condition=Ready", "pod/broker", "--timeout=60s")
    with typed(namespace, tmp_path_factory.mktemp("page"), _install_and_publish(namespace)) as said:
        assert "oven-3" in said.splitlines()[-1]
    return Release(namespace)


def test_pods_share_what_comes_and_one_that_is_scaled_away_leaves_nothing_behind(
    release: Release, tmp_path: Path
) -> None:
    """Under load, by the commands of the page: its session ends once the broker has nothing for it.

    Each reading is stored, and once. What makes no event is a dead letter, and keeps nothing behind it from
    coming.
    """
    namespace = release.namespace
    namespace.apply(_sender())
    for pod in release.ready("producer", 2):
        assert pod.logged("mqtt_connected")[-1]["client_id"] == f"{namespace.name}.{pod.name}"
        until(lambda one=pod: one.logged("published"), PATIENCE_S, f"{pod.name} has a share")  # type: ignore[misc]
    namespace.kubectl("exec", "broker", "--", "mosquitto_pub", "-q", "1", "-t", _TOPIC, "-m", _POISON)
    with typed(namespace, tmp_path, blocks_of("devices.md", _HEADING)[-1]):
        left = release.ready("producer", 2)
    assert {pod.name for pod in left} == {"demo-producer-0", "demo-producer-1"}
    assert not _has_session(namespace, f"{namespace.name}.demo-producer-2")
    before = _confirmed(namespace)
    until(lambda: _confirmed(namespace) > before + 100, PATIENCE_S, "the broker takes more")
    namespace.kubectl("exec", "sender", "--", "touch", "/tmp/stop")  # noqa: S108 - of its container
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/sender", "--timeout=60s")
    published = _confirmed(namespace) + 1  # and the one of before
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
