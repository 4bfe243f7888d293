"""A mapping that is written is the one that is read."""

from hypothesis import given
from hypothesis import strategies as st

from services.producer.mapping.keys import build
from services.producer.mapping.mapped import FORMATS, ORDERS, TWICE, Layout, Mapped, Times, ValueColumn
from services.producer.mapping.mapping_file import read_mapping, write_mapping

names = st.text(alphabet="abc ,;\"\\'°#=\x7f\n", min_size=1, max_size=8).filter(str.strip)
mappings = st.builds(
    Mapped,
    columns=st.dictionaries(st.sampled_from(["device_id", "zone", "unit", "traceparent"]), names),
    constants=st.dictionaries(st.sampled_from(["kpi", "value", "ts"]), names),
    values=st.dictionaries(names, st.sampled_from([{"kpi": "a"}, {"kpi": "a", "zone": "b c"}])).map(
        lambda found: tuple(ValueColumn(*one) for one in found.items())
    ),
    readings=st.sampled_from(["", "[]", "data.result[].values[]", "{}", "a[].b.c{}"]),
    id_from=st.sampled_from([(), ("ts",), ("device_id", "ts", "value")]),
    layout=st.builds(
        Layout,
        delimiter=st.sampled_from([None, ";", "\t", "blanks"]),
        quote=st.sampled_from(['"', "'", ""]),
        encoding=st.sampled_from([None, "latin-1"]),
        skip_lines=st.integers(0, 9),
        skip_after_header=st.integers(0, 9),
        comment=st.sampled_from(["", "#", "//"]),
        has_header=st.booleans(),
        columns=st.lists(names, unique=True, max_size=3).map(tuple),
    ),
    times=st.builds(
        Times,
        columns=st.lists(names, max_size=2).map(tuple),
        earliest=st.sampled_from([Times().earliest, 0.0, 1262304000.5]),
        format=st.sampled_from(["auto", "ms", *ORDERS, "%d.%m.%Y %H:%M"]),
        zone=st.sampled_from(["UTC", "Europe/Berlin", "+01:00"]),
        twice=st.sampled_from(TWICE),
    ),
    decimal=st.sampled_from([".", ","]),
    thousands=st.sampled_from(["", " ", "'"]),
    missing=st.frozensets(names, max_size=2),
    format=st.sampled_from([None, *FORMATS]),
)


@given(mapped=mappings)
def test_what_is_written_is_read(mapped: Mapped) -> None:
    """Names of columns with any marks in them, and every key."""
    errors: list[str] = []
    found = build(read_mapping(write_mapping(mapped), "m.toml", errors), errors)
    assert errors == []
    assert found == mapped


def test_what_an_id_is_derived_from_is_checked() -> None:
    """Its fields are ours, the time is one of them, and no column gives another id."""
    errors: list[str] = []
    said = read_mapping('id_from = ["device_id", "sensor"]\n[fields]\nevent_id = "id"\n', "m.toml", errors)
    build(said, errors)
    assert len(errors) == 3
    assert "m.toml:1: id_from 'sensor': one of device_id, zone, ts, kpi, value" in errors
    assert any("name ts as well" in error for error in errors)
    assert any("not both" in error for error in errors)
