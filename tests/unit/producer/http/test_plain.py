"""Plain events, read in one go: never another thing than what the careful reader makes of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.kpis import parse_kpis, shipped
from services.contract.producing.outgoing import Numbering, Outgoing
from services.producer.http.plain import PlainReader
from services.producer.mapping.mapped import Mapped
from services.producer.rows.problem import Problem
from services.producer.rows.publishable import numbered
from services.producer.spellings import Spellings
from services.producer.taking.making import JsonMaker, Rules, TooMany

SHIPPED = parse_kpis(shipped())
EVENT: dict[str, Any] = {
    "device_id": "d1", "zone": "hall", "ts": 1710028800.25, "kpi": "temperature", "value": 21.5,
}  # fmt: skip
NUMBERS = (
    "0", "-0", "1", "20", "21.5", "21.50", "-21.5", "+1", ".5", "5.", "01", "1e1", "1E-2", "2e400", "1.5e",
    "NaN", "12345678901234567890123", "0.000000000000000000001", "1710028800", "1710028800.123456",
    "1710028800.0", "1710028800000", "31535999", "7258118400", "null", "true", '"21.5"', "[]", "\uff11",
    '"2024-03-10T00:00:00Z"',
)  # fmt: skip
TEXTS = (
    "d1", "hall", "temperature", "Temp", "humidity", "wind", "pressure", "ü", "温度", "a b", " a", "a ",
    "a\u00a0", "", "x" * 128, "x" * 129, "a\tb", "a\nb", "a\u2028b", '"', "\\", "ts", '","', "\ud800",
    "\x7f", "\x85",
)  # fmt: skip


def rules(*, checks: bool = True, most: int = 100, largest: int = 4096) -> Rules:
    return Rules(Spellings(SHIPPED), SHIPPED if checks else None, largest, most)


def careful(data: bytes, given: Rules) -> list[Outgoing] | None:
    """Make events by the careful reader; None where not all of the body is right."""
    try:
        made = JsonMaker(Mapped(), given).document(data)
    except (Problem, TooMany):
        return None
    if made.refused_fields or made.without_reading:
        return None
    return [numbered(one, 0, Numbering("7abc-8def-012")) for _, one in made.events]


def read(data: bytes, given: Rules | None = None) -> list[Outgoing] | None:
    """Read a body, and hold what is taken to what the careful reader makes of it."""
    given = given or rules()
    found = PlainReader(given).read(data)
    if found is not None:
        assert found == careful(data, given)
    return found


def as_it_stands(text: str) -> str:
    """Write a text of JSON as some programs do, with all characters as they are."""
    return json.dumps(text, ensure_ascii=False)


members = st.fixed_dictionaries(
    {
        '"device_id"': st.sampled_from(TEXTS).map(as_it_stands),
        '"zone"': st.sampled_from(TEXTS).map(json.dumps) | st.just('"hall"'),
        '"ts"': st.sampled_from(NUMBERS) | st.integers(0, 10**11).map(str),
        '"kpi"': st.sampled_from(TEXTS).map(as_it_stands) | st.just('"temperature"'),
        '"value"': st.sampled_from(NUMBERS) | st.floats(0, 100).map(repr),
    },
    optional={
        '"unit"': st.sampled_from(('"°F"', '""', "null")),
        '"event_id"': st.just('"0e8c4f1a-0000-4000-8000-000000000001"'),
        '"attributes"': st.just('{"a": "b"}'),
        '"\\u0074s"': st.just("1"),
    },
).map(lambda found: list(found.items()))
likely = st.fixed_dictionaries(
    {
        "device_id": st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20),
        "zone": st.sampled_from(("hall", "Küche", "zone 1")),
        "ts": st.integers(31_536_000, 7_258_118_399) | st.decimals(10**9, 2 * 10**9, places=3).map(float),
        "kpi": st.sampled_from(("temperature", "humidity", "Temp")),
        "value": st.integers(0, 90) | st.floats(0, 90).map(lambda found: round(found, 3)),
    }
)


@given(st.lists(likely, min_size=1, max_size=5))
def test_plain_events_are_taken_and_as_the_careful_reader_takes_them(events: list[dict[str, Any]]) -> None:
    """Id, texts, and bytes of the id; in any order of members, and with any characters."""
    backwards = [dict(reversed(one.items())) for one in events]
    for content in (events, backwards):
        found = read(json.dumps(content, ensure_ascii=False).encode())
        assert found is not None
        assert len(found) == len(events)


@given(st.lists(members, max_size=4), st.data())
def test_whatever_is_taken_the_careful_reader_takes_too(events: list[list[Any]], data: st.DataObject) -> None:
    """Of members that are nearly right, are there twice, or are missing, and of bytes that are no JSON."""
    for one in events:
        if data.draw(st.booleans()):
            one.insert(data.draw(st.integers(0, len(one))), data.draw(st.sampled_from(one)))
        if data.draw(st.integers(0, 3)) == 0:
            del one[data.draw(st.integers(0, len(one) - 1))]
    text = ",".join("{" + ",".join(f"{name}:{value}" for name, value in one) + "}" for one in events)
    body = bytearray(f"[{text}]".encode(errors="surrogatepass"))
    if data.draw(st.integers(0, 2)) == 0:
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
    for checks in (True, False):
        read(bytes(body), rules(checks=checks))


@pytest.mark.parametrize(
    "change",
    [
        {"value": 1e9},
        {"value": -1},
        {"value": "21.5"},
        {"kpi": "wind"},
        {"zone": " hall"},
        {"zone": "a\\b"},
        {"zone": "a\x7fb"},
        {"device_id": ""},
        {"device_id": "x" * 129},
        {"ts": 1},
        {"ts": "2024-03-10T00:00:00Z"},
        {"unit": "°C"},
        {"event_id": "0e8c4f1a-0000-4000-8000-000000000001"},
    ],
)
def test_what_wants_a_closer_look_is_left_to_it(change: dict[str, Any]) -> None:
    """All of the body, so that each event is named by its place."""
    assert read(json.dumps([EVENT, {**EVENT, **change}], ensure_ascii=False).encode()) is None


def test_so_is_what_is_too_many_too_large_or_no_list_of_events() -> None:
    """The careful reader says what is wrong with it."""
    data = json.dumps([EVENT] * 3).encode()
    assert read(data) is not None
    assert read(data, rules(most=2)) is None
    assert read(data, rules(largest=300)) is None
    twice = b'[{"device_id":"a","device_id":"b","zone":"z","ts":1710028800,"kpi":"temperature","value":1}]'
    bare = twice.replace(b'"device_id":"a",', b"")
    assert read(bare) is not None
    for one in (
        twice,
        bare[1:-1],
        b"[]",
        b"",
        b"{}",
        bare + b"x",
        b"\xef\xbb\xbf" + bare,
        bare.replace(b"b", b"\xff"),
    ):
        assert read(one) is None
