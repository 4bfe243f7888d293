"""From what is sent to events, and to what is wrong with each."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.ids import CANONICAL
from services.contract.kpis import parse_kpis, shipped
from services.producer.mapping.mapped import Mapped, ValueColumn
from services.producer.rows.problem import Problem
from services.producer.spellings import Spellings
from services.producer.taking.making import ARRIVAL, MOST_NAMED, JsonMaker, LineMaker, Made, Rules, TooMany

SHIPPED = parse_kpis(shipped())
EVENT: dict[str, Any] = {
    "device_id": "d1", "zone": "hall", "ts": 1710028800, "kpi": "temperature", "value": 21.5,
}  # fmt: skip


def rules(*, checks: bool = True, most: int = 100) -> Rules:
    return Rules(Spellings(SHIPPED), SHIPPED if checks else None, 4096, most)


def document(content: Any, mapped: Mapped = Mapped(), **more: Any) -> Made:  # noqa: B008 - it is frozen
    return JsonMaker(mapped, rules(**more)).document(json.dumps(content).encode())


def lines(text: str, precision: str = "ns", mapped: Mapped = Mapped()) -> Made:  # noqa: B008 - as above
    return LineMaker(mapped, rules()).lines(text.encode(), precision)


def values(made: Made) -> list[list[str]]:
    return [one.values for _, one in made.events]


def refused(made: Made) -> list[tuple[int, str]]:
    return [(one.position, one.field) for one in made.refused]


def test_an_event_has_the_contracts_texts_and_an_id_of_its_content() -> None:
    """Names, units and numbers are resolved, and the same event is the same id."""
    (only,) = document(EVENT).events
    assert only[1].values == ["d1", "hall", "1710028800", "temperature", "21.5"]
    assert CANONICAL.fullmatch(str(only[1].own_id))
    again = document({**EVENT, "kpi": "Temp", "value": "70.7", "unit": "°F", "ts": "2024-03-10T00:00:00Z"})
    assert values(again) == [["d1", "hall", "1710028800", "temperature", "21.5"]]
    assert again.events[0][1].own_id == only[1].own_id
    other = document({**EVENT, "attributes": {"firmware": "1.2"}})
    assert other.events[0][1].trace == ["attributes", '{"firmware":"1.2"}']
    assert other.events[0][1].own_id != only[1].own_id


def test_an_event_without_a_time_is_numbered_when_it_is_published() -> None:
    """It has no id yet, and its time is left to the moment of its arrival."""
    timeless = {name: value for name, value in EVENT.items() if name != "ts"}
    for one in (timeless, {**timeless, "ts": ""}, {**timeless, "ts": None}):
        ((_, picked),) = document(one).events
        assert (picked.values[2], picked.own_id) == (ARRIVAL, None)
    own = {**timeless, "event_id": "0e8c4f1a-0000-4000-8000-000000000001"}
    assert refused(document(own)) == [(1, "ts")]
    assert document({**own, "ts": 1710028800}).events[0][1].own_id == own["event_id"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"device_id": ""}, "device_id"),
        ({"device_id": None}, "device_id"),
        ({"device_id": "x" * 129}, "device_id"),
        ({"zone": "a\u0007b"}, "zone"),
        ({"zone": ["hall"]}, "zone"),
        ({"zone": "\ud800"}, "zone"),
        ({"ts": 1710028800000}, "ts"),
        ({"ts": "yesterday"}, "ts"),
        ({"ts": True}, "ts"),
        ({"kpi": "wind"}, "kpi"),
        ({"value": "much"}, "value"),
        ({"value": {}}, "value"),
        ({"value": "12", "unit": "furlong"}, "value"),
        ({"value": 1e300}, "value"),
        ({"kpi": "humidity", "value": -1}, "value"),
        ({"event_id": "1"}, "event_id"),
        ({"attributes": "new"}, "attributes"),
        ({"attributes": {"a": "x" * 129}}, "attributes"),
    ],
)
def test_what_is_wrong_is_told_with_its_position_and_field(change: dict[str, Any], field: str) -> None:
    """And the good events beside it are made."""
    made = document([EVENT, {**EVENT, **change}, {**EVENT, "ts": 1710028801}])
    assert refused(made) == [(2, field)]
    assert [position for position, _ in made.events] == [1, 3]
    assert made.refused[0].reason


def test_refusals_are_named_within_a_bound_and_all_counted() -> None:
    """Whoever sends a thousand bad events hears of the first ones, and how many there are."""
    made = document([5] * 50)
    assert (len(made.refused), len(made.refused_fields)) == (MOST_NAMED, 50)


def test_where_there_is_no_reading_nothing_is_wrong() -> None:
    """It is counted, so that the answer adds up."""
    made = document([EVENT, {**EVENT, "value": "unavailable"}, {**EVENT, "value": "nan"}])
    assert (len(made.events), made.without_reading, made.refused) == (1, 2, [])


def test_a_request_has_a_bound_whatever_is_in_it() -> None:
    """Good events and bad ones count."""
    assert len(document([EVENT] * 100).events) == 100
    with pytest.raises(TooMany):
        document([EVENT] * 101)
    with pytest.raises(TooMany):
        document([5] * 101)
    with pytest.raises(TooMany):
        LineMaker(Mapped(), rules()).lines(b"bad\n" * 101, "ns")
    with pytest.raises(TooMany):
        JsonMaker(Mapped(), rules()).lines(b"{\n" * 101)


@pytest.mark.parametrize("one", [b"[]", b'{"a":1}', b"12", b"[[[[[[[[[[]]]]]]]]]]"])
def test_a_document_of_a_million_values_is_not_even_read(one: bytes) -> None:
    """They would take fifty times its size, whatever they are."""
    data = b"[" + (one + b",") * (3_000_000 // (1 + len(one))) + b"0]"
    maker = JsonMaker(Mapped(), rules())
    tracemalloc.start()
    try:
        for make in (maker.document, maker.lines):
            with pytest.raises(TooMany):
                make(data)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()
    wide = {**EVENT, "attributes": {"note": "a, [b] and {c}"}, **{f"m{n}": [n] for n in range(50_000)}}
    assert len(document(wide, checks=False).events) == 1


def test_what_is_no_json_is_a_problem_of_the_whole() -> None:
    """Of lines, each stands for itself."""
    for data in (b"", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(Problem):
            JsonMaker(Mapped(), rules()).document(data)
    text = json.dumps(EVENT).encode()
    made = JsonMaker(Mapped(), rules()).lines(text + b"\r\n\n\xff\n{bad\n" + text)
    assert [position for position, _ in made.events] == [1, 5]
    assert [position for position, _ in refused(made)] == [3, 4]


def test_a_mapping_reads_other_shapes() -> None:
    """Paths, lists of readings, columns of values, and SenML, as in files."""
    nested = Mapped(
        columns={"device_id": "source.name", "zone": "site", "kpi": "type", "value": "v", "ts": "at"},
        readings="data[]",
    )
    readings = [{"type": "temperature", "v": 1}, {"type": "wind", "v": 2}, {"type": "humidity", "v": 3}]
    made = document({"source": {"name": "n"}, "site": "s", "at": 1710028800, "data": readings}, nested)
    assert values(made) == [
        ["n", "s", "1710028800", "temperature", "1"],
        ["n", "s", "1710028800", "humidity", "3"],
    ]
    assert refused(made) == [(2, "kpi")]
    listed = document([{"site": "s"}, {"source": {"name": "n"}, "site": "s", "at": 1, "data": []}], nested)
    assert refused(listed) == [(1, "")]
    wide = Mapped(
        values=(
            ValueColumn("t", {"kpi": "temperature"}),
            ValueColumn("h", {"kpi": "humidity"}),
        )
    )
    made = document({"device_id": "d", "zone": "z", "ts": 1710028800, "t": 1, "h": None}, wide)
    assert (values(made), made.without_reading) == ([["d", "z", "1710028800", "temperature", "1"]], 1)
    senml = Mapped(format="senml", constants={"zone": "z"})
    pack = [{"bn": "n", "bt": 1710028800, "n": "temperature", "v": 1}, {"n": "humidity", "v": 2, "t": 5}]
    assert values(document(pack, senml)) == [
        ["n", "z", "1710028800", "temperature", "1"],
        ["n", "z", "1710028805", "humidity", "2"],
    ]


def test_what_the_base_of_a_senml_pack_says_is_added() -> None:
    """A time of its arrival has none; a base holds until there is another."""
    senml = Mapped(format="senml", constants={"zone": "z"})
    base = {"bn": "d", "bt": 1710028800, "bv": 20, "bu": "Cel", "n": "temperature"}
    pack = [
        {**base, "v": 1.25},
        {"n": "temperature", "t": -60, "v": -0.5},
        {"n": "humidity", "bv": 0, "v": 5},
    ]
    assert values(document(pack, senml))[:2] == [
        ["d", "z", "1710028800", "temperature", "21.25"],
        ["d", "z", "1710028740", "temperature", "19.5"],
    ]
    assert [one[4] for one in values(document([{**pack[2], "u": "%RH", "bn": "d"}], senml))] == ["5"]
    assert values(document([{**base, "bt": 0, "v": 1}], senml))[0][2] == ARRIVAL
    assert document([{**base, "v": "nan"}], senml).without_reading == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"must_": 1}, "must not read"),
        ({"bver": 11}, "version '11'"),
        ({"bt": None, "t": -5}, "relative"),
        ({"bt": "1e9999999"}, "no numbers"),
        ({"bt": {}}, "no numbers"),
        ({"bv": "much"}, "no numbers"),
        ({"bv": "1e9999999"}, "no numbers"),
        ({"v": True}, "true or false"),
    ],
)
def test_what_is_not_understood_of_senml_is_refused(change: dict[str, Any], why: str) -> None:
    """No reading of it is guessed, and no number is too large for the answer."""
    pack = [{"bn": "d", "bt": 1710028800, "bv": 1, "n": "temperature", "v": 20, **change}]
    data = json.dumps(pack).replace('"1e9999999"', "1e9999999").encode()
    made = JsonMaker(Mapped(format="senml", constants={"zone": "z"}), rules()).document(data)
    assert made.events == []
    assert why in made.refused[0].reason


def test_a_mapping_says_what_tells_a_reading_from_others() -> None:
    """Then the id is of that alone, and a time is needed."""
    mapped = Mapped(id_from=("device_id", "ts", "kpi"))
    (one,), (other,) = (document({**EVENT, "value": value}, mapped).events for value in (20, 21))
    assert one[1].own_id == other[1].own_id
    assert refused(document({**EVENT, "ts": ""}, mapped)) == [(1, "ts")]
    assert refused(document({**EVENT, "ts": None}, mapped)) == [(1, "ts")]


def test_lines_have_usual_tags_and_kpis_by_their_fields() -> None:
    """Each number is an event; what is no number is none. A field named value is the measurement's."""
    made = lines('weather,sensor=d,room=r temperature=21,humidity=40i,note="x, y" 1710028800000000000')
    assert values(made) == [
        ["d", "r", "1710028800", "temperature", "21"],
        ["d", "r", "1710028800", "humidity", "40"],
    ]
    assert values(lines("temperature,host=h value=3 1710028800000000000")) == [
        ["h", "default", "1710028800", "temperature", "3"]
    ]
    made = lines('#\n\nt temperature=1\nt,host=h note="x"\nbad\nt,host=h wind=1\nt,host=h pressure=900')
    assert refused(made) == [(3, "device_id"), (4, "value"), (5, ""), (6, "kpi")]
    assert values(made) == [["h", "default", ARRIVAL, "pressure", "900"]]


def test_what_stands_in_a_text_of_a_line_is_no_event() -> None:
    """Logs and descriptions have line breaks, and Telegraf sends them as they are."""
    made = lines('log,host=a text="up\nt,host=b temperature=1\n",temperature=2\nbad\nt,host=c temperature=3')
    assert [(at, one.values[0]) for at, one in made.events] == [(1, "a"), (5, "c")]
    assert refused(made) == [(4, "")]


@pytest.mark.parametrize(
    ("precision", "time"),
    [
        ("ns", "1710028800000000000"), ("n", "1710028800000000000"), ("us", "1710028800000000"),
        ("u", "1710028800000000"), ("ms", "1710028800000"), ("s", "1710028800"), ("m", "28500480"),
        ("h", "475008"),
    ],
)  # fmt: skip
def test_times_of_lines_are_in_their_precision(precision: str, time: str) -> None:
    """Of InfluxDB 2, and the older ones of InfluxDB 1. Another precision is no believable time."""
    assert values(lines(f"t,host=h temperature=1 {time}", precision))[0][2] == "1710028800"
    other = "ns" if precision == "s" else "s" if precision not in {"m", "h"} else "ns"
    assert refused(lines(f"t,host=h temperature=1 {time}", other)) == [(1, "ts")]


def test_a_mapping_names_tags_and_columns_of_lines() -> None:
    """With columns of values a line is several readings, each with a KPI of its own name."""
    mapped = Mapped(
        columns={"device_id": "box"},
        constants={"zone": "yard"},
        values=(ValueColumn("t1", {"kpi": "temperature"}), ValueColumn("h1", {"kpi": "humidity"})),
    )
    made = lines("m,box=b t1=1,h1=2,other=3 1710028800", "s", mapped)
    assert values(made) == [
        ["b", "yard", "1710028800", "temperature", "1"],
        ["b", "yard", "1710028800", "humidity", "2"],
    ]


def test_kpis_can_be_left_to_the_consumer() -> None:
    """Its steps may rename and convert; until then any KPI passes, in any range."""
    made = document([{**EVENT, "kpi": "wind"}, {**EVENT, "kpi": "humidity", "value": 4000}], checks=False)
    assert [one[3:] for one in values(made)] == [["wind", "21.5"], ["humidity", "4000"]]


LONG_JSON = Mapped(columns={"zone": "zone"})
LONG_LINES = Mapped(columns={"value": "value"})
"""They say what goes without saying, so nothing is usual any more."""
LABELS = st.sampled_from(["d", "é", " a b ", "", "\x85", "\u2028", "x" * 129, "a\nb"])
TIMES = st.sampled_from(
    [
        "1710000000",
        "1710000000.25",
        "1710000000.250",
        "01710000000.5",
        "1710000000000",
        "5",
        "",
        " 1710000000 ",
    ]
)
MEMBERS = st.fixed_dictionaries(
    {"device_id": LABELS, "zone": LABELS},
    optional={
        "kpi": st.sampled_from(["temperature", "Temperature", "nothing", " humidity "]),
        "value": st.sampled_from(
            ["21.5", "21.50", 20, 20.25, -1, "1e2", "cold", None, True, " 7 ", "70 °F", "9" * 30]
        ),
        "ts": TIMES | st.sampled_from([1710000000, 1710000000.5, None]),
        "unit": st.sampled_from(["°F", None]),
        "event_id": st.sampled_from(["018f3c5e-8a10-7abc-8def-01200000002a", "x"]),
        "attributes": st.just({"firmware": "1"}),
        "other": st.just(1),
    },
)


@given(MEMBERS)
def test_the_short_way_of_an_ordinary_object_makes_the_same(members: dict[str, Any]) -> None:
    """It is the usual one, and the way with every question is the one that counts."""
    data = json.dumps([members]).encode()
    short, long = (JsonMaker(mapped, rules()) for mapped in (Mapped(), LONG_JSON))
    check_same(short.document(data), long.document(data))


TOPICS = st.fixed_dictionaries({"device_id": LABELS}, optional={"zone": LABELS, "kpi": st.just("Temp")})


@given(MEMBERS | st.sampled_from(["21.5", "cold", 20, None]), TOPICS)
def test_the_short_way_of_what_is_told_beside_an_object_makes_the_same(
    content: dict[str, Any] | str | int | None, told: dict[str, str]
) -> None:
    """As above; what is told goes before what the object says."""
    data = json.dumps([content]).encode()
    short, long = (JsonMaker(mapped, rules(), told) for mapped in (Mapped(), LONG_JSON))
    check_same(short.document(data, told), long.document(data, told))


@given(
    st.dictionaries(
        st.sampled_from(["device", "host", "zone", "room", "unit", "event_id", "attributes", "traceparent"]),
        st.sampled_from(["a", "b c", "é", "°F", "{}"]),
    ),
    st.dictionaries(
        st.sampled_from(["temperature", "value", "humidity"]), st.sampled_from(["1", "21.5", "-3i", "7u"])
    ),
    TIMES,
    st.sampled_from(["ns", "us", "ms", "s"]),
)
def test_the_short_way_of_an_ordinary_line_makes_the_same(
    tags: dict[str, str], fields: dict[str, str], time: str, precision: str
) -> None:
    """As above."""
    named = "".join(f",{name}={value}".replace(" ", "\\ ") for name, value in tags.items())
    line = (
        f"temperature{named} {','.join(f'{name}={value}' for name, value in fields.items())} {time}".encode()
    )
    short, long = (LineMaker(mapped, rules()) for mapped in (Mapped(), LONG_LINES))
    check_same(short.lines(line, precision), long.lines(line, precision))


def check_same(one: Made, other: Made) -> None:
    """See the same events, and as many refused; where two fields are wrong, either may be named."""
    assert one.events == other.events
    assert len(one.refused) == len(other.refused)
    assert one.without_reading == other.without_reading
