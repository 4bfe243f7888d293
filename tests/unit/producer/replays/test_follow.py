"""What `--follow` makes of files that are renamed, removed, or not given for a while."""

import errno
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from fakes import FakeClock

from services.contract.ids import draw_name
from services.contract.producing.outgoing import Batch, Position
from services.contract.producing.publishing import Replayed, Run, Sent
from services.producer.files.decode import SourceUnusable
from services.producer.options import read_options
from services.producer.replays import follow
from services.producer.replays.follow import Following
from services.producer.wiring import Parts
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

HEADER = "ts,value\n"
QUIET = 20
"""Turns without anything new before a step: 4 s, so that whatever waits for silence has had it."""
PLACE = ("--const", "device_id=d", "--const", "zone=z", "--const", "kpi=temperature")
Step = Callable[[], object]


def rows(first: int, last: int) -> str:
    """Give lines that are numbered, from the first to the last one."""
    return "".join(f"{1_700_000_000 + number},{number}\n" for number in range(first, last + 1))


class FakeBroker:
    """Keeps what is published, and the record of it."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self._records: dict[str, Replayed] = {}
        self._replays: dict[str | None, str] = {}

    def open_run(
        self, source: str, replay: str | None = None, fingerprint: str = "", position: Position | None = None
    ) -> Run:
        run = Run(draw_name(), "us", source, replay, fingerprint)
        at = position or Position(0, 0)
        self._records[run.name] = Replayed(run, at.offset, at.line, is_done=False)
        self._replays[replay] = run.name
        return run

    def take_over(self, replay: str, check: Callable[[Replayed], None]) -> Replayed | None:
        if (name := self._replays.get(replay)) is None:
            return None
        check(self._records[name])
        return self._records[name]

    def publisher(self, run: Run) -> "FakePublisher":
        return FakePublisher(self, run)

    def keep(self, run: Run, batch: Batch) -> None:
        self.values += [int(event.fields[-1]) for event in batch.events]
        if (at := batch.position) is not None:
            self._records[run.name] = replace(
                self._records[run.name], offset=at.offset, line=at.line, is_done=at.is_done
            )


class FakePublisher:
    """Writes a run to a broker that is always there."""

    def __init__(self, broker: FakeBroker, run: Run) -> None:
        self.run = run
        self.position: Position | None = None
        self._broker = broker

    def end(self) -> None:
        pass

    def publish(self, batch: Batch) -> Sent:
        self._broker.keep(self.run, batch)
        self.position = batch.position or self.position
        return Sent(len(batch.events), 0, 0)


class Log(logging.Handler):
    """Keeps the log; it is what ends it, too."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def named(self, event: str) -> list[dict[str, Any]]:
        return [vars(one) for one in self.records if one.getMessage() == event]

    def ending(self) -> None:
        pass

    def tell_rest(self) -> None:
        pass


class Bench:
    """A folder, and a broker that outlives each command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = FakeBroker()
        self.log = Log()

    def write(self, name: str, text: str) -> None:
        """Append to a file."""
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def rename(self, name: str, to: str) -> None:
        (self.folder / name).rename(self.folder / to)

    def follow(self, *steps: Step, of: tuple[str, ...] = ("",), quiet: int = QUIET) -> list[int]:
        """Run a command with a step after so many quiet turns, and stop it; gives all that is published."""
        sources = [part for one in of for part in ("--from", str(self.folder / one))]
        told = replace(read_options([*sources, "--follow", *PLACE]), sleep_interval_s=0.0)
        clock, left = FakeClock(), list(steps)
        logger = logging.getLogger("follow")
        logger.setLevel("DEBUG")
        logger.propagate = False
        logger.handlers = [self.log]

        def on_sleep() -> None:
            if len(clock.sleeps) % quiet == 0:
                left.pop(0)() if left else clock.stop()

        clock.on_sleep = on_sleep
        log = cast("Any", self.log)
        side, health = cast("Any", self.broker), Health(60.0, clock.monotonic)
        in_hand = cast("Any", _InHand())
        parts = Parts(told, side, cast("Any", clock), health, Metrics("producer"), log, logger, in_hand)
        Following(parts, told.readings).run()
        return self.broker.values


class _InHand(nullcontext[None]):
    def ending(self) -> None:
        pass


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    folder = tmp_path / "logs"
    folder.mkdir()
    return Bench(folder)


def _refuse(
    monkeypatch: pytest.MonkeyPatch, call: str, name: str, code: int, times: int, owner: Any = os
) -> None:
    """Have the system refuse so many calls on a file."""
    real, left = getattr(owner, call), [times]

    def refusing(at: Any, *others: Any, **named: Any) -> Any:
        path = Path(f"/proc/self/fd/{at}").readlink() if isinstance(at, int) else Path(at)
        if path.name == name and left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        return real(at, *others, **named)

    monkeypatch.setattr(owner, call, refusing)


@pytest.mark.parametrize(
    ("call", "code"),
    [("open", errno.EACCES), ("open", errno.EMFILE), ("pread", errno.EIO), ("read", errno.ESTALE)],
)
def test_a_file_that_the_system_refuses_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """Without a change of it; it holds no other up, and is said once."""
    bench.write("b.csv", HEADER + rows(7, 8))

    def refused() -> None:
        _refuse(monkeypatch, call, "a.csv", code, 2)
        bench.write("a.csv", HEADER + rows(1, 2))

    found = bench.follow(refused, lambda: bench.write("b.csv", rows(9, 9)), lambda: None, lambda: None)
    assert (sorted(found), found.index(9) < found.index(1)) == ([1, 2, 7, 8, 9], True)
    (said,) = bench.log.named("source_broken")
    assert said["error"] == f"{bench.folder / 'a.csv'}: {os.strerror(code)}"


def test_a_file_that_can_not_be_read_on_goes_on_where_it_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had behind the last batch is read again."""
    bench.write("a.csv", HEADER + rows(1, 2))
    bench.write("b.csv", HEADER + rows(7, 8))

    def refused() -> None:
        _refuse(monkeypatch, "read", "a.csv", errno.EIO, 1)
        bench.write("a.csv", rows(3, 4))

    found = bench.follow(refused, lambda: bench.write("a.csv", rows(5, 5)), lambda: None)
    assert [one for one in found if one < 7] == [1, 2, 3, 4, 5]


def test_a_file_that_was_published_before_and_is_refused_is_not_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on once it is given, and no other name of it is looked for."""
    bench.write("a.csv", HEADER + rows(1, 2))
    bench.follow()
    bench.write("a.csv", rows(3, 3))
    _refuse(monkeypatch, "open", "a.csv", errno.EACCES, 2, owner=Path)
    assert bench.follow(lambda: None, lambda: None) == [1, 2, 3]
    assert not bench.log.named("followed_file_gone")
    assert len(bench.log.named("source_broken")) == 1


def test_a_folder_that_is_gone_is_waited_for(bench: Bench) -> None:
    """Like a file that is not there, by those that were read out of it before."""
    away, sub = bench.folder / "away", bench.folder / "sub"
    sub.mkdir()
    bench.write("sub/a.csv", HEADER + rows(1, 2))
    bench.write("b.csv", HEADER + rows(7, 8))
    of = ("sub/a.csv", "b.csv")
    bench.follow(of=of)
    sub.rename(away)

    def back() -> None:
        away.rename(sub)
        bench.write("sub/a.csv", rows(3, 3))

    found = bench.follow(lambda: bench.write("b.csv", rows(9, 9)), back, of=of)
    assert (sorted(found), found[-2:]) == ([1, 2, 3, 7, 8, 9], [9, 3])
    assert not bench.log.named("source_broken")


def test_a_pipe_is_refused(bench: Bench) -> None:
    """It gives its bytes once, and would be waited for before all others."""
    os.mkfifo(bench.folder / "pipe")
    bench.write("b.csv", HEADER + rows(7, 8))
    with pytest.raises(SourceUnusable, match="pipe: not a regular file"):
        bench.follow(of=("pipe", "b.csv"))


@pytest.mark.parametrize("change", ["renamed", "removed"])
@pytest.mark.parametrize("first", [rows(1, 2), ""])
def test_a_writer_that_goes_on_in_a_file_without_its_name_is_heard(
    bench: Bench, first: str, change: str
) -> None:
    """For a moment, also where the file was silent for long before; without a row as well."""
    writer = (bench.folder / "a.csv").open("a", encoding="utf-8")
    writer.write(HEADER + first)
    writer.flush()

    def leave() -> None:
        if change == "renamed":
            bench.rename("a.csv", "a.csv.1")
            bench.write("a.csv", HEADER + rows(6, 7))
        else:
            (bench.folder / "a.csv").unlink()

    def append(text: str) -> None:
        writer.write(text)
        writer.flush()

    steps = [lambda: None] * 9 + [leave, lambda: append(rows(3, 4) + "170000"), lambda: append("0005,5\n")]
    with writer:
        found = bench.follow(*steps, *[lambda: None] * 9, of=("a.csv",), quiet=2)
    before, after = [1, 2] if first else [], [6, 7] if change == "renamed" else []
    assert found == [*before, 3, 4, 5, *after]
    assert [one["how"] for one in bench.log.named("file_rotated")] == [change]


@pytest.mark.parametrize("begun", ["", "ts,va", HEADER])
@pytest.mark.parametrize("earlier", [(), (1, 2)])
@pytest.mark.parametrize("of", ["", "a.csv"])
def test_a_file_that_is_renamed_before_its_first_row_is_read(
    bench: Bench, begun: str, earlier: tuple[int, ...], of: str
) -> None:
    """It was looked at without a header or a row, and has both when it is looked at again."""
    if earlier:
        bench.write("a.csv", HEADER + rows(1, 2))
        bench.follow(of=("a.csv",))
        (bench.folder / "a.csv").unlink()
    bench.write("a.csv", begun)

    def rotate() -> None:
        bench.write("a.csv", (HEADER + rows(3, 5)).removeprefix(begun))
        bench.rename("a.csv", "a.csv.1")
        bench.write("a.csv", HEADER + rows(6, 7))

    assert bench.follow(rotate, lambda: bench.write("a.csv", rows(8, 8)), of=(of,)) == [
        *earlier,
        *range(3, 9),
    ]


@pytest.mark.parametrize("empty", ["", HEADER, "time,val\n1,1\n"])
def test_a_rotated_file_of_which_nothing_can_be_read_is_passed_by(bench: Bench, empty: str) -> None:
    """Its writer is heard for a moment; then what was begun after it is read."""
    bench.write("a.csv", HEADER + rows(1, 2))

    def rotate(text: str) -> None:
        if (bench.folder / "a.csv.1").exists():
            bench.rename("a.csv.1", "a.csv.2")
        bench.rename("a.csv", "a.csv.1")
        bench.write("a.csv", text)

    found = bench.follow(lambda: rotate(empty), lambda: rotate(HEADER + rows(3, 4)))
    assert found == [1, 2, 3, 4]
    rotate(empty)
    rotate(HEADER + rows(5, 6))
    assert bench.follow(lambda: bench.write("a.csv", rows(7, 7))) == [1, 2, 3, 4, 5, 6, 7]


def test_a_file_that_was_rotated_before_it_was_seen_is_one_by_itself(bench: Bench) -> None:
    """Whether it came just now, was there at first, or came while nobody looked; and each once."""
    bench.write("a.csv.1", HEADER + rows(1, 2))
    bench.write("a.csv", HEADER + rows(3, 4))

    def two(name: str, first: int) -> None:
        bench.write(name, HEADER + rows(first, first + 1))
        bench.rename(name, f"{name}.1")
        bench.write(name, HEADER + rows(first + 2, first + 3))

    bench.follow(lambda: two("b.csv", 5), lambda: bench.write("a.csv", rows(9, 9)))
    assert not bench.log.named("taken_for_rotated")
    two("c.csv", 10)
    bench.follow()
    (bench.folder / "a.csv.1").unlink()
    bench.rename("a.csv", "a.csv.1")
    bench.write("a.csv", HEADER + rows(14, 14))
    (bench.folder / "a.csv.2.gz").write_bytes(b"packed")
    assert sorted(bench.follow(lambda: None)) == list(range(1, 15))
    told = [
        (Path(one["file"]).name, Path(one["origin"]).name) for one in bench.log.named("taken_for_rotated")
    ]
    assert told == [("a.csv.1", "a.csv"), ("a.csv.2.gz", "a.csv")]
    assert not bench.log.named("source_broken")


def test_one_that_was_rotated_is_recorded_before_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is killed between the two is started again: the other's record would speak for both."""
    bench.write("a.csv", HEADER + rows(3, 4))
    bench.write("a.csv.1", HEADER + rows(1, 2))
    with monkeypatch.context() as patched:
        patched.setattr(bench.broker, "keep", _kill)
        with pytest.raises(KeyboardInterrupt):
            bench.follow()
    assert sorted(bench.follow()) == [1, 2, 3, 4]


def _kill(_run: Run, _batch: Batch) -> None:
    raise KeyboardInterrupt


def test_two_files_that_are_named_as_if_one_was_the_other_are_both_read(bench: Bench) -> None:
    """Each by itself: also when the first is renamed, and its next file is looked for by such names."""
    bench.write("pump", HEADER + rows(1, 2))
    bench.write("pump-1", HEADER + rows(11, 12))

    def rotate() -> None:
        bench.rename("pump", "pump.1")
        bench.write("pump", HEADER + rows(3, 4))
        bench.write("pump-1", rows(13, 14))

    bench.follow(lambda: bench.write("pump-1", ""), rotate, lambda: bench.write("pump", rows(5, 5)))
    bench.rename("pump.1", "pump.2")
    bench.rename("pump", "pump.1")
    bench.write("pump", HEADER + rows(6, 7))
    bench.write("pump-1", rows(15, 15))
    assert sorted(bench.follow(lambda: None)) == [*range(1, 8), *range(11, 16)]


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("most_open", [200, 1])
def test_one_by_itself_is_over_when_another_is_renamed_to_its_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, most_open: int, is_known: bool
) -> None:
    """What is renamed to the name was read under the other one; the first file is open, or was closed."""
    monkeypatch.setattr(follow, "_MOST_OPEN", most_open)
    bench.write("a.csv.1", HEADER + rows(1, 2))
    bench.write("a.csv", HEADER + rows(3, 4))

    def shift() -> None:
        bench.rename("a.csv.1", "a.csv.2")
        bench.rename("a.csv", "a.csv.1")
        bench.write("a.csv", HEADER + rows(5, 6))

    if is_known:
        bench.follow()
    assert sorted(bench.follow(lambda: None, shift, lambda: None)) == [1, 2, 3, 4, 5, 6]
    assert sorted(bench.follow()) == [1, 2, 3, 4, 5, 6]


def test_a_link_to_a_file_that_is_followed_is_none_by_itself(bench: Bench) -> None:
    """Where it comes with a folder or a pattern; one that is named is, and one that leads elsewhere."""
    bench.write("a-1x.csv", HEADER + rows(1, 2))
    (bench.folder / "current.csv").symlink_to("a-1x.csv")
    elsewhere = bench.folder.parent / "elsewhere.csv"
    elsewhere.write_text(HEADER + rows(5, 5), encoding="utf-8")
    for name in ("far.csv", "far-too.csv"):
        (bench.folder / name).symlink_to(elsewhere)

    def next_day() -> None:
        bench.write("a-2x.csv", HEADER + rows(3, 4))
        (bench.folder / "current.csv").unlink()
        (bench.folder / "current.csv").symlink_to("a-2x.csv")

    assert sorted(bench.follow(next_day, lambda: None)) == [1, 2, 3, 4, 5]
    assert sorted(bench.follow(of=("", "current.csv"))) == [1, 2, 3, 3, 4, 4, 5]


@pytest.mark.parametrize("of", [("",), ("b.csv",), ("a.csv", "b.csv")])
def test_files_that_begin_alike_are_not_taken_for_each_other(bench: Bench, of: tuple[str, ...]) -> None:
    """The record knows a file by its first bytes, and devices may write the same ones."""
    for name in ("a.csv", "b.csv"):
        bench.write(name, HEADER + rows(1, 1))
    bench.follow(of=of)
    bench.write("a.csv", rows(2, 3))
    os.utime(bench.folder / "a.csv", (1, 1))  # the older one is looked at first
    bench.write("b.csv", rows(5, 6))
    bench.rename("b.csv", "b.csv.1")
    bench.write("b.csv", HEADER + rows(7, 7))
    of_a = [] if of == ("b.csv",) else [1, 2, 3]
    assert sorted(bench.follow(of=of)) == sorted([*of_a, 1, 5, 6, 7])


def test_one_by_itself_that_is_renamed_again_is_no_new_one(bench: Bench) -> None:
    """Also where nothing is published so far under the name that both had."""
    bench.write("a.csv.1", HEADER + rows(1, 2))

    def shift() -> None:
        bench.rename("a.csv.1", "a.csv.2")
        bench.write("a.csv", "")

    assert bench.follow(shift, lambda: bench.write("a.csv", HEADER + rows(3, 3))) == [1, 2, 3]


@pytest.mark.parametrize("empty", ["", HEADER])
def test_what_stands_behind_an_empty_file_is_read_without_a_next_one(bench: Bench, empty: str) -> None:
    """All are rotated, and nothing is begun under the name that they had."""
    bench.write("a.csv", HEADER + rows(1, 2))
    bench.follow()
    bench.rename("a.csv", "a.csv.3")
    bench.write("a.csv.2", empty)
    bench.write("a.csv.1", HEADER + rows(3, 4))
    assert bench.follow(lambda: None) == [1, 2, 3, 4]
