"""dlq.jsonl on a disk as it is: torn by a crash, full, shared, replaced by a purge."""

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import dead, event_fields

from services.contract.errors import DeadLettersUnavailable
from services.stores.files.dead_letters import DeadLetterFile

ROOT = Path(__file__).parents[4]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file that isn't there yet."""
    return tmp_path / "data" / "dlq.jsonl"


def open_file(path: Path) -> DeadLetterFile:
    """Open the dead letters as a consumer does."""
    return DeadLetterFile(path, lambda: 1.0, "c")


def test_a_torn_last_line_spoils_no_other(path: Path) -> None:
    """What a crash left half written is ended before the next letter, and told."""
    letters = open_file(path)
    letters.put([dead(1)])
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        letters.put([dead(2)])
        assert [one.entry_id[-2:] for one in letters.read()][0::1][:1] == ["-1"]
        assert [one.entry_id for one in letters.read()][-1] == "1700000000000-2"
        assert (len(letters.damages.torn), letters.damages.number) == (0 if cut == len(whole) - 1 else 1, 0)
        letters = open_file(path)


def test_every_line_is_one_json_object(path: Path) -> None:
    """Any tool that reads JSON lines reads them, whatever bytes were in the event."""
    odd = event_fields(1, zone=b"\xff\n\x00", device_id="\u2028\r\n")
    for one in (dead(1, odd), dead(2)):
        open_file(path).put([one])
    lines = path.read_text(encoding="ascii").split("\n")
    assert lines[-1] == ""
    assert [
        set(json.loads(line)) >= {"event", "error", "failed_at", "entry_id", "reason"} for line in lines[:-1]
    ] == [True, True]


def test_a_full_disk_keeps_no_half_letter(path: Path) -> None:
    """A put that doesn't fit fails whole and leaves no piece behind; with room again it works."""
    code = """
import resource
from pathlib import Path
from samples import dead
from services.stores.files.dead_letters import DeadLetterFile
from services.contract.errors import DeadLettersUnavailable
letters = DeadLetterFile(Path(sys.argv[3]), lambda: 1.0, "c")
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
kept = failed = 0
for number in range(30):
    try:
        letters.put([dead(number), dead(number)])
        kept += 2
    except DeadLettersUnavailable as error:
        failed += 1
        told = error
print(kept, failed, told, told.kind, sep="|")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
letters.put([dead(99)])
"""
    header = "import sys; sys.path[:0] = sys.argv[1:3]\n"
    done = subprocess.run(
        [sys.executable, "-c", header + code, str(ROOT), str(ROOT / "tests"), str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept, failed, told, kind = done.stdout.strip().split("|")
    assert int(failed) > 0
    assert int(kept) + 2 * int(failed) == 60
    assert str(path) in told
    assert kind == "file_too_large"
    letters = open_file(path)
    assert len(list(letters.read())) == int(kept) + 1
    assert (letters.damages.torn, letters.damages.number) == ([], 0)


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    """Where the file can't be made, the put fails with path and reason."""
    (tmp_path / "data").write_text("a file", encoding="utf-8")
    with pytest.raises(DeadLettersUnavailable, match=r"dlq\.jsonl"):
        open_file(tmp_path / "data" / "dlq.jsonl").put([dead(1)])


def test_no_descriptor_is_kept_open(path: Path) -> None:
    """However often letters are written, marked, purged and read, and where that fails, too."""
    letters = open_file(path)
    letters.put([dead(1)])
    before = _next_descriptor()
    for number in range(5):
        letters.put([dead(number)])
        letters.mark_replayed([(f"1700000000000-{number}", "2-0")])
        assert list(letters.read())
        letters.replayed()
        letters.purge({f"1700000000000-{number}"})
    path.unlink()
    path.mkdir()
    with pytest.raises(DeadLettersUnavailable):
        letters.put([dead(1)])
    assert _next_descriptor() == before


def _next_descriptor() -> int:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_replicas_share_one_file(path: Path) -> None:
    """Letters of several processes at once are all there but for those purged, each on a line of its own."""
    code = """
from pathlib import Path
from samples import dead
from services.stores.files.dead_letters import DeadLetterFile
letters = DeadLetterFile(Path(sys.argv[3]), lambda: 1.0, "c")
first = int(sys.argv[4])
for number in range(first, first + 40):
    letters.put([dead(number), dead(number)])
    if number % 10 == 0:
        assert letters.purge({f"1700000000000-{number}"}) == 2
"""
    header = "import sys; sys.path[:0] = sys.argv[1:3]\n"
    command = [sys.executable, "-c", header + code, str(ROOT), str(ROOT / "tests"), str(path)]
    running = [subprocess.Popen([*command, str(first)]) for first in (100, 200, 300)]
    assert [one.wait(timeout=60) for one in running] == [0, 0, 0]
    letters = open_file(path)
    assert len(list(letters.read())) == 3 * (80 - 8)
    assert len(list(letters.purged())) == 3 * 4
    assert (letters.damages.torn, letters.damages.number) == ([], 0)


@pytest.mark.parametrize(
    "write",
    [
        lambda letters: letters.put([dead(2)]),
        lambda letters: letters.purge({"1700000000000-1"}),
        lambda letters: letters.mark_replayed([("1700000000000-1", "2-0")]),
    ],
    ids=["put", "purge", "mark"],
)
def test_whoever_writes_waits_for_the_others(path: Path, write: Callable[[DeadLetterFile], object]) -> None:
    """A purge reads all and writes what stays: a letter that came in between would be lost."""
    letters = open_file(path)
    letters.put([dead(1)])
    done = threading.Event()

    def work() -> None:
        write(letters)
        done.set()

    thread = threading.Thread(target=work)
    with path.with_suffix(".lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread.start()
        assert not done.wait(0.3)
        assert len(list(letters.read())) == 1
    assert done.wait(10)
    thread.join()


def test_foreign_lines_are_kept_by_a_purge(path: Path) -> None:
    """A line that is no letter is nobody's to throw away."""
    letters = open_file(path)
    letters.put([dead(1)])
    with path.open("ab") as file:
        file.write(b'{"mine": 1}\n')
    assert letters.purge({"1700000000000-1"}) == 1
    assert path.read_bytes() == b'{"mine": 1}\n'


def test_lines_of_the_wrong_shape_are_told_by_their_number(path: Path) -> None:
    """JSON, but no letter and no mark: somebody else's, or edited by hand."""
    letters = open_file(path)
    letters.put([dead(1)])
    whole = json.loads(path.read_text(encoding="ascii"))
    wrong = [{**whole, "entry_id": 5}, {**whole, "failed_at": "now"}, {**whole, "event": 1}, [], "text", 7]
    path.write_text("".join(json.dumps(one) + "\n" for one in [*wrong, whole]), encoding="ascii")
    assert [one.entry_id for one in letters.read()] == [whole["entry_id"]]
    assert [one.place for one in letters.damages.named] == [f"{path} line {n}" for n in range(1, 7)]
    letters.mark_replayed([(whole["entry_id"], "2-0")])
    (marks,) = path.parent.glob("*replayed*")
    marks.write_text(marks.read_text(encoding="ascii") + '[]\n7\n{"entry_id": 5}\n', encoding="ascii")
    assert list(letters.replayed()) == [whole["entry_id"]]
    assert [one.place for one in letters.damages.named[6:]] == [f"{marks} line {n}" for n in (2, 3, 4)]
