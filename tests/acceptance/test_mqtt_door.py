"""The door for MQTT: a real Mosquitto, and faults. What was acknowledged is in the stream, and once."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from acceptance.door import numbers, settled
from acceptance.mqtt import Gateway, MqttDoor, has_session
from acceptance.pages import blocks_of, run_blocks
from acceptance.rig import PATIENCE_S, ROOT, Rig
from certificates import Authority
from mosquitto import Mosquitto, needs_mosquitto, tls_options
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from servers import eventually

TOPIC = "plant/hall/oven-1/temperature"


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start brokers; each ends with the test."""
    started: list[Mosquitto] = []

    def start(*options: str, authority: Path | None = None) -> Mosquitto:
        one = Mosquitto(tmp_path / f"mosquitto-{len(started)}", *options, authority=authority)
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.stop(signal.SIGKILL)


@pytest.fixture
def broker(brokers: Callable[..., Mosquitto]) -> Mosquitto:
    """Give a broker that lets anybody in."""
    return brokers()


def check_gateways(rig: Rig, *gateways: Gateway) -> None:
    """Close them, and see that all which the broker has acknowledged is stored, and nothing twice."""
    for one in gateways:
        one.close()

    def all_came() -> bool:
        return all(len(numbers(rig, one.name)) >= one.published for one in gateways)

    rig.wait_for_rows(1)
    eventually(all_came, PATIENCE_S, "all has come")
    settled(rig)
    for one in gateways:
        assert numbers(rig, one.name) == list(range(one.published)), "one is there twice, or is missing"
    assert rig.letters() == {}


def wait_for_settled(door: MqttDoor, messages: int) -> None:
    """Wait until so many messages are acknowledged, or will be with those before them."""
    outcomes = ("events", "dead", "partly", "without_reading", "retained")

    def count() -> float:
        return sum(door.figure("settled_messages_total", outcome=one) for one in outcomes)

    eventually(lambda: count() >= messages, PATIENCE_S, f"{messages} messages are settled")


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_is_published_is_stored_and_what_makes_no_event_is_a_dead_letter(
    rig: Rig, broker: Mosquitto, version: str
) -> None:
    """Numbers, JSON and lists; and nothing that comes keeps what is behind it from coming.

    A message that was retained before the subscription is an old reading, and is not taken.
    """
    broker.publish("plant/hall/old/temperature", "1", "-r")
    limits = {"MAX_ENTRY_BYTES": "4096"}
    door = MqttDoor(rig, broker, MQTT_VERSION=version, **limits)
    rig.consumer(**limits)
    poison = [b"", b"cold", b"\xff\xfe", b"{bad", b'{"x": 1}', b"[" * 2000, b"x" * 10_000]
    for payload in poison:
        broker.publish(TOPIC, payload)
    broker.publish(TOPIC, '[1, {"value": 2, "ts": 1710000002}, {"value": "cold"}, "3"]')
    broker.publish("plant/hall/oven-1/luminosity", "4")
    broker.publish(TOPIC, "null")
    for _ in range(2):  # an event with a time of its own is one, however often it comes
        broker.publish(TOPIC, json.dumps({"value": "70.7", "unit": "°F", "ts": 1710000005, "zone": "forged"}))
    broker.publish(TOPIC, "6.5", "-r")
    wait_for_settled(door, len(poison) + (6 if version == "5" else 7))
    total = settled(rig).total
    rows = sorted((row.device_id, row.zone, row.value) for row in rig.stored().values())
    assert rows == [("oven-1", "hall", value) for value in (1.0, 2.0, 3.0, 6.5, 21.5)]
    letters = [letter for some in rig.letters().values() for letter in some]
    assert total.dead == len(letters) == len(poison) + 2
    reasons = sorted(str(letter.reason) for letter in letters)
    assert reasons == ["entry_too_large", "kpi_unknown", *["missing_field"] * 7]
    kept = [dict(letter.event) for letter in letters if letter.reason == "missing_field"]
    assert {"cold", "{bad", '{"x": 1}', ""} <= {str(one["payload"]) for one in kept}
    assert all(one["topic"] == TOPIC and one["problem"] for one in kept)
    door.stop()
    assert has_session(broker, "door", version)


def test_the_commands_of_the_page_run_as_they_stand(rig: Rig, broker: Mosquitto) -> None:
    """But for the port, which another program of this machine may have."""
    (block,) = (one for one in blocks_of("devices.md") if "mosquitto_pub" in one)
    assert len(block.splitlines()) == 3
    block = block.replace("mosquitto_pub", f"mosquitto_pub -p {broker.port}")
    stored = "until [ $(telemetry events --json | grep -c oven-3) = 1 ]; do sleep 0.2; done"
    own = {"MQTT_URL": broker.url, "MQTT_CLIENT_ID": "page"}
    done = run_blocks(rig, [block, stored, "kill %1", "wait %1"], **own)
    assert done.returncode == 0, done.stderr
    assert [(row.device_id, row.zone, row.value) for row in rig.stored().values()] == [
        ("oven-3", "hall", 21.5)
    ]
    assert "missing=0" in (rig.folder / "run.log").read_text(encoding="utf-8")


def test_the_broker_and_the_producer_of_docker_compose_fit_each_other(
    rig: Rig, brokers: Callable[..., Mosquitto]
) -> None:
    """By the broker's configuration and the producer's settings as they stand there, but for places."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    script = services["mosquitto"]["command"][2]
    lines = script.partition("<<CONFIG\n")[2].partition("CONFIG\n")[0].splitlines()
    here = (
        "listener 1883",
        "allow_anonymous true",
        "persistence true",
        "persistence_location /mosquitto/data/",
    )
    assert set(here) <= set(lines)
    broker = brokers(*(line for line in lines if line not in here))
    settings = services["mqtt"]["environment"]
    assert (settings["PRODUCER_MODE"], settings["MQTT_URL"]) == ("mqtt", "mqtt://mosquitto:1883")
    own = {name: value for name, value in settings.items() if name in {"MQTT_TOPICS", "MQTT_CLIENT_ID"}}
    door = MqttDoor(rig, broker, **own)
    rig.consumer()
    door.stop()
    broker.publish(TOPIC, "21.5")
    broker.stop()  # it keeps what it has acknowledged
    broker.start()
    door.start()
    rig.wait_for_rows(1)
    assert [(row.device_id, row.zone, row.value) for row in rig.stored().values()] == [
        ("oven-1", "hall", 21.5)
    ]
    eventually(lambda: door.figure("broker_waiting_messages") == 0, PATIENCE_S, "nothing waits any more")


def test_the_context_of_a_message_goes_into_its_events(rig: Rig, broker: Mosquitto) -> None:
    """MQTT 5 has properties for it; where it is sampled the events are found in the same trace."""
    door = MqttDoor(rig, broker)
    traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client = Client(CallbackAPIVersion.VERSION2, "sender", protocol=MQTTProtocolVersion.MQTTv5)
    client.connect(broker.host, broker.port)
    client.loop_start()
    for context in (traced, f"{traced[:-1]}0", "nonsense"):
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = [("traceparent", context), ("tracestate", "a=b"), ("other", "x")]
        client.publish(TOPIC, "1", qos=1, properties=properties).wait_for_publish(PATIENCE_S)
    client.disconnect()
    client.loop_stop()
    wait_for_settled(door, 3)
    entries: Any = rig.client.xrange("telemetry_stream")
    found = [(fields.get(b"traceparent"), fields.get(b"tracestate")) for _, fields in entries]
    assert found == [(traced.encode(), b"a=b"), (None, None), (None, None)]


def test_killed_under_load_it_loses_and_doubles_nothing(rig: Rig, broker: Mosquitto) -> None:
    """The broker keeps its session, and sends again what was not acknowledged. So does a stop keep it."""
    door = MqttDoor(rig, broker)
    rig.consumer(BATCH_SIZE="200")
    gateways = [Gateway(broker, f"gateway-{number}") for number in range(2)]
    for _ in range(2):
        for one in gateways:
            one.confirm_more()
        door.process.kill()
        door.start()
    gateways[0].confirm_more()
    door.stop()
    (finished,) = door.process.lines("producer_finished")
    assert rig.client.hget(f"{{telemetry_stream}}:run:{finished['run']}", "ended_at") is not None
    gateways[0].confirm_more()
    door.start()
    check_gateways(rig, *gateways)


def test_a_stream_that_is_away_or_full_takes_nothing_from_the_broker(rig: Rig, broker: Mosquitto) -> None:
    """What is not in the stream is not acknowledged, and what is in hand is bounded."""
    door = MqttDoor(rig, broker, STREAM_MAX_LENGTH="50", MQTT_MAX_IN_FLIGHT="10")
    gateway = Gateway(broker, "gateway")
    door.process.says("stream_full")
    gateway.confirm_more()
    assert rig.client.xlen("telemetry_stream") <= 50
    assert 0 < door.figure("in_flight_messages") <= 20
    door.stop()  # what it could not publish is the broker's
    door.start()
    rig.consumer(BATCH_SIZE="200")
    eventually(lambda: rig.count() > 100, PATIENCE_S, "there is room again")
    rig.server.kill()
    door.process.is_unready("redis")
    gateway.confirm_more()
    assert door.figure("in_flight_messages") <= 20
    rig.server.start()
    check_gateways(rig, gateway)
    leaving = MqttDoor(rig, broker, "leaving", MQTT_END_SESSION="true")
    rig.server.kill()
    broker.publish(TOPIC, "1")
    leaving.process.is_unready("redis")
    leaving.stop()
    assert leaving.process.lines("mqtt_session_kept"), "it could not take what the broker has for it"
    assert has_session(broker, "leaving")


def test_a_broker_that_is_killed_is_connected_to_again(rig: Rig, broker: Mosquitto) -> None:
    """And nothing that it has kept is missing, and nothing is there twice."""
    door = MqttDoor(rig, broker)
    rig.consumer(BATCH_SIZE="200")
    gateway = Gateway(broker, "gateway")
    for number in (signal.SIGTERM, signal.SIGTERM):
        gateway.confirm_more()
        broker.stop(number)
        door.process.is_unready("mqtt")
        broker.start()
    check_gateways(rig, gateway)
    # One that is killed has lost what it had not written; what it sends again is no second row.
    broker.stop(signal.SIGKILL)
    door.process.is_unready("mqtt")
    broker.start()
    door.process.is_ready()
    later = Gateway(broker, "later")
    later.confirm_more()
    check_gateways(rig, later)
    assert numbers(rig, "gateway") == list(range(gateway.published))
    assert door.figure("connected") == 1


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_replicas_share_the_work_and_one_that_goes_for_good_leaves_nothing_behind(
    rig: Rig, broker: Mosquitto, version: str
) -> None:
    """Each message goes to one of them, and the one that ends its session takes all that waits for it."""
    common = {"MQTT_SHARE": "telemetry", "MQTT_VERSION": version}
    stays = MqttDoor(rig, broker, "stays", **common)
    goes = MqttDoor(rig, broker, "goes", MQTT_END_SESSION="true", **common)
    rig.consumer(BATCH_SIZE="200")
    gateway = Gateway(broker, "gateway")
    for one in (stays, goes):
        one.process.says("published")
    goes.process.signal(signal.SIGSTOP)  # so that the broker has some waiting for it
    gateway.confirm_more(200)
    goes.process.signal(signal.SIGTERM)
    goes.process.signal(signal.SIGCONT)
    assert goes.process.wait() == 0
    check_gateways(rig, gateway)
    assert not has_session(broker, "goes", version)
    assert has_session(broker, "stays", version)


def test_user_password_and_certificate(rig: Rig, brokers: Callable[..., Mosquitto], tmp_path: Path) -> None:
    """From files that are read again at each attempt; nothing of a secret is told."""
    needs_mosquitto()
    secrets = {name: tmp_path / name for name in ("users", "username", "password")}
    secrets["users"].write_text("", encoding="utf-8")
    subprocess.run(["mosquitto_passwd", "-b", str(secrets["users"]), "plant", "right-password"], check=True)
    authority = Authority(tmp_path)
    server, own = authority.sign("localhost", "DNS:localhost"), authority.sign("door", "DNS:door")
    options = (*tls_options(authority.file, server), f"password_file {secrets['users']}")
    broker = brokers(*options, authority=authority.file)
    secrets["username"].write_text("plant\n", encoding="utf-8")
    secrets["password"].write_text("wrong-password\n", encoding="utf-8")
    files = {
        "MQTT_USERNAME_FILE": str(secrets["username"]),
        "MQTT_PASSWORD_FILE": str(secrets["password"]),
        "MQTT_CA_FILE": str(authority.file),
        "MQTT_CERT_FILE": str(own.certificate),
        "MQTT_KEY_FILE": str(own.key),
    }
    door = MqttDoor(rig, broker, **files)
    door.process.says("mqtt_refused")
    secrets["password"].write_text("right-password\n", encoding="utf-8")
    door.process.is_ready()
    access = ["-u", "plant", "-P", "right-password", "--cafile", str(authority.file)]
    certificate = ["--cert", str(own.certificate), "--key", str(own.key), "-h", "localhost"]
    broker.publish(TOPIC, "21.5", *access, *certificate)
    wait_for_settled(door, 1)
    assert "password" not in door.process.text.replace("MQTT_PASSWORD_FILE", "")
    door.stop()
    without = {name: path for name, path in files.items() if name not in {"MQTT_CERT_FILE", "MQTT_KEY_FILE"}}
    stranger = MqttDoor(rig, broker, "stranger", **without)
    stranger.process.says("mqtt_unavailable")


def test_what_it_cannot_use_is_told_at_the_start(rig: Rig) -> None:
    """With exit code 2, and what to change: all of it at once, and no secret."""
    environment = {
        "MQTT_TOPICS": "a/#/b", "MQTT_URL": "mqtt://user:secret-word@host", "MQTT_MAPPING_FILE": "none.toml",
        "MQTT_SHARE": "a/b", "PRODUCER_METRICS_PORT": "0",
    }  # fmt: skip
    process = rig.start("door", [*rig.python, "-m", "services.producer", "--mqtt"], environment)
    assert process.wait() == 2
    told = "".join(line["error"] for line in process.lines("settings_unusable"))
    for one in (
        "# can only be the last level",
        "MQTT_USERNAME_FILE",
        "none.toml: no such file",
        "MQTT_SHARE",
    ):
        assert one in told
    assert "secret-word" not in process.text
