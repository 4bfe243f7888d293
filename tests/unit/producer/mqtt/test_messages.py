"""From a message to what is published of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.kpis import parse_kpis, shipped
from services.producer.mapping.mapped import Mapped, ValueColumn
from services.producer.mqtt import messages as messages_module
from services.producer.mqtt.messages import MOST_READ_BYTES, Arrived, MessageMaker, Readings
from services.producer.mqtt.topics import read_templates
from services.producer.rows.pick import Picked
from services.producer.spellings import Spellings
from services.producer.taking.desk import AsItCame
from services.producer.taking.making import Rules

AT = 1_800_000_000.25
TOPIC = "plant/hall/oven-1/temperature"
RULES = Rules(Spellings(parse_kpis(shipped())), None, 4096, 10)


def made(
    payload: Any,
    topic: str = TOPIC,
    mapped: Mapped = Mapped(),  # noqa: B008 - it is frozen
    templates: str = "plant/{zone}/{device}/{kpi}",
    traceparent: str = "",
) -> Readings:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    maker = MessageMaker(read_templates(templates, []), mapped, RULES)
    return maker.make(Arrived(topic, data, AT, traceparent, "a=b"))


def events(readings: Readings) -> list[Picked]:
    return [one for one in readings.events if isinstance(one, Picked)]


def values(readings: Readings) -> list[list[str]]:
    return [one.values for one in events(readings)]


def letters(readings: Readings) -> list[dict[str, str | bytes]]:
    return [
        dict(zip(map(str, one.fields[::2]), one.fields[1::2], strict=True))
        for one in readings.events
        if isinstance(one, AsItCame)
    ]


@pytest.mark.parametrize("payload", [b"21.5", b" 21.5\n", b'"21.5"', b'{"value": 21.5}', b"[21.5]"])
def test_a_reading_without_a_time_has_that_of_its_arrival(payload: bytes) -> None:
    """And no id of its content: the next one may be the same."""
    found = made(payload)
    assert values(found) == [["oven-1", "hall", "1800000000.250", "temperature", "21.5"]]
    assert (events(found)[0].own_id, found.result) == (None, "events")


def test_a_reading_with_a_time_has_an_id_of_its_content() -> None:
    """However it is written, so that one that comes again is a duplicate."""
    one, other = (
        made({"value": 21.5, "ts": 1710028800}),
        made({"value": "70.7 °F", "ts": "2024-03-10T00:00:00Z"}),
    )
    assert values(one) == values(other) == [["oven-1", "hall", "1710028800", "temperature", "21.5"]]
    assert events(one)[0].own_id == events(other)[0].own_id is not None


def test_how_late_a_message_is_is_that_of_its_newest_event_with_a_time() -> None:
    """One without a time says nothing of it, and one of a clock that is ahead is not late."""
    late = [{"value": 1, "ts": AT - 90}, {"value": 2, "ts": AT - 30}, {"value": 3}]
    assert made(late).lag_s == 30
    assert made([*late, {"value": "cold"}]).lag_s == 30
    assert made({"value": 1, "ts": AT + 60}).lag_s == 0
    for payload in (b"21.5", b"null", b"cold"):
        assert made(payload).lag_s is None


def test_the_topic_goes_before_the_payload() -> None:
    """Who may write to one topic is not to forge another's readings."""
    forged = {"device_id": "other", "zone": "z", "kpi": "humidity", "value": 1}
    assert values(made(forged))[0][:2] == ["oven-1", "hall"]
    assert values(made(forged))[0][3] == "temperature"
    assert values(made(forged, "d/x", templates="d/+"))[0][:2] == ["other", "z"]
    strange = {**forged, "\0device_id": "x"}
    assert values(made(strange))[0][0] == "oven-1"


def test_a_list_is_several_readings_and_a_bad_one_costs_itself_alone() -> None:
    """The good ones are events, and the whole message is kept besides."""
    payload = [1, {"value": 2, "ts": 1710000002}, {"value": "cold"}, None, [3], True]
    found = made(payload)
    assert [one[4] for one in values(found)] == ["1", "2"]
    (letter,) = letters(found)
    assert letter["payload"] == json.dumps(payload).encode()
    assert "event 3: value 'cold' is no number" in str(letter["problem"])
    assert (found.result, found.reason) == ("partly", "value")


def test_a_mapping_reads_other_shapes() -> None:
    """Paths, columns of readings, constants, and a decimal comma."""
    columns = Mapped(
        values=(ValueColumn("t.now", {"kpi": "temperature"}), ValueColumn("h", {"kpi": "humidity"}))
    )
    found = made({"t": {"now": 20}, "h": 40}, "dev/d1", columns, "dev/{device}")
    assert found.result == "dead", "nobody says the zone"
    columns = Mapped(values=columns.values, constants={"zone": "shed"})
    found = made({"t": {"now": 20}, "h": 40}, "dev/d1", columns, "dev/{device}")
    assert [(one[0], one[1], one[3]) for one in values(found)] == [
        ("d1", "shed", "temperature"), ("d1", "shed", "humidity"),
    ]  # fmt: skip
    assert values(made(b"21,5", mapped=Mapped(decimal=",")))[0][4] == "21.5"
    lists = Mapped(columns={"value": "v"}, readings="data[]")
    assert [one[4] for one in values(made({"data": [{"v": 1}, {"v": 2}]}, mapped=lists))] == ["1", "2"]
    senml = Mapped(format="senml")
    assert values(made([{"bn": "x", "n": "y", "v": 3, "bt": 1710000000}], mapped=senml))[0] == [
        "oven-1", "hall", "1710000000", "temperature", "3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "topic", "reason", "problem"),
    [
        (b"", TOPIC, "form", "the payload is empty"),
        (b" \n", TOPIC, "form", "the payload is empty"),
        (b"\xff\xfe", TOPIC, "form", "not UTF-8"),
        (b'{"value": "\xff"}', TOPIC, "form", "not UTF-8"),
        (b"{bad", TOPIC, "form", "not JSON"),
        (b"[" * 5000, TOPIC, "form", "not JSON"),
        (b"cold", TOPIC, "value", "is no number"),
        (b'{"value": 1, "ts": "yesterday"}', TOPIC, "ts", ""),
        (b'{"value": 1, "event_id": "0e8c4f1a-0000-4000-8000-000000000001"}', TOPIC, "ts", "event_id"),
        (b"1", "plant/hall//temperature", "device_id", ""),
        (b"1", "other/x", "topic", "no template"),
        (b"[1,1,1,1,1,1,1,1,1,1,1]", TOPIC, "size", "more than 10 events"),
        (b" " * (MOST_READ_BYTES + 1), TOPIC, "size", "larger than"),
    ],
)
def test_what_makes_no_event_is_kept_as_it_came(
    payload: bytes, topic: str, reason: str, problem: str
) -> None:
    """With its topic, and what is wrong with it."""
    found = made(payload, topic)
    (letter,) = letters(found)
    assert (events(found), found.result, found.reason) == ([], "dead", reason)
    assert letter["topic"] == topic.encode()
    assert letter["payload"] == payload
    assert problem in str(letter["problem"])
    assert len(str(letter["problem"])) <= 1000


@pytest.mark.parametrize("payload", [b"null", b"nan", b"unavailable", b'{"value": "n/a"}', b"[]", b"[null]"])
def test_what_has_no_reading_says_so_itself(payload: bytes) -> None:
    """It is no fault, and nothing is published."""
    assert made(payload) == Readings([], "without_reading")


def test_of_a_huge_payload_the_beginning_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its size."""
    monkeypatch.setattr(messages_module, "MOST_READ_BYTES", 1000)
    monkeypatch.setattr(messages_module, "MOST_WHOLE_BYTES", 10_000)
    (whole,) = letters(made(b"x" * 10_000))
    assert (len(whole["payload"]), "payload_bytes" in whole) == (10_000, False)
    (cut,) = letters(made(b"x" * 10_001))
    assert (len(cut["payload"]), cut["payload_bytes"]) == (4096, "10001")


def test_a_sampled_context_is_given_to_the_events() -> None:
    """And one that is none costs nothing."""
    traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert events(made(b"1", traceparent=traced))[0].trace == ["traceparent", traced, "tracestate", "a=b"]
    assert events(made(b"1", traceparent="nonsense"))[0].trace == []


@given(st.binary(max_size=60), st.text(max_size=30))
def test_whatever_comes_makes_something_or_says_that_it_has_none(payload: bytes, level: str) -> None:
    """It never raises, so it can never come again for ever."""
    for topic in (TOPIC, f"plant/{level}/d/temperature"):
        found = made(payload, topic)
        assert bool(found.events) == (found.result != "without_reading")
