"""Each alert is made to fire by doing the real thing to a real pipeline, and no other one fires.

All troubles happen at once, each in a pipeline of its own, under one Prometheus with a copy of the rules in
which a minute is a second. Beside them runs a healthy pipeline, which has to stay silent all the while.
"""

import contextlib
import itertools
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from acceptance.disks import disk_in_memory
from acceptance.door import event, post
from acceptance.publisher import KEYS
from alerts.pipeline import Pipeline
from observability import find_program, needed
from prometheus import ROOT, RULES, Alertmanager, Prometheus, Scale, Webhook, rules_of
from runbooks import queries
from servers import Absent, eventually

from services.contract.ids import event_id

Steps = Generator[set[str]]
"""The alerts that have to fire before the next step."""

SCALE: Final = Scale(times=60, sizes=32)
PATIENCE_S: Final = 200.0
"""How long all may take on a busy machine. The longest alert waits for 65 s, an hour and five minutes."""
_INTERVAL_S: Final = 1.0
_DISK_MB: Final = 4096
"""Far more than all of them write: 100 MB."""


@dataclass(frozen=True)
class Trouble:
    """What is done to a pipeline, and which alerts follow beside those that are waited for."""

    do: Callable[[Pipeline], Steps]
    also: set[str] = field(default_factory=set)
    environment: dict[str, str] = field(default_factory=dict)
    consumers: int = 1
    rate: int = 20
    """Events a second. Few, since dozens of pipelines share a machine that other tests have left busy."""
    disk_mb: int | None = None
    """Size of a disk of its own."""
    broker: tuple[str, ...] | None = None
    """Options of an MQTT broker of its own."""
    alone: frozenset[str] = frozenset()
    """Alerts that nothing else brings about; they are missing where this can't be done here."""


def _record(pipeline: Pipeline, exit_code: int, *more: str) -> None:
    """Audit as the CronJob does."""
    code, said = pipeline.run("audit", "--record", *more)
    assert code == exit_code, said


def healthy(pipeline: Pipeline) -> Steps:
    """Leave it alone, and audit it four times an hour."""
    code, said = pipeline.run("audit", "--wait", "30")  # until a producer has a record
    assert code == 0, said

    def audit(ending: threading.Event) -> None:
        while not ending.is_set():
            _record(pipeline, 0)
            ending.wait(15)

    pipeline.meanwhile(audit)
    yield set()


def database_locked(pipeline: Pipeline) -> Steps:
    """Hold the write lock from another connection, until the stream is full."""
    pipeline.lock()
    yield {"TelemetrySinkDown", "TelemetryConsumersStalled", "TelemetryStreamNearLimit"}
    yield {"TelemetryBacklogNotDraining", "TelemetryOldestPendingTooOld", "TelemetryProducersBlocked"}


def from_the_start(*alerts: str) -> Callable[[Pipeline], Steps]:
    """Leave it as it was started, and wait for these."""

    def do(_: Pipeline) -> Steps:
        yield set(alerts)

    return do


def row_deleted(pipeline: Pipeline) -> Steps:
    """Delete a row, audit, and never again; then end the producer. An old row is not dropped meanwhile."""
    connection = pipeline.connect()
    connection.execute(
        "DELETE FROM telemetry_events WHERE event_id = (SELECT min(event_id) FROM telemetry_events)"
    )
    old = time.time() - 5 * 86_400
    connection.execute(
        "INSERT INTO telemetry_events (event_id, device_id, zone, ts, kpi, value, is_degraded, stored_at) "
        "VALUES (?, 'd', 'z', ?, 'humidity', 1, 0, ?)",
        (event_id("7abc-8def-012", 1, int(old * 1000)), old, old),
    )
    _record(pipeline, 1, "--retain")
    yield {"TelemetryEventsMissing", "TelemetryRetentionWaits"}
    assert pipeline.producer is not None
    pipeline.producer.kill()
    yield {"TelemetryNothingPublished", "TelemetryAuditTooOld"}


def letters_unwritable(pipeline: Pipeline) -> Steps:
    """Lay a folder where the dead letters go."""
    file = pipeline.rig.settings.dead_letter_file
    pipeline.until(lambda: file.exists() and file.stat().st_size, "a dead letter")
    file.rename(file.with_name("away.jsonl"))
    file.mkdir()
    yield {"TelemetryDeadLetterWriteFailing"}


def _read_and_keep(pipeline: Pipeline) -> None:
    """Read an entry as another consumer of the group, and never settle it."""
    client = pipeline.rig.client

    def read() -> object:
        # Waiting in Redis: those that wait are served in turn, where asking now and then finds all taken.
        return client.xreadgroup(KEYS.group, "gone", {KEYS.stream: ">"}, count=1, block=1000)

    pipeline.until(read, "an entry")


def trimmed(pipeline: Pipeline) -> Steps:
    """Trim the stream while the consumer waits for its database, and another of the group is gone."""
    _read_and_keep(pipeline)
    lock = pipeline.lock()
    pipeline.until(pipeline.waits, "entries that are delivered, and others that are not")
    is_enough = threading.Event()

    def trim(ending: threading.Event) -> None:
        while not (is_enough.is_set() or ending.is_set()):
            pipeline.rig.client.xtrim(KEYS.stream, maxlen=0, approximate=False)
            is_enough.wait(0.5)

    # Again and again: a single trim is seen for a short time only, and a busy machine may look away.
    pipeline.meanwhile(trim)
    yield {"TelemetryTrimmedUnread", "TelemetryLagUnknown", "TelemetryEntriesRemoved"}
    is_enough.set()
    lock.execute("ROLLBACK")
    # Now what the gone one had read is taken over, and there is nothing in it.
    yield {"TelemetryEntriesLost"}
    _record(pipeline, 1)
    yield {"TelemetryEventsMissing"}


def oldest_dropped(pipeline: Pipeline) -> Steps:
    """Fill the stream of a producer that is not to wait."""
    pipeline.lock()
    yield {"TelemetryEventsDropped"}


def consumers_frozen(pipeline: Pipeline) -> Steps:
    """Freeze both."""
    for one in pipeline.consumers:
        one.signal(signal.SIGSTOP)
    yield {"TelemetryConsumersAbsent"}


def entry_kept(pipeline: Pipeline) -> Steps:
    """Read an entry as another program of the group, and never settle it; nobody may take it yet."""
    _read_and_keep(pipeline)
    yield {"TelemetryOldestPendingTooOld"}


def lease_taken(pipeline: Pipeline) -> Steps:
    """Take the lease on the group's figures, and export none."""
    pipeline.rig.client.set(KEYS.observer, "somebody", px=3_600_000)
    yield {"TelemetryGroupUnobserved"}


def id_ahead(pipeline: Pipeline) -> Steps:
    """Set an id an hour ahead: each that comes follows it."""
    hour_ahead = int(time.time() * 1000) + 3_600_000
    pipeline.rig.client.xadd(KEYS.stream, {"a": "b"}, id=f"{hour_ahead}-0")
    yield {"TelemetryStreamIdAhead"}


def clock_set_back(pipeline: Pipeline) -> Steps:
    """Set the consumer's clock back by an hour; the server's, the producer's and the devices' are right."""
    for one in pipeline.consumers:
        one.signal(signal.SIGUSR1)
    yield {"TelemetryClockBehind"}


def redis_killed(pipeline: Pipeline) -> Steps:
    """Kill the server."""
    pipeline.server.kill()
    yield {"TelemetryRedisDown"}


def short_of_room(pipeline: Pipeline) -> Steps:
    """Leave Redis little more memory than it uses, and read the database without an end."""
    reader = pipeline.connect()
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM telemetry_events").fetchone()
    client = pipeline.rig.client
    client.setrange("ballast", 32 * 2**20, b"x")
    memory: Any = client.info("memory")
    client.config_set("maxmemory", int(memory["used_memory"] / 0.85))
    yield {"TelemetryRedisMemoryHigh", "TelemetryWalLarge"}


def slow_database(pipeline: Pipeline) -> Steps:
    """Hold the write lock for six seconds at a time, and let go until something is stored."""
    connection = pipeline.connect()

    def get_in_the_way(ending: threading.Event) -> None:
        while not ending.is_set():
            connection.execute("BEGIN IMMEDIATE")
            stored = pipeline.rig.count()
            ending.wait(6)
            connection.execute("ROLLBACK")
            while pipeline.rig.count() == stored and not ending.wait(0.05):
                pass

    pipeline.meanwhile(get_in_the_way)
    yield {"TelemetryLatencyBudgetBurningFast", "TelemetryLatencyBudgetBurningSlow"}


def disk_fills(pipeline: Pipeline) -> Steps:
    """Write to the volume of the database, until it is full."""
    is_seen = threading.Event()

    def fill(ending: threading.Event) -> None:
        with (
            (pipeline.rig.data.parent / "filler").open("wb", buffering=0) as filler,
            contextlib.suppress(OSError),
        ):
            filler.write(bytes(40 * 2**20))
            while not ending.wait(0.5):
                filler.write(bytes(2**22 if is_seen.is_set() else 2**16))

    pipeline.meanwhile(fill)
    yield {"TelemetryDiskWillFill"}
    is_seen.set()
    yield {"TelemetryDiskAlmostFull"}


def bad_senders(pipeline: Pipeline) -> Steps:
    """Send, by three senders: of each eight requests one is good, and waits for others for long.

    And one device sends once, and never again.
    """
    address = f"http://127.0.0.1:{pipeline.http_port}/v1/events"

    def send(ending: threading.Event) -> None:
        number = 0
        while not ending.wait(0.1):
            number += 1
            kpi = "unheard-of" if number % 8 else "temperature"
            with contextlib.suppress(OSError):
                post(address, json.dumps({**event(number), "kpi": kpi, "ts": time.time()}).encode())

    once = json.dumps({**event(0), "device_id": "oven-9", "ts": time.time()}).encode()

    def is_sent() -> bool:
        with contextlib.suppress(OSError):
            return post(address, once).status == 200
        return False

    pipeline.until(is_sent, "the one reading of a device")
    for _ in range(3):
        pipeline.meanwhile(send)
    pipeline.stores()
    yield {"TelemetryRequestsRefused", "TelemetryRequestsSlow", "TelemetryDevicesSilent"}


def broker_trouble(pipeline: Pipeline) -> Steps:
    """Publish more than the stream takes, and more than the broker keeps; then kill the broker."""
    broker = pipeline.broker
    assert broker is not None
    told = pipeline.producer
    assert told is not None
    pipeline.until(lambda: told.lines("mqtt_connected"), "a subscription")
    topic = "plant/hall/oven-1/temperature"
    broker.publish(topic, "20")
    pipeline.stores()
    pipeline.lock()

    def publish(ending: threading.Event) -> None:
        while not ending.wait(1):
            with contextlib.suppress(subprocess.SubprocessError):  # it is killed meanwhile
                broker.publish_lines(topic, ["20"] * 400, timeout_s=5)

    pipeline.meanwhile(publish)
    yield {"TelemetryMqttFallsBehind", "TelemetryMqttMessagesDropped", "TelemetryProducersBlocked"}
    broker.stop(signal.SIGKILL)
    yield {"TelemetryMqttDisconnected"}


_WAITING: Final = {"TelemetryConsumersStalled", "TelemetryBacklogNotDraining", "TelemetryOldestPendingTooOld"}
"""What follows wherever consumers do not get on."""
_LATE: Final = {"TelemetryLatencyBudgetBurningFast", "TelemetryLatencyBudgetBurningSlow"}
"""What follows where what has waited is stored at last."""
_FULL: Final = {"TelemetryStreamNearLimit", "TelemetryProducersBlocked", "TelemetryNothingPublished"}
"""What follows where the stream or the server takes no more."""

TROUBLES: Final = {
    "healthy": Trouble(healthy, environment={"INVALID_RATIO": "0.01"}, consumers=2),
    "database-locked": Trouble(
        database_locked, also={"TelemetryNothingPublished"}, environment={"STREAM_MAX_LENGTH": "200"}
    ),
    "invalid-events": Trouble(
        from_the_start("TelemetryDeadLetterRatioHigh"), environment={"INVALID_RATIO": "0.5"}
    ),
    "row-deleted": Trouble(row_deleted, environment={"RETAIN_DAYS": "1", "AUDIT_INTERVAL_S": "0"}),
    "breaker": Trouble(
        from_the_start("TelemetryBreakerOpen"),
        also=_WAITING | {"TelemetryDeadLetterRatioHigh"},
        environment={"INVALID_RATIO": "0.8", "DLQ_BREAKER_RATIO": "0.5"},
    ),
    "letters-unwritable": Trouble(
        letters_unwritable,
        also=_WAITING | {"TelemetryDeadLetterRatioHigh"},
        environment={"INVALID_RATIO": "0.3"},
    ),
    "trimmed": Trouble(
        trimmed,
        also=_WAITING | _LATE | {"TelemetrySinkDown", "TelemetryAuditTooOld"},
    ),
    "oldest-dropped": Trouble(
        oldest_dropped,
        also=_WAITING
        | {"TelemetrySinkDown", "TelemetryStreamNearLimit", "TelemetryTrimmedUnread", "TelemetryLagUnknown"},
        environment={"STREAM_MAX_LENGTH": "50", "STREAM_FULL": "drop_oldest"},
    ),
    "consumers-frozen": Trouble(consumers_frozen, consumers=2),
    "entry-kept": Trouble(entry_kept, environment={"CLAIM_IDLE_MS": "600000"}),
    "lease-taken": Trouble(lease_taken),
    "redis-killed": Trouble(redis_killed, also=_WAITING | {"TelemetryNothingPublished"}),
    # By that clock, the ids of the stream are ahead.
    "clock-behind": Trouble(clock_set_back, also=_WAITING | {"TelemetryStreamIdAhead"}),
    "id-ahead": Trouble(id_ahead, also=_WAITING | _LATE | _FULL | {"TelemetryDeadLetterRatioHigh"}),
    # The busiest of all: on a slow machine it falls behind.
    "short-of-room": Trouble(
        short_of_room,
        also=_LATE | {"TelemetryBacklogNotDraining"},
        environment={"BATCH_SIZE": "10"},
        rate=200,
    ),
    "slow-database": Trouble(
        slow_database,
        also=_WAITING,
        environment={"SQLITE_BUSY_TIMEOUT_MS": "10000", "CLAIM_IDLE_MS": "60000", "BATCH_SIZE": "2000"},
    ),
    # Nobody sends anything until all pipelines run.
    "bad-senders": Trouble(
        bad_senders,
        also={"TelemetryNothingPublished"},
        environment={"PRODUCER_MODE": "http", "LINGER_MS": "2000", "SILENT_AFTER_S": "5"},
    ),
    # Dead letters are on that disk, too.
    "disk-fills": Trouble(
        disk_fills,
        also=_WAITING | {"TelemetrySinkDown", "TelemetryDeadLetterWriteFailing"},
        disk_mb=64,
        alone=frozenset({"TelemetryDiskWillFill", "TelemetryDiskAlmostFull"}),
    ),
    "broker": Trouble(
        broker_trouble,
        also=_WAITING | _FULL | {"TelemetrySinkDown"},
        environment={"STREAM_MAX_LENGTH": "400"},
        broker=("max_queued_messages 1000",),
        alone=frozenset(
            {"TelemetryMqttDisconnected", "TelemetryMqttFallsBehind", "TelemetryMqttMessagesDropped"}
        ),
    ),
}


@dataclass
class Live:
    """All pipelines with their troubles, what watches them, and what was sent to whom."""

    prometheus: Prometheus
    webhook: Webhook
    awaited: dict[str, set[str]] = field(default_factory=dict)
    """What a trouble still waits for, by release."""
    wanted: dict[str, set[str]] = field(default_factory=dict)
    """All that it has waited for."""
    skipped: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Start all pipelines; when all of them run, watch them, and bring all troubles upon them.

    Where failing tests are run once more, all of it is: on a machine that stands still for seconds, alerts
    fire that nothing else has brought about.
    """
    again = int(request.config.getoption("reruns", None) or 0)
    folder = tmp_path_factory.mktemp("alerts")
    for attempt in range(again + 1):
        with contextlib.ExitStack() as stack:
            disk = stack.enter_context(disk_in_memory(folder / str(attempt), _DISK_MB))
            one = _lived(disk, stack)
            wrong = _first_wrong(one) if attempt < again else ""
            if not wrong:
                yield one
                return
        _say(request.config, f"\nRERUN {request.node.nodeid}: {wrong}\n")


def _lived(folder: Path, stack: contextlib.ExitStack) -> Live:
    """Run all pipelines, and take all troubles' steps. Their end is on the stack."""
    purpose = "no alert is made to fire"
    webhook = stack.enter_context(Webhook())
    alertmanager = stack.enter_context(Alertmanager(folder / "alertmanager"))
    needed(lambda: find_program("prometheus"), purpose)
    needed(lambda: alertmanager.start(_routes(webhook)), purpose)
    prometheus = stack.enter_context(Prometheus(folder / "prometheus", SCALE))
    one = Live(prometheus, webhook)
    made = _start_pipelines(one, folder / "pipelines", stack)
    for name, pipeline in made.items():
        prometheus.scrape(f"{name}-producer", pipeline.producer_port, release=name)
        prometheus.scrape(f"{name}-consumer", *pipeline.consumer_ports, release=name)
    rules = sorted(RULES.glob("*.yaml"))
    prometheus.start(interval_s=_INTERVAL_S, rules=rules, alertmanager=alertmanager.port)
    _bring_about(one, made)
    return one


def _first_wrong(live: Live) -> str:
    """Tell what the first of the tests that look at all pipelines finds wrong; nothing where all is right."""
    try:
        for release in TROUBLES:
            if release not in live.skipped:
                _look_at(live, release)
        test_every_alert_was_made_to_fire(live)
        test_the_healthy_pipeline_was_silent_all_the_while(live)
        test_a_page_arrives_with_its_runbook(live)
    except AssertionError as error:
        return " ".join(str(error).split())[:500]
    return ""


def _say(config: pytest.Config, text: str) -> None:
    """Print it among the names of the tests, whether they pass or fail."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write(text)


def _bring_about(live: Live, made: dict[str, Pipeline]) -> None:
    """Take every trouble's steps, each as soon as the alerts of the one before it have fired."""
    steps = {name: TROUBLES[name].do(pipeline) for name, pipeline in made.items()}
    live.awaited = {name: next(one) for name, one in steps.items()}

    def all_taken() -> bool:
        fired = live.prometheus.has_fired()
        for name in [name for name in steps if live.awaited[name] <= fired.get(name, set())]:
            live.wanted[name] = live.wanted.get(name, set()) | live.awaited[name]
            try:
                live.awaited[name] = next(steps[name])
            except StopIteration:
                live.awaited[name] = set()
                del steps[name]
        return not steps

    with contextlib.suppress(AssertionError):  # each trouble's own test tells what it still waits for
        eventually(all_taken, PATIENCE_S, "all alerts")


def _start_pipelines(live: Live, folder: Path, stack: contextlib.ExitStack) -> dict[str, Pipeline]:
    """Start all of them, and wait until each has stored something."""
    made: dict[str, Pipeline] = {}
    for name, trouble in TROUBLES.items():
        try:
            pipeline = Pipeline(name, folder / name, trouble.consumers)
        except Absent as why:
            pytest.skip(str(why))
        stack.callback(pipeline.close)
        try:
            if trouble.disk_mb is not None:
                pipeline.use_small_disk(trouble.disk_mb)
            if trouble.broker is not None:
                pipeline.use_broker(*trouble.broker)
        except pytest.skip.Exception as why:
            live.skipped[name] = str(why)
            continue
        pipeline.start(trouble.rate, **trouble.environment)
        made[name] = pipeline
    for pipeline in made.values():
        if "PRODUCER_MODE" not in pipeline.rig.environment:  # nobody sends to it yet
            pipeline.stores()
    return made


def _routes(webhook: Webhook) -> dict[str, Any]:
    """Take the routes that docs/alerts.md shows, with a receiver for what wakes somebody."""
    text = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    routes: dict[str, Any] = yaml.safe_load(block)
    for receiver in routes["receivers"]:
        if receiver["name"] == "wake":
            receiver["webhook_configs"] = [{"url": webhook.address}]
    routes["route"] |= {"group_wait": "100ms", "group_interval": "500ms"}
    return routes


@pytest.mark.parametrize("release", TROUBLES)
def test_a_trouble_wakes_somebody_and_only_for_what_it_is(live: Live, release: str) -> None:
    """Its alerts fire, and none but those and what follows from it."""
    if release in live.skipped:
        pytest.skip(live.skipped[release])
    _look_at(live, release)


def _look_at(live: Live, release: str) -> None:
    assert live.awaited[release] == set(), f"these did not fire in {release}"
    fired = live.prometheus.has_fired().get(release, set())
    assert live.wanted[release] <= fired
    assert fired <= live.wanted[release] | TROUBLES[release].also | _of_late_answers(live, release)


def _of_late_answers(live: Live, release: str) -> set[str]:
    """Name what fires rightly where a consumer answered too late: it has a second, as a minute has here."""
    unanswered = f'min_over_time(up{{job="{release}-consumer"}}[1h]) == 0'
    return {"TelemetryConsumersAbsent"} if live.prometheus.query(unanswered) else set()


def test_every_alert_was_made_to_fire(live: Live) -> None:
    """None is left that nothing brings about."""
    missing = {alert for name in live.skipped for alert in TROUBLES[name].alone}
    assert (
        set().union(*live.prometheus.has_fired().values())
        == {rule["alert"] for rule in rules_of("alert")} - missing
    )


def test_the_healthy_pipeline_was_silent_all_the_while(live: Live) -> None:
    """Beside all others, it has woken nobody; and it was watched, and audited."""
    assert "healthy" not in live.prometheus.has_fired()
    for name in (
        "namespace_release:telemetry_consumer_settled_events:rate5m",
        "telemetry_audit_published_events",
    ):
        assert live.prometheus.value(f'{name}{{release="healthy"}}') > 0


def test_every_rule_can_be_evaluated_and_records_something(live: Live) -> None:
    """On the series of processes that run."""
    assert live.prometheus.broken_rules() == {}
    for rule in rules_of("record"):
        assert _has_answer(live, f"last_over_time({rule['record']}[1h])")
        if "redis_memory" not in rule["record"]:  # the healthy pipeline's Redis has no maxmemory
            assert _has_answer(live, f'{rule["record"]}{{release="healthy"}}')


def _has_answer(live: Live, query: str) -> object:
    """Wait for it: on a busy machine a lease may be between two consumers, or a scrape be late."""
    return eventually(lambda: live.prometheus.query(query), 30, f"an answer to {query}")


@pytest.mark.parametrize("query", queries())
def test_a_query_of_a_runbook_has_an_answer(live: Live, query: str) -> None:
    """From one of these pipelines at least."""
    if "telemetry_mqtt_" in query and "broker" in live.skipped:
        pytest.skip(live.skipped["broker"])
    assert _has_answer(live, query)


def test_a_page_arrives_with_its_runbook(live: Live) -> None:
    """Through a real Alertmanager with the routes that are documented; what follows from it wakes nobody."""

    def arrived() -> dict[str, Any] | None:
        alerts = [one for one in live.webhook.alerts() if one["labels"].get("release") == "database-locked"]
        return next((one for one in alerts if one["labels"]["alertname"] == "TelemetrySinkDown"), None)

    alert: dict[str, Any] = eventually(arrived, PATIENCE_S, "the page")
    assert (alert["status"], alert["labels"]["severity"]) == ("firing", "critical")
    assert alert["annotations"]["runbook_url"] == "docs/runbooks/TelemetrySinkDown.md"
    assert {one["labels"]["severity"] for one in live.webhook.alerts()} == {"critical"}
    paged: dict[str, set[str]] = {}
    for one in live.webhook.alerts():
        paged.setdefault(one["labels"].get("release", ""), set()).add(one["labels"]["alertname"])
    assert paged["redis-killed"] == {"TelemetryRedisDown"}
    follow = {"TelemetryProducersBlocked", "TelemetryNothingPublished"}
    assert not _paged_beside(live, "TelemetrySinkDown", "database-locked") & follow
    assert not _paged_beside(live, "TelemetryBreakerOpen", "breaker")


def _paged_beside(live: Live, cause: str, release: str) -> set[str]:
    """Which alerts of a release paged while their cause had been firing for ten seconds, and had paged.

    On a busy machine a scrape may fail, and the cause be out of sight just then; what follows may also be
    seen before its cause, or the Alertmanager hear of both within a moment, of the cause last.
    """

    def since_the_cause() -> list[dict[str, Any]]:
        pages = [one for one in live.webhook.alerts() if one["labels"].get("release") == release]
        return list(itertools.dropwhile(lambda one: one["labels"]["alertname"] != cause, pages))

    pages = eventually(since_the_cause, PATIENCE_S, f"the page of {cause}")
    firing = f'ALERTS{{alertname="{cause}",alertstate="firing",release="{release}"}}'
    known = f"count_over_time({firing}[10s]) >= 10"
    return {
        one["labels"]["alertname"]
        for one in pages
        if one["labels"]["alertname"] != cause and live.prometheus.query(known, at=one["startsAt"])
    }
