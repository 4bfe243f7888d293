"""Reading files: every record once, published or reported, from any record boundary."""

import csv
import functools
import io
import json
import logging
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import KPIS

from services.contract.producing.outgoing import Batch, Numbering, Outgoing, flat
from services.producer.files.decode import SourceUnusable, decoded
from services.producer.files.inputs import fingerprint, is_same, tell_format
from services.producer.files.lines import Bytes, Quotes, Record, Records, ends_in_quotes
from services.producer.files.opening import Wants, open_reader
from services.producer.files.read import Reader
from services.producer.keeping import OTHERS
from services.producer.mapping.mapped import Format, Mapped, Times, ValueColumn
from services.producer.rows.nested import parse_object
from services.producer.rows.pick import canonical_id
from services.producer.rows.problem import Problem
from services.producer.rows.resolve import resolver
from services.producer.rows.times import TimeReader
from services.producer.spellings import NumberStyle, Spellings
from services.runtime.telemetry.metrics import Metrics

HEADER = b"device_id,zone,ts,kpi,value\n"
SPELLINGS = Spellings(KPIS)
LOGGER = logging.getLogger("test-read")
LOGGER.addHandler(logging.NullHandler())
LOGGER.propagate = False
CONSTANTS = Mapped(
    constants={"device_id": "d", "zone": "z", "ts": "1700000000", "kpi": "humidity", "value": "1"}, columns={}
)


def wants(name: str = "file", metrics: Metrics | None = None, max_entry_bytes: int = 1 << 20) -> Wants:
    return Wants(
        name=name,
        logger=LOGGER,
        metrics=metrics or Metrics("producer"),
        resolve=resolver(SPELLINGS, NumberStyle()),
        max_entry_bytes=max_entry_bytes,
    )


def reader(
    data: bytes, kind: Format, mapped: Mapped | None = None, start: tuple[int, int] = (0, 0)
) -> Reader:
    source = io.BytesIO(data)

    def rewind(offset: int) -> Bytes:
        source.seek(offset)
        return source

    return open_reader(source, kind, mapped or Mapped(), wants(), start=start, rewind=rewind)


def batches(one: Reader, size: int = 3) -> list[Batch]:
    found = []
    numbering = Numbering("7abc-8def-012")
    while (batch := one.next_batch(size, 1.0, numbering)) is not None:
        found.append(batch)
    return found


def events(one: Reader, size: int = 3) -> list[Outgoing]:
    return [event for batch in batches(one, size) for event in batch.events]


def values(found: list[Outgoing]) -> list[tuple[str | bytes, ...]]:
    return [tuple(event.fields[1:] if event.is_plain else event.fields[3::2]) for event in found]


csv_field = st.text(alphabet='ab",\n\r é', max_size=6)
csv_rows = st.lists(
    st.tuples(
        csv_field, csv_field, st.just("1700000000"), st.sampled_from(["humidity", "rh"]), st.just("4.5")
    ),
    max_size=8,
)


def quoted(row: Sequence[str]) -> bytes:
    doubled = [text.replace('"', '""') for text in row]
    return (",".join(f'"{text}"' for text in doubled) + "\n").encode()


@given(data=st.binary(max_size=300), kind=st.sampled_from(["csv", "jsonl"]))
def test_no_bytes_make_a_reader_crash(data: bytes, kind: Format) -> None:
    """Whatever the bytes, each record is published or counted as unreadable, and all bytes are passed."""
    try:
        one = reader(data, kind, CONSTANTS)
    except SourceUnusable:
        assert kind == "csv"
        return
    found = events(one)
    assert one.read == len(found)
    assert one.records.offset == len(data)
    cut = [
        record
        for record in Records(io.BytesIO(data), quotes=Quotes() if kind == "csv" else None)
        if record is not None
    ]
    blank = sum(1 for record in cut if not record.problem and not record.data.strip())
    header = 0 if kind == "jsonl" or not cut or len(cut) == blank else 1
    assert len(found) + one.unreadable <= len(cut) - header
    if kind == "jsonl" and not data.startswith(b"\xef\xbb\xbf"):
        assert len(found) + one.unreadable == len(cut) - blank


@given(data=st.binary(max_size=300) | st.lists(st.sampled_from([b'"', b",", b"\n", b"a"])).map(b"".join))
def test_records_together_are_the_input(data: bytes) -> None:
    """Cut as CSV, no byte is in two records, and none in no record."""
    records = list(Records(io.BytesIO(data), quotes=Quotes()))
    assert b"".join(record.data for record in records if record is not None) == data
    ends = [record.end for record in records if record is not None]
    assert ends == sorted(set(ends))


def _cut(lines: list[bytes], longest: int) -> list[tuple[bytes, bool]]:
    """Cut lines into records in the plainest way: from each line on, to the first that closes its quote."""
    found, at = [], 0
    while at < len(lines):
        end, is_open = at + 1, len(lines[at]) <= longest and ends_in_quotes(lines[at], is_open=False)
        while (
            is_open
            and end < len(lines)
            and sum(map(len, lines[at:end])) <= longest
            and len(lines[end]) <= longest
        ):
            is_open = ends_in_quotes(lines[end], is_open=True)
            end += 1
        taken = lines[at : at + 1] if is_open else lines[at:end]
        is_bad = is_open or len(lines[at]) > longest
        found.append((b"" if len(lines[at]) > longest else b"".join(taken), is_bad))
        at += len(taken)
    return found


@given(
    lines=st.lists(
        st.lists(st.sampled_from([b'"', b",", b"a", b'a"']), max_size=6).map(b"".join), max_size=12
    ),
    longest=st.integers(4, 20),
)
def test_records_are_those_of_the_plainest_way(lines: list[bytes], longest: int) -> None:
    """Each line is looked at once, and yet each record is the one that looking again and again would give."""
    whole = [line + b"\n" for line in lines]
    records = Records(io.BytesIO(b"".join(whole)), quotes=Quotes(), max_bytes=longest)
    assert [(one.data, bool(one.problem)) for one in records if one is not None] == _cut(whole, longest)


@pytest.mark.parametrize("line", [b'a"b,"c\n', b'"\n', b'"a\n', b',"\n', b'"",""\n', b'a,"b""\n'])
def test_open_quotes_cost_time_in_proportion_to_their_lines(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line is looked at twice: for a quote that it opens, and for one that it closes."""
    looks = 0

    def counting(data: bytes, *, is_open: bool, delimiter: bytes, quote: bytes) -> bool:
        nonlocal looks
        looks += 1
        return ends_in_quotes(data, is_open=is_open, delimiter=delimiter, quote=quote)

    monkeypatch.setattr("services.producer.files.lines.ends_in_quotes", counting)
    records = list(Records(io.BytesIO(line * 5000), quotes=Quotes()))
    assert sum(len(one.data) for one in records if one is not None) == 5000 * len(line)
    assert looks <= 2 * 5000


def test_a_million_empty_lines_behind_an_open_quote_take_no_memory() -> None:
    """What waits for the quote to be closed is bounded in lines too; each comes out all the same."""
    records = Records(io.BytesIO(b'"' + b"\n" * 200_000 + b'"\n'), quotes=Quotes())
    tracemalloc.start()
    try:
        count = sum(1 for _ in records)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 200_001
    assert peak < 10_000_000


@given(rows=csv_rows, size=st.integers(1, 4))
def test_a_csv_read_again_from_any_batch_gives_the_rest(rows: list[tuple[str, ...]], size: int) -> None:
    """Resuming at any position yields the same records as an uninterrupted read, line feeds included."""
    data = HEADER + b"".join(map(quoted, rows))
    whole = values(events(reader(data, "csv")))
    assert [one[:2] for one in whole] == [(row[0].strip(), row[1].strip()) for row in rows]
    taken = 0
    for batch in batches(reader(data, "csv"), size):
        taken += len(batch.events)
        assert batch.position is not None
        rest = reader(data, "csv", start=(batch.position.offset, batch.position.line))
        assert values(events(rest)) == whole[taken:]


@given(
    texts=st.lists(st.sampled_from(['{"device_id":"a"}', "{", "", "[1]", '{"zone":"é"}'])),
    size=st.integers(1, 4),
)
def test_json_lines_read_again_from_any_batch_give_the_rest(texts: list[str], size: int) -> None:
    """Resuming at any position yields the same records as an uninterrupted read."""
    data = "\n".join(texts).encode()
    whole = values(events(reader(data, "jsonl", CONSTANTS)))
    taken = 0
    for batch in batches(reader(data, "jsonl", CONSTANTS), size):
        taken += len(batch.events)
        assert batch.position is not None
        start = (batch.position.offset, batch.position.line)
        assert values(events(reader(data, "jsonl", CONSTANTS, start))) == whole[taken:]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_lines_are_counted_on_from_where_the_last_replay_stopped(kind: Format) -> None:
    """A line that can't be read is named by its number in the file, and so is the next place."""
    if kind == "csv":
        data, mapped = HEADER + b"a,z,1700000000,humidity,1\nb\nc,z,1700000000,humidity,1\n", Mapped()
    else:
        data, mapped = b'{"device_id":"a"}\n{\n{"device_id":"c"}\n', CONSTANTS
    place = batches(reader(data, kind, mapped), 1)[0].position
    assert place is not None
    rest = reader(data, kind, mapped, (place.offset, place.line))
    last = batches(rest)[-1].position
    lines = data.count(b"\n")
    assert rest.unreadable_lines == [lines - 1]
    assert last is not None
    assert (last.offset, last.line) == (len(data), lines)


def test_numbers_keep_their_text() -> None:
    """A number is published as it was written, not as a float reads it."""
    line = b'{"device_id":7,"zone":"z","ts":1700000000.10,"kpi":"humidity","value":4.50}\n'
    assert values(events(reader(line, "jsonl"))) == [("7", "z", "1700000000.10", "humidity", "4.50")]


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", b'"text"', b"\xff", b'{"a":1,"a":2}', b'{"device_id":{"x":1}}', b'{"device_id":true}',
        b'{"device_id":"\\ud800"}', b'{"event_id":"5"}', b"[" * 100_000, b'{"a":"\x00"}',
    ],
)  # fmt: skip
def test_a_bad_line_is_reported_and_the_next_is_read(line: bytes) -> None:
    """One bad line costs itself only."""
    one = reader(line + b'\n{"device_id":"good"}\n', "jsonl", CONSTANTS)
    assert [event.fields[1] for event in events(one)] == ["good"]
    assert one.unreadable == 1


def test_an_open_quote_costs_one_line() -> None:
    """A quote that is never closed spoils its own line, and none behind it."""
    one = reader(
        HEADER + b'"a,z,1700000000,humidity,1\nb,z,1700000000,humidity,2\nc,z,1700000000,humidity,3\n', "csv"
    )
    assert [event.fields[1] for event in events(one)] == ["b", "c"]
    assert one.unreadable == 1


def test_a_long_line_is_passed_over() -> None:
    """A line beyond the limit is a problem with its number, and its bytes are counted."""
    data = b"a" * 200_000 + b"\nb\n"
    found = list(Records(io.BytesIO(data), quotes=None, max_bytes=1000))
    assert [record.line for record in found if record] == [1, 2]
    assert isinstance(found[0], Record)
    assert "longer than" in found[0].problem
    assert found[0].end == 200_001


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_event_that_is_too_large_is_refused_and_counted(kind: Format) -> None:
    """By MAX_ENTRY_BYTES, before it takes a number; its neighbours are published, gap-free."""
    sizes = (10, 5000, 4000, 4100, 10)
    if kind == "csv":
        data = HEADER + b"".join(b"%s,z,1700000000,humidity,1\n" % (b"d" * size) for size in sizes)
    else:
        data = b"".join(json.dumps({"device_id": "d" * size}).encode() + b"\n" for size in sizes)
    source = io.BytesIO(data)
    mapped = CONSTANTS if kind == "jsonl" else Mapped()
    metrics = Metrics("producer")
    one = open_reader(source, kind, mapped, wants("file", metrics, 4096 + 100))
    found = events(one)
    assert [len(event.fields[1]) for event in found] == [10, 4000, 10]
    assert [event.sequence for event in found] == [1, 2, 3]
    assert one.unreadable == 2
    assert metrics.value("telemetry_producer_events_total", {"outcome": "unreadable"}) == 2
    for event in found:
        whole = [*flat(event.fields), "traceparent", "0" * 55]
        assert sum(map(len, whole)) <= 4096 + 100


def test_what_is_too_large_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """With its line, its size, and the setting."""
    LOGGER.addHandler(caplog.handler)
    source = io.BytesIO(b'{"device_id":"' + b"d" * 5000 + b'"}\n')
    metrics = Metrics("producer")
    events(open_reader(source, "jsonl", CONSTANTS, wants("f", metrics, 4096)))
    LOGGER.removeHandler(caplog.handler)
    (record,) = [one for one in caplog.records if one.getMessage() == "line_unreadable"]
    assert record.__dict__["line_number"] == 1
    assert "bytes as an event, more than MAX_ENTRY_BYTES 4096" in record.__dict__["reason"]


def test_batches_are_bounded_in_bytes() -> None:
    """Of long lines a batch has few, and nothing is left out; of short ones as many as were asked for."""
    long = b"".join(
        json.dumps({"device_id": f"{number:09d}" + "d" * 900_000}).encode() + b"\n" for number in range(20)
    )
    found = batches(reader(long, "jsonl", CONSTANTS), size=500)
    assert max(len(batch.events) for batch in found) <= 3
    assert [event.sequence for batch in found for event in batch.events] == list(range(1, 21))
    assert found[-1].position is not None
    assert found[-1].position.is_done
    short = b'{"device_id":"d"}\n' * 1000
    assert len(batches(reader(short, "jsonl", CONSTANTS), size=500)[0].events) == 500


def test_a_longer_line_is_read_where_an_entry_may_be_larger() -> None:
    """A line is as long as an event may be, at least."""
    line = json.dumps({"device_id": "d" * 1_500_000}).encode()
    assert events(reader(line, "jsonl", CONSTANTS)) == []
    source = io.BytesIO(line)
    metrics = Metrics("producer")
    one = open_reader(source, "jsonl", CONSTANTS, wants("f", metrics, 1 << 21))
    assert len(events(one)) == 1


def test_foreign_ids_are_kept_and_recorded() -> None:
    """A UUID of theirs is the event's id, and its 16 bytes go to the record; it takes no number."""
    event_id = "0E8C4F1A-0000-4000-8000-000000000001"
    line = json.dumps({"id": event_id}).encode()
    [event] = events(reader(line, "jsonl", Mapped({"event_id": "id"}, CONSTANTS.constants)))
    assert event.fields[0] == event_id.lower()
    assert event.sequence is None
    assert event.foreign == bytes.fromhex(event_id.replace("-", ""))


def test_ids_are_derived_from_what_is_published() -> None:
    """Not from how it is written, nor from what stands beside it; each reading of a line has its own."""
    mapped = replace(CONSTANTS, id_from=("device_id", "kpi", "ts"))
    one, two = events(reader(b"value,ts,event_id\n1,1700000000,x\n2, 1700000001\t,\n", "csv", mapped))
    assert one.sequence is two.sequence is None
    assert one.fields[0] != two.fields[0]
    assert one.foreign == bytes.fromhex(str(one.fields[0]).replace("-", ""))
    again = b'{"ts": "2023-11-14T22:13:20+00:00", "value": 1, "note": "y"}\n'
    assert events(reader(again, "jsonl", mapped))[0].fields[0] == one.fields[0]


def test_a_half_written_last_line_is_looked_at_again() -> None:
    """An unreadable last line without a line feed isn't passed: its writer may not have finished it."""
    data = b'{"device_id":"a"}\n{"devi'
    position = batches(reader(data, "jsonl", CONSTANTS), 10)[-1].position
    assert position is not None
    grown = data + b'ce_id":"b"}\n'
    again = events(reader(grown, "jsonl", CONSTANTS, (position.offset, position.line)))
    assert [event.fields[1] for event in again] == ["b"]


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1700000000", "auto", "1700000000"),
        ("1700000000123", "ms", "1700000000.123"),
        ("1700000000000", "ms", "1700000000"),
        ("1700000000123456789", "ns", "1700000000.123456789"),
        ("1700000000123.5", "ms", "1700000000.1235"),
        ("1.7000000001235E12", "ms", "1700000000.1235"),
        ("2024-01-01T00:00:00Z", "ms", "1704067200"),
        ("2024-01-01T01:00:00.25+01:00", "s", "1704067200.25"),
        ("2024-01-01 00:00:00", "s", "1704067200"),
    ],
)  # fmt: skip
def test_times_become_unix_seconds_without_rounding(text: str, unit: str, expected: str) -> None:
    """Numbers are moved by their unit, and ISO 8601 is UTC unless it says otherwise."""
    assert TimeReader(Times(format=unit)).seconds(text) == expected


@given(st.text() | st.none() | st.lists(st.text()))
def test_no_other_text_passes_for_an_id(text: object) -> None:
    """What isn't a UUID is a problem that says so."""
    with pytest.raises(Problem, match="not a UUID"):
        canonical_id(text)


def test_a_problem_names_the_missing_column() -> None:
    """The reason says their name and ours."""
    one = reader(b'{"sensor":"a"}\n', "jsonl", Mapped({"device_id": "sensor"}))
    assert events(one) == []
    assert one.unreadable == 1
    assert parse_object(b'{"a":null,"b":1.0}') == {"a": None, "b": "1.0"}


def test_a_header_without_a_needed_column_is_refused() -> None:
    """The message names the field and how to supply it."""
    with pytest.raises(SourceUnusable, match="--const zone=VALUE"):
        reader(b"device_id,ts,kpi,value\n", "csv")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'\xef\xbb\xbf{"device_id":"a"}\n', "jsonl"),
        (b"\xef\xbb\xbf\r\n device_id\n", "csv"),
        (b' \n{"a":1}\n', "jsonl"),
        (b'{"a":\n1}\n', "json"),
        (b"[\n{}]", "json"),
        (b"a,b\n", "csv"),
        (b"", "csv"),
    ],
)
def test_a_source_is_told_by_how_it_begins_and_given_back_whole(data: bytes, kind: Format) -> None:
    """In whatever portions it comes; nothing that was looked at is lost."""
    begins, whole, is_changed = decoded(io.BytesIO(data), "file", None, lambda: False)
    assert tell_format(None, begins, Mapped()) == kind
    assert not is_changed
    portions = iter(functools.partial(whole.read, 7), b"")
    assert b"".join(portion or b"" for portion in portions) == data


def test_a_grown_file_is_the_same_and_another_is_not(tmp_path: Path) -> None:
    """What was replayed is told again by how it began."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"first\n")
    known = fingerprint(path)
    path.write_bytes(b"first\nsecond\n")
    assert is_same(path, known, 6)
    path.write_bytes(b"other\nsecond\n")
    assert not is_same(path, known, 6)


def test_a_file_that_became_shorter_is_not_resumed(tmp_path: Path) -> None:
    """It still begins as it did, but what was replayed up to is not there any more."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"line\n" * 40_000)
    known, size = fingerprint(path), path.stat().st_size
    assert is_same(path, known, size)
    with path.open("r+b") as file:
        file.truncate(size - 5)
    assert fingerprint(path) == known
    assert is_same(path, known, size - 5)
    assert not is_same(path, known, size)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_byte_order_mark_belongs_to_no_record(kind: Format) -> None:
    """What Windows programs write before the first line makes that line neither odd nor unreadable."""
    data = HEADER + b"d,z,1700000000,humidity,1\n" if kind == "csv" else json.dumps(RECORD).encode() + b"\n"
    one = reader(b"\xef\xbb\xbf" + data, kind)
    assert values(events(one)) == values(events(reader(data, kind))) != []
    assert one.unreadable == 0


TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
RECORD = {"device_id": "d", "zone": "z", "ts": "1700000000", "kpi": "humidity", "value": "1"}


def test_a_records_own_trace_context_is_published_with_it() -> None:
    """Behind the six fields; records without one stay as they are."""
    records = [RECORD | {"traceparent": TRACEPARENT, "tracestate": "a=1"}, RECORD, RECORD | {"tp": "x"}]
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    traced, plain, other = events(reader(data, "jsonl"))
    assert not traced.is_plain
    assert traced.fields[-4:] == ["traceparent", TRACEPARENT, "tracestate", "a=1"]
    assert plain.is_plain
    assert other.is_plain
    (mapped,) = events(reader(data.splitlines()[2], "jsonl", Mapped(columns={"traceparent": "tp"})))
    assert mapped.fields[-2:] == ["traceparent", "x"]


def test_an_empty_trace_column_is_no_context(caplog: pytest.LogCaptureFixture) -> None:
    """As a CSV file has it where a record was not traced; and the columns are none that nobody publishes."""
    data = (
        HEADER.replace(b"\n", b",traceparent,tracestate\n")
        + b"d,z,1700000000,humidity,1,,\nd,z,1700000000,humidity,1,,a=1\n"
    )
    LOGGER.propagate = True
    found = events(reader(data, "csv"))
    LOGGER.propagate = False
    assert [event.is_plain for event in found] == [True, True]
    assert caplog.records == []


OWN_ID = "018f3c5e-8a10-7abc-8def-01200000002a"
OWN = '{"note":"","site":"a,b"}'


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_event_that_brings_its_id_brings_its_attributes_and_its_names_as_they_are(kind: Format) -> None:
    """As it was exported: empty texts and blanks around a name are its own; what has no id is as ever."""
    whole = RECORD | {"event_id": OWN_ID, "zone": " z ", "attributes": OWN, "unit": "%"}
    if kind == "jsonl":
        lines = [whole, whole | {"attributes": json.loads(OWN)}, whole | {"event_id": None}]
        data = "".join(json.dumps(one) + "\n" for one in lines).encode()
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(whole), quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows([whole, whole])
        data = text.getvalue().encode()
    one = reader(data, kind)
    first, second, *others = events(one)
    assert dict(zip(first.fields[::2], first.fields[1::2], strict=True)) == {
        name: value for name, value in whole.items() if name != "unit"
    }
    assert second.fields == first.fields
    assert [(event.is_plain, event.fields[2]) for event in others] == [(True, "z")] * (kind == "jsonl")
    assert one.left_out == ({} if kind == "csv" else {"attributes": 1})


def test_attributes_that_are_mapped_are_taken_and_bad_ones_cost_their_line() -> None:
    """Wherever they stand, with what is kept besides; and without a mapping nobody else's are."""
    record = RECORD | {"attributes": {"more": {"deep": "1"}}, "own": {"b": "2"}, "status": "ok"}
    data = json.dumps(record).encode() + b"\n" + json.dumps(RECORD | {"own": ["b"]}).encode()
    one = reader(data, "jsonl", Mapped({"attributes": "own"}, kept=("status",)))
    (event,) = events(one)
    assert event.fields[-2:] == ["attributes", '{"b":"2","status":"ok"}']
    assert one.unreadable_lines == [2]
    assert [event.is_plain for event in events(reader(data, "jsonl"))] == [True, True]


def test_names_and_numbers_are_taken_as_sources_write_them() -> None:
    """An alias, a sign, a bare mark, a unit behind the number: the stream has the contract's spelling."""
    data = HEADER + "d,z,1700000000, Temperature,+71.6 °F\nd,z,1700000000,TEMP,.5\n".encode()
    found = [tuple(event.fields[4:]) for event in events(reader(data, "csv"))]
    assert found == [("temperature", "22.0"), ("temperature", "0.5")]


def test_a_unit_is_a_column_or_a_constant() -> None:
    """Where it is mapped, and then a unit that the KPI does not accept refuses its line alone."""
    rows = b"".join(b"d,z,1700000000,temp,%s\n" % one for one in (b"71.6,F", b"71.6,R", b"300,K"))
    data = b"device_id,zone,ts,kpi,value,in\n" + rows
    one = reader(data, "csv", Mapped({"unit": "in"}))
    assert [event.fields[5] for event in events(one)] == ["22.0", "26.85"]
    assert one.unreadable_lines == [3]
    one = reader(HEADER + b"d,z,1700000000,pressure,101325\n", "csv", Mapped(constants={"unit": "Pa"}))
    assert [event.fields[5] for event in events(one)] == ["1013.25"]


@pytest.mark.parametrize("ahead", range(1, 13))
@pytest.mark.parametrize("is_wide", [True, False])
def test_what_is_published_behind_the_place_is_passed_over(ahead: int, *, is_wide: bool) -> None:
    """Also where it ends within a line of several readings; then the rest of that line is given."""
    if is_wide:
        mapped = Mapped(
            values=tuple(ValueColumn(name, {"kpi": "humidity"}) for name in "abc"),
            constants={"device_id": "d", "zone": "z"},
        )
        data = b"ts,a,b,c\n" + b"".join(b"%d,1,2,3\n" % (1_700_000_000 + n) for n in range(5))
    else:
        mapped = Mapped()
        data = HEADER + b"".join(b"d,z,%d,humidity,1\n" % (1_700_000_000 + n) for n in range(15))
    whole = values(events(reader(data, "csv", mapped)))
    one = reader(data, "csv", mapped)
    position = one.pass_over(ahead, lambda: False)
    assert values(events(one)) == whole[ahead:]
    assert (position is None) == (is_wide and ahead % 3 != 0)
    if position is not None:
        rest = reader(data, "csv", mapped, (position.offset, position.line))
        assert values(events(rest)) == whole[ahead:]
    with pytest.raises(SourceUnusable, match="fewer events"):
        reader(data, "csv", mapped).pass_over(16, lambda: False)


KEPT = b"device_id,zone,ts,kpi,value,firmware,status,note\n"


def test_columns_are_kept_as_attributes() -> None:
    """Those that are asked for, as one field; what is empty is no attribute, and nothing else is one."""
    data = (
        KEPT
        + b"d,z,1700000000,humidity,1,1.2,ok,x\nd,z,1700000000,humidity,2,,,y\n"
        + b"d,z,1700000000,humidity,3,1.3,,\n"
    )
    one = reader(data, "csv", Mapped(kept=("status", "firmware")))
    found = events(one)
    assert [event.is_plain for event in found] == [False, True, False]
    assert [event.fields[12:] for event in found if not event.is_plain] == [
        ["attributes", '{"firmware":"1.2","status":"ok"}'], ["attributes", '{"firmware":"1.3"}'],
    ]  # fmt: skip
    assert one.left_out == {"note": 2}


def test_attributes_stand_beside_a_trace_context() -> None:
    """Both behind the six fields, whatever the record's own id is."""
    line = json.dumps(
        {"event_id": "0e8c4f1a-0000-4000-8000-000000000001", "traceparent": "00-x", "a": 1.5, "b": True}
    )
    [event] = events(
        reader(line.encode(), "jsonl", Mapped(constants=CONSTANTS.constants, kept=("a", "b", "c")))
    )
    assert event.fields[12:] == ["traceparent", "00-x", "attributes", '{"a":"1.5","b":"true"}']


@pytest.mark.parametrize("value", [{"b": 1}, ["b"], "x" * 129, "a\nb"])
def test_what_is_no_attribute_refuses_its_line_alone(value: object) -> None:
    """It was asked for, so it is not left out in silence."""
    lines = [json.dumps({"a": one}) for one in (value, "fine", None)]
    one = reader("\n".join(lines).encode(), "jsonl", Mapped(constants=CONSTANTS.constants, kept=("a",)))
    assert [list(event.fields[13:]) for event in events(one)] == [['{"a":"fine"}'], []]
    assert one.unreadable_lines == [1]


def test_a_column_to_keep_that_is_not_there_is_told_at_once() -> None:
    """With those that are there: it may be misspelt."""
    with pytest.raises(SourceUnusable, match=r"no column firmwear to keep .*firmware, status"):
        reader(KEPT, "csv", Mapped(kept=("firmwear",)))


def test_what_is_left_out_is_counted_by_name() -> None:
    """In a record that is published, and bounded whatever columns are called."""
    wide = [json.dumps({f"column-{number}": 1, "n" * 200: 1, "": None}) for number in range(150)]
    one = reader("\n".join([*wide, "nonsense", *wide[:2]]).encode(), "jsonl", CONSTANTS)
    events(one, 50)
    assert len(one.left_out) == 100
    assert one.left_out["column-0"] == 2
    assert one.left_out[OTHERS] == 152 + 51
