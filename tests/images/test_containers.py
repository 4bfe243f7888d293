"""The images as they run: on a network with a Redis, read-only, told to stop."""

import json
from datetime import datetime

from images.engine import Image, Site, audited


def test_events_flow_and_the_audit_in_the_consumer_finds_none_missing(
    site: Site, images: dict[str, Image]
) -> None:
    """On a read-only root, with services that start before their Redis does."""
    consumer = site.start(images["consumer"], BATCH_SIZE="500")
    producer = site.start(images["producer"], RATE="500", INVALID_RATIO="0.01", DUPLICATE_RATIO="0.01")
    for service in (consumer, producer):
        service.logged("redis_unavailable")
    site.start_redis()
    audited(lambda *command: consumer.exec("telemetry", *command), 1000)
    assert producer.stop() == 0
    published = producer.logged("producer_finished")["published"]
    numbers = audited(lambda *command: consumer.exec("telemetry", *command), int(published * 0.9))
    assert numbers["missing"] == 0
    assert consumer.stop() == 0
    assert "CRITICAL" not in {line["levelname"] for line in consumer.logs() + producer.logs()}


def test_three_consumers_share_a_new_volume_that_belongs_to_their_user(
    site: Site, images: dict[str, Image]
) -> None:
    """As `--scale consumer=3` has it: one database, made by whoever is first, and no event twice."""
    site.start_redis()
    consumers = [site.start(images["consumer"], number, BATCH_SIZE="50") for number in (1, 2, 3)]
    site.start(images["producer"], RATE="1000")
    for consumer in consumers:
        consumer.logged("batch_settled")
        assert consumer.exec("stat", "--format", "%u:%g", "/data").strip() == "10001:10001"
    numbers = audited(lambda *command: consumers[2].exec("telemetry", *command), 2000)
    assert numbers["missing"] == 0


def test_the_telemetry_command_answers_in_the_consumer(site: Site, images: dict[str, Image]) -> None:
    """Every command that looks at things works there, from any folder."""
    site.start_redis()
    consumer = site.start(images["consumer"])
    site.start(images["producer"], BATCH_SIZE="50", SLEEP_INTERVAL="0.1", INVALID_RATIO="0.2")
    audited(lambda *command: consumer.exec("telemetry", *command), 100)
    for command in ("status", "events", "summary", "dlq list", "settings", "metrics", "audit"):
        assert consumer.exec("sh", "-c", f"cd / && telemetry {command} --json").strip(), command
    status = json.loads(consumer.exec("telemetry", "status", "--json"))
    assert status
    assert consumer.exec("telemetry", "--version").startswith("telemetry ")


def test_python_is_process_1_and_sigterm_ends_it_well(site: Site, image: Image) -> None:
    """No shell stands before it to swallow the signal; it finishes, says so, and exits with 0."""
    site.start_redis()
    container = site.start(image)
    container.logged(f"{image.service}_started")
    command = container.exec("cat", "/proc/1/cmdline").split("\0")
    assert command[:3] == ["/opt/venv/bin/python", "-m", f"services.{image.service}"]
    assert container.stop() == 0
    assert container.logs()[-1]["message"] == f"{image.service}_finished"
    assert not container.state["OOMKilled"]


MOST_OF_A_START = 4.0
"""Times what the packages alone take. Measured: 0.9 to 1.5, at a load of 10."""
BARE = """
import subprocess, sys, time
began = time.monotonic()
subprocess.run([sys.executable, "-c", "import redis, prometheus_client, opentelemetry.sdk.trace"], check=True)
print(time.monotonic() - began)
"""
"""Tells how long Python and the packages alone take there, in seconds."""


def test_the_first_event_is_published_soon(site: Site, images: dict[str, Image]) -> None:
    """From the start of the process, by the engine's clock, to the log line; the best of three, in turns."""
    site.start_redis()
    took, bare = [], []
    for number in range(3):
        producer = site.start(images["producer"], number)
        published = datetime.fromisoformat(producer.logged("published")["asctime"])
        started = datetime.fromisoformat(producer.state["StartedAt"])
        took.append((published - started).total_seconds())
        bare.append(float(producer.exec("python", "-c", BARE)))
    ratio = min(took) / min(bare)
    print(f"first event after {sorted(took)} s, {ratio:.1f} times as long as the packages alone take")
    assert 0 < ratio <= MOST_OF_A_START
