"""What the cases make of what they measured."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from bench import growth, memory, observing, packed, throughput
from bench.cases import NAMES, choose
from bench.events import generate
from bench.machine import file_system_of, processor_of
from bench.memory import Held, resident_megabytes
from bench.observing import contexts
from bench.plan import BenchFailed, in_turn
from bench.postgres import consumer, store
from bench.postgres.store import Cost
from bench.postgres.ways import COPIES, OURS, WAYS
from bench.processes import clean_environment
from bench.processor import family_spent_s, spent_s, times_of
from bench.race import Raced
from bench.sample import Sample
from bench.server import choose_server
from bench.stamped_consumer import StampedSink, made_ms, read_stamps

from services.contract.consuming.doors import Written
from services.contract.event import Event
from services.contract.ids import event_id, run_name
from services.contract.trace_context import parse


def test_no_choice_is_every_case() -> None:
    """And they come in one order, however they are named."""
    assert choose("") == NAMES
    assert choose("ours, floor") == ("floor", "ours")


def test_an_unknown_case_is_refused_by_name() -> None:
    """A typing error must not measure less in silence."""
    with pytest.raises(BenchFailed, match="no such case: flor; there are floor,") as refused:
        choose("flor,ours")
    assert refused.value.exit_code == 2


def test_a_server_that_is_not_there_is_refused() -> None:
    """Before anything is started."""
    with pytest.raises(BenchFailed, match="no such file"):
        choose_server(Path("/nonexistent/redis-server"))


def test_another_contestant_begins_each_round() -> None:
    """Each of them comes once a round."""
    assert [in_turn("abc", number) for number in range(4)] == [
        list("abc"),
        list("bca"),
        list("cab"),
        list("abc"),
    ]


def test_replicas_are_compared_with_one_of_them() -> None:
    """One replica is the case `ours`, and stands there only once."""
    contestants = [one for group in throughput.CONTESTANTS.values() for one in group]
    samples = {one: Sample.of(100.0 * one.replicas) for one in contestants}
    figures = throughput.figures(samples, ["replicas"])
    assert [(one.what, one.sample.median) for one in figures] == [
        ("ours x2", 200.0),
        ("ours x4", 400.0),
        ("ours x2 / ours", 2.0),
        ("ours x4 / ours", 4.0),
    ]


def test_without_the_floor_there_is_no_ratio_to_it() -> None:
    """What was not measured is not in the report."""
    (alone,) = throughput.CONTESTANTS["ours"]
    assert [one.unit for one in throughput.figures({alone: Sample.of(1.0)}, ["ours"])] == ["events/s"]


def test_memory_that_grows_is_not_flat() -> None:
    """The end is held against the look after a tenth."""
    held = [Held(settled, 50.0 + settled / 10) for settled in range(0, 1001, 10)]
    figures = {one.what: one for one in memory.figures(held, 1000)}
    assert figures["after a tenth"].sample.median == 60.0
    assert figures["at the end"].verdict == "not met"
    assert figures["end / a tenth (flat)"].sample.median == pytest.approx(2.5)


def test_a_table_that_slows_down_shows_it() -> None:
    """Half the speed in the last window is a ratio of a half."""
    figures = {one.what: one for one in growth.figures([0.01] * 10, [0.02] * 10, rows=20_000)}
    assert figures["last / first"].sample.median == pytest.approx(0.5)
    assert figures["last / first"].verdict == "not met"


def test_the_median_batch_hides_a_checkpoint_and_the_window_does_not() -> None:
    """So both are told."""
    last = [0.01] * 9 + [0.11]
    figures = {one.what: one.sample.median for one in growth.figures([0.01] * 10, last, rows=20_000)}
    assert figures["last / first"] == pytest.approx(1.0)
    assert figures["last / first, folding the WAL included"] == pytest.approx(0.5)


def test_what_being_seen_costs_is_taken_within_each_round() -> None:
    """What runs beside is part of the whole; the goal is for all of it together."""
    rounds = [
        {"unobserved": 1.0, "ours": 1.02, "traced": 1.03, "beside": 0.01, "calls": 0.0},
        {"unobserved": 2.0, "ours": 2.04, "traced": 2.06, "beside": 0.02, "calls": 0.1},
    ]
    counted, everything, off = observing.figures(list(rounds))
    assert counted.sample.values == pytest.approx((1.02, 1.02))
    assert counted.verdict == ""
    assert everything.sample.values == pytest.approx((1.04, 1.04))
    assert everything.verdict == "met"
    assert off.sample.values == pytest.approx((1.0, 2.0 / 1.9))


def test_one_batch_in_a_hundred_carries_a_context() -> None:
    """Each of its events the same one, as a producer writes it; and no other event any."""
    context = contexts(True)
    texts = [context(number) for number in range(200_000)]
    written = [number for number, text in enumerate(texts) if text]
    assert written == [*range(1000), *range(100_000, 101_000)]
    assert len({texts[number] for number in written}) == 2
    read = [parse(texts[number].encode()) for number in (0, 100_000)]
    assert all(one is not None and one.is_sampled for one in read)
    assert {contexts(False)(number) for number in range(2000)} == {""}


def test_events_are_numbered_and_lie_in_the_past() -> None:
    """An event of the future would be refused."""
    events = list(generate(200))
    assert len({event.event_id for event in events}) == 200
    assert [event.event_id for event in events] == sorted(event.event_id for event in events)
    assert all(isinstance(event, Event) for event in events)


def test_an_id_tells_when_it_was_made() -> None:
    """The first 48 bits are milliseconds."""
    assert made_ms(event_id(run_name(7), 1, 1_700_000_000_123)) == 1_700_000_000_123


class _Clockless:
    """A sink that keeps nothing."""

    def write(self, rows: Sequence[Event]) -> Written:
        return Written(len(rows))

    def probe(self) -> None: ...

    def close(self) -> None: ...


def test_the_stamped_sink_times_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In milliseconds from the id to the return of the write."""
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    stamps = tmp_path / "stamps"
    sink = StampedSink(_Clockless(), stamps)
    ids = [event_id(run_name(7), number, 1_700_000_000_000 - 10 * number) for number in (1, 2)]
    sink.write([Event(one, "device", "zone", 0.0, "humidity", 1.0, False) for one in ids])
    sink.close()
    assert list(read_stamps(stamps)) == [10.0, 20.0]


def test_a_measured_process_sees_none_of_the_callers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BATCH_SIZE in the caller's shell would change what is measured."""
    monkeypatch.setenv("BATCH_SIZE", "7")
    monkeypatch.setenv("THRESHOLD_PRESSURE", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("PGOPTIONS", "-c synchronous_commit=off")
    monkeypatch.setenv("LANG", "C")
    kept = clean_environment()
    hidden = {"BATCH_SIZE", "THRESHOLD_PRESSURE", "OTEL_EXPORTER_OTLP_ENDPOINT", "PGOPTIONS"}
    assert not hidden & set(kept)
    assert kept["LANG"] == "C"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_our_own_memory_can_be_read() -> None:
    """Some megabytes, at least."""
    assert 1 < resident_megabytes(os.getpid()) < 10_000


def test_the_processor_and_the_file_system_are_found() -> None:
    """As Linux writes them; the nearest mount counts."""
    assert processor_of("vendor_id : X\nmodel name\t: A B C\n") == "A B C"
    assert processor_of("CPU architecture: 8\n") is None
    mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n"
    assert file_system_of(mounts, Path("/tmp/x")) == "tmpfs"  # noqa: S108 - nothing is there
    assert file_system_of(mounts, Path("/home")) == "ext4"


def test_a_rows_cost_is_held_against_every_copy() -> None:
    """Client and server together, within each round."""
    costs = {name: [Cost(1.0, 3.0), Cost(2.0, 6.0)] for name in WAYS} | {
        OURS: [Cost(1.0, 4.0), Cost(2.0, 8.0)]
    }
    figures = {one.what: one for one in store.figures(costs)}
    assert figures["the store, client and server"].sample.values == (5.0, 10.0)
    assert figures["the store, client alone"].sample.values == (1.0, 2.0)
    for copy in COPIES:
        held = figures[f"the store / {copy}, processor time"]
        assert held.sample.values == pytest.approx((1.25, 1.25))
        assert held.verdict == "not met"


def test_the_consumer_is_held_against_itself_on_sqlite() -> None:
    """Alone by the goal, and with the database's server beside it."""
    raced = {
        consumer.OURS: [Raced(300.0, 6.0, 4.0)],
        consumer.ON_SQLITE: [Raced(400.0, 8.0)],
        consumer.FASTSTREAM: [Raced(100.0, 20.0, 20.0)],
    }
    figures = {one.what: one for one in consumer.figures(raced)}
    assert figures[f"{consumer.OURS} / {consumer.FASTSTREAM}"].sample.median == pytest.approx(3.0)
    alone = figures["PostgreSQL / SQLite, processor time of the consumer"]
    assert alone.sample.median == pytest.approx(0.75)
    assert alone.verdict == "met"
    assert figures["PostgreSQL / SQLite, with the database's server"].sample.median == pytest.approx(1.25)


def test_packed_entries_are_held_against_every_loop() -> None:
    """By speed within each round, and by the processor time of an event."""
    raced = {one: [Raced(100.0, 9.0, server_us=2.0)] * 2 for one in packed.CONTESTANTS}
    raced[packed.ONE] = [Raced(310.0, 2.5, server_us=0.1), Raced(290.0, 2.7, server_us=0.2)]
    raced[packed.TWO] = [Raced(496.0, 2.5, server_us=0.1), Raced(435.0, 2.7, server_us=0.2)]
    figures = {one.what: one for one in packed.figures(raced)}
    assert figures["ours, packed / floor"].sample.values == pytest.approx((3.1, 2.9))
    assert figures["ours, packed / floor"].verdict == "met"
    assert figures["ours x2, packed / ours, packed"].sample.values == pytest.approx((1.6, 1.5))
    assert figures["ours, packed / faststream, documented"].verdict == "not met"
    assert figures["processor time, the consumer's"].sample.values == (2.5, 2.7)
    assert figures["processor time, the server's for it"].verdict == "met"


def test_the_times_of_a_process_are_read_whatever_its_name_is() -> None:
    """In ticks, of which a second has a hundred nearly everywhere."""
    ticks = os.sysconf("SC_CLK_TCK")
    stat = (
        f"12 (postgres: a) b) S 1 12 12 0 -1 4194304 100 0 0 0 {3 * ticks} {ticks} {2 * ticks} {5 * ticks} 20"
    )
    assert times_of(stat) == (4.0, 7.0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_what_children_spend_counts_when_they_have_ended() -> None:
    """A server's backends come and go."""
    before = family_spent_s(os.getpid())
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert family_spent_s(os.getpid()) - before >= 0.28


def test_a_process_that_has_ended_has_no_time() -> None:
    """It would be taken for one that did nothing."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(BenchFailed, match="has ended"):
        spent_s([process.pid])
