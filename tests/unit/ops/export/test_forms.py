"""What an export is as text, and that it is read back as it was."""

import csv
import io
import json
import logging
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import COLD, id_of

from services.consumer.validate import form
from services.contract.attributes import MAX_BYTES, write_attributes
from services.contract.event import Event, Fields
from services.contract.producing.outgoing import FIELD_NAMES, Numbering
from services.ops.export.forms import COLUMNS, CsvLines, Form, JsonLines, Lines, iso
from services.producer.files.opening import Wants, open_reader
from services.producer.mapping.mapped import Mapped
from services.producer.rows.resolve import resolver
from services.producer.spellings import NumberStyle, Spellings
from services.runtime.telemetry.metrics import Metrics
from services.stores.rows import StoredRow

ROW: Final = StoredRow(
    id_of(1), "device-1", "zone-1", 1_700_000_000.5, "humidity", 42.25, False, 1_700_000_100.25, {}
)
_characters: Final = st.characters(exclude_categories=("Cs", "Cc"))
_labels = st.text(_characters, min_size=1, max_size=20) | st.sampled_from(
    [" a ", "=1+1", '"', "a,b", "'", "NA", "-", "#x", "\u2028", "\u00a0x", "null", "sep=;", "\ufeff"]
)
_rows = st.builds(
    StoredRow,
    event_id=st.integers(1, 10**9).map(id_of),
    device_id=_labels,
    zone=_labels,
    ts=st.floats(4e7, 4e9).map(lambda ts: round(ts, 6)),
    kpi=st.sampled_from(sorted(COLD)),
    value=st.floats(-1e300, 1e300),
    is_degraded=st.booleans(),
    stored_at=st.floats(1e9, 4e9),
    attributes=st.dictionaries(
        st.text(_characters, min_size=1, max_size=8), _labels | st.just(""), max_size=4
    ),
)


def lines_of(form: Form, *, with_iso_times: bool = False, for_spreadsheet: bool = False) -> Lines:
    if form == "jsonl":
        return JsonLines(COLD, with_iso_times=with_iso_times)
    return CsvLines(COLD, with_iso_times=with_iso_times, for_spreadsheet=for_spreadsheet)


def read_back(text: str, form: Form) -> list[Fields]:
    """Read an export as `telemetry run --from` does; nothing in it may be refused."""
    resolve = resolver(Spellings(COLD), NumberStyle())
    wants = Wants(name="file", logger=logging.getLogger("test"), metrics=Metrics("producer"), resolve=resolve)
    reader = open_reader(io.BytesIO(text.encode()), form, Mapped(), wants)
    found: list[Fields] = []
    while (batch := reader.next_batch(500, 0.0, Numbering(""))) is not None:
        for event in batch.events:
            texts = [str(one) for one in event.fields]
            pairs = (
                zip(FIELD_NAMES, texts, strict=True)
                if event.is_plain
                else zip(texts[::2], texts[1::2], strict=True)
            )
            found.append(Fields(**dict(pairs)))
    assert reader.unreadable == 0
    return found


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("with_iso_times", [False, True])
@given(rows=st.lists(_rows, min_size=1, max_size=3))
def test_what_is_written_is_read_back_as_it_was(
    kind: Form, with_iso_times: bool, rows: list[StoredRow]
) -> None:
    """Id, names, time, value and attributes; whether it is degraded is found anew."""
    rows = [row for row in rows if len((write_attributes(row.attributes) or "").encode()) <= MAX_BYTES]
    lines = lines_of(kind, with_iso_times=with_iso_times)
    text = lines.head() + lines.lines(rows)
    expected = [
        Event(
            row.event_id,
            row.device_id,
            row.zone,
            row.ts,
            row.kpi,
            row.value,
            attributes=write_attributes(row.attributes),
        )
        for row in rows
    ]
    assert [form(fields) for fields in read_back(text, kind)] == expected


def test_a_table_has_the_fields_of_the_json() -> None:
    """Numbers with all of their digits, truth values as words, attributes as one cell."""
    row = ROW._replace(value=0.1 + 0.2, is_degraded=True, attributes={"b": 'a "c"', "a": "°"})
    lines = lines_of("csv")
    (found,) = csv.DictReader(io.StringIO(lines.head() + lines.lines([row])))
    assert found == {
        "event_id": id_of(1),
        "device_id": "device-1",
        "zone": "zone-1",
        "ts": "1700000000.5",
        "kpi": "humidity",
        "value": "0.30000000000000004",
        "unit": "%",
        "is_degraded": "true",
        "stored_at": "1700000100.25",
        "attributes": '{"a":"°","b":"a \\"c\\""}',
    }
    record = json.loads(lines_of("jsonl").lines([row]))
    assert list(record) == list(COLUMNS)
    assert record == row._asdict() | {"unit": "%"}


def test_a_kpi_that_is_configured_no_more_has_no_unit() -> None:
    """An empty cell, and null."""
    gone = ROW._replace(kpi="gone")
    assert ",gone,42.25,,false," in lines_of("csv").lines([gone])
    assert json.loads(lines_of("jsonl").lines([gone]))["unit"] is None


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", " =1"])
def test_names_that_are_formulas_are_counted_and_made_safe_where_that_is_asked_for(name: str) -> None:
    """Else they stay as they are. Numbers are none, whatever their sign."""
    row = ROW._replace(device_id=name, zone=name, value=-3.5)
    lines = lines_of("csv")
    (found,) = csv.reader(io.StringIO(lines.lines([row])))
    assert (found[1:3], found[5], lines.formulas) == ([name, name], "-3.5", 2)
    lines = lines_of("csv", for_spreadsheet=True)
    (found,) = csv.reader(io.StringIO(lines.lines([row])))
    assert (found[1:3], found[5], lines.formulas) == ([f"'{name}", f"'{name}"], "-3.5", 2)
    assert lines.head().startswith("\ufeffevent_id,")


@pytest.mark.parametrize(
    ("unix_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500000Z"),
        (1_711_838_700.123457, "2024-03-30T22:45:00.123457Z"),
        (253_402_300_800.0, "253402300800.0"),
        (1e300, "1e+300"),
    ],
)
def test_times_are_written_as_iso_8601(unix_s: float, text: str) -> None:
    """To the microsecond; what it can't say stays a number."""
    assert iso(unix_s) == text
