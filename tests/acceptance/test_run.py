"""`telemetry run` as a person types it: the whole pipeline, killed at, interrupted and started again."""

import contextlib
import csv
import json
import os
import random
import re
import signal
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance.publisher import KEYS
from acceptance.rig import PATIENCE_S, Process, assert_log
from servers import LocalServer, eventually

from services.consumer.validate import check
from services.contract.codec import decode
from services.contract.event import Event, Rejection
from services.contract.kpis import parse_kpis, shipped

REPLICAS = 4


class Laptop:
    """A folder in which commands are typed. Without `server`, the commands start one of their own."""

    def __init__(self, folder: Path, server: LocalServer | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.environment = {
            "DATA_DIR": str(self.data),
            "REDIS_URL": "",
            "REDIS_HOST": "" if server is None else server.host,
            "REDIS_PORT": "" if server is None else str(server.port),
        }
        self._started: list[Process] = []

    def types(self, *words: str, **environment: str) -> Process:
        """Start a command."""
        output = self.folder / f"{words[0]}.{len(self._started)}.log"
        command = [sys.executable, "-m", "services.ops", *words]
        process = Process(command, {**self.environment, **environment}, output, self.folder)
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for log in self.data.glob("logs/*.jsonl"):
            assert_log(log, was_killed=True)

    def processes(self) -> list[int]:
        """Find every process that works in this data folder, whoever its parent is."""
        wanted = f"DATA_DIR={self.data}\0".encode()
        return [pid for pid in _pids() if wanted in _read(pid, "environ")]

    def rows(self) -> list[Event]:
        with contextlib.closing(sqlite3.connect(self.data / "telemetry.db", timeout=30)) as connection:
            found = connection.execute(
                "SELECT event_id, device_id, zone, ts, kpi, value FROM telemetry_events"
            )
            return [Event(*row) for row in found]

    def stored(self) -> int:
        """Count the rows; 0 where there is no table yet."""
        if not (self.data / "telemetry.db").is_file():
            return 0
        try:
            with contextlib.closing(sqlite3.connect(self.data / "telemetry.db", timeout=30)) as connection:
                return int(connection.execute("SELECT count(*) FROM telemetry_events").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """Give a folder without a server."""
    one = Laptop(tmp_path)
    yield one
    one.close()


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _consumers_of(run: Process) -> list[int]:
    """Find the consumers that a run has started."""
    found = []
    for pid in _pids():
        status = _read(pid, "stat").rpartition(b") ")[2].split()
        is_child = len(status) > 1 and int(status[1]) == run.pid
        if is_child and b"services.consumer" in _read(pid, "cmdline"):
            found.append(pid)
    return found


def _has_stored(laptop: Laptop, run: Process, rows: int) -> bool:
    """Wait until so many rows are stored; False when the run ends before that."""
    eventually(lambda: run.exit_code is not None or laptop.stored() >= rows, 2 * PATIENCE_S, f"{rows} rows")
    return run.exit_code is None


def _audit_line(text: str) -> dict[str, int]:
    """Read the numbers of the last audit line."""
    line = re.findall(r"^audit: .*$", text, re.MULTILINE)[-1]
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}


def _must_have_ended(run: Process, code: int = 0) -> dict[str, int]:
    """Wait for the end of a run, and give the audit's numbers."""
    assert run.wait(90) == code, run.text[-3000:]
    return _audit_line(run.text)


def test_a_run_whose_consumers_are_killed_at_random_loses_nothing(
    tmp_path: Path, own_server: Callable[..., LocalServer]
) -> None:
    """Consumers are killed all the while; the run ends well, and stream and database agree."""
    chance = random.Random(7)
    server = own_server()
    laptop = Laptop(tmp_path, server)
    run = laptop.types(
        *("run", "--replicas", str(REPLICAS), "--rate", "2000", "--duration", "5"),
        *("--invalid-ratio", "0.01", "--duplicate-ratio", "0.01", "--batch-size", "50"),
        RETENTION_INTERVAL_S="0",
    )
    kills = 0
    while _has_stored(laptop, run, laptop.stored() + chance.randrange(1, 500)):
        if consumers := _consumers_of(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(consumers), signal.SIGKILL)
                kills += 1
    numbers = _must_have_ended(run)
    print(f"{kills} kills, {numbers}")
    assert kills > 5
    assert (numbers["missing"], numbers["pending"], numbers["undelivered"]) == (0, 0, 0)
    _assert_stream_is_stored(server, laptop)
    assert numbers["stored"] == laptop.stored()
    assert laptop.processes() == []


def _assert_stream_is_stored(server: LocalServer, laptop: Laptop) -> None:
    """Compare what the server still holds, which is everything, with database and dead letters."""
    kpis = parse_kpis(shipped())
    rows = laptop.rows()
    stored = {row.event_id: row for row in rows}
    assert len(stored) == len(rows)
    letters = {
        json.loads(line)["entry_id"]
        for line in (laptop.data / "dlq.jsonl").read_text(encoding="utf-8").splitlines()
        if line.endswith("}")
    }
    client = server.client()
    client.set_response_callback("XRANGE", lambda reply, **_: reply)  # a dict would hide a name given twice
    entries: Any = client.execute_command("XRANGE", KEYS.stream, "-", "+")
    seen = set()
    for entry_id, fields in entries:
        decoded = decode(fields)
        event = decoded if isinstance(decoded, Rejection) else check(decoded, kpis, time.time() + 300)
        if isinstance(event, Event):
            seen.add(event.event_id)
            assert stored[event.event_id] == event
        else:
            assert entry_id.decode() in letters
    assert seen == set(stored)
    client.close()


def test_ctrl_c_ends_a_run_with_its_summary_and_the_next_one_goes_on(laptop: Laptop) -> None:
    """Interrupted, it settles and proves; the next run adds to it; `--full` finds a deletion."""
    run = laptop.types("run", "--replicas", "2", "--rate", "1000", "--duration", "0")
    assert _has_stored(laptop, run, 301)
    run.signal(signal.SIGINT)
    first = _must_have_ended(run)
    assert (first["missing"], first["pending"], first["undelivered"]) == (0, 0, 0)
    assert first["stored"] == laptop.stored() > 300
    assert laptop.processes() == []

    second = _must_have_ended(laptop.types("run", "--rate", "500", "--duration", "1"))
    assert second["published"] > first["published"]
    assert second["missing"] == 0
    assert second["stored"] == laptop.stored() > first["stored"]

    left = sorted(laptop.data.rglob("*"))
    refused = laptop.types("audit")
    assert refused.wait() == 2
    assert "no server runs for the data of earlier runs in" in refused.text
    assert "--start-server" in refused.text
    assert sorted(laptop.data.rglob("*")) == left
    audit = laptop.types("audit", "--start-server")
    assert _must_have_ended(audit) == second

    gone = laptop.rows()[100].event_id
    with contextlib.closing(sqlite3.connect(laptop.data / "telemetry.db")) as connection:
        connection.execute("DELETE FROM telemetry_events WHERE event_id = ?", (gone,))
        connection.commit()
    for command in (("audit", "--start-server", "--full"), ("run", "--rate", "500", "--duration", "1")):
        process = laptop.types(*command)
        assert _must_have_ended(process, code=1)["missing"] == 1
        assert f"*-{gone[14:]}" in process.text
    assert laptop.processes() == []


def test_a_csv_file_is_published_stored_and_proven(laptop: Laptop, tmp_path: Path) -> None:
    """`--from FILE` sees every line of a file to its place, with names mapped and a constant zone."""
    path = tmp_path / "readings.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sensor", "time", "kpi", "value"])
        for number in range(2000):
            value = "-4" if number == 1500 else f"{20 + number % 30}.5"
            writer.writerow([f"sensor-{number % 9}", 1_700_000_000 + number, "humidity", value])
    mapping = ("--map", "device_id=sensor", "--map", "ts=time", "--const", "zone=lab")
    numbers = _must_have_ended(laptop.types("run", "--replicas", "2", "--from", str(path), *mapping))
    assert numbers == {
        "published": 2000, "stored": 1999, "dead": 1, "conflicts": 0, "pending": 0, "undelivered": 0,
        "missing": 0,
    }  # fmt: skip
    times = {row.ts: (row.device_id, row.zone) for row in laptop.rows()}
    assert len(times) == 1999
    assert times[1_700_000_012.0] == ("sensor-3", "lab")


def test_lines_that_cant_be_read_are_named_at_the_end(laptop: Laptop) -> None:
    """With file, line and reason; they are no events, so the audit misses none."""
    path = laptop.data.parent / "bad.csv"
    good = "a,z,1700000000,temperature,1\n"
    path.write_text(f"device_id,zone,ts,kpi,value\n{good}a,z\nb,z,1,2,3,4\n{good}", encoding="utf-8")
    run = laptop.types("run", "--from", str(path))
    assert _must_have_ended(run, code=1)["published"] == 2
    assert "bad.csv: lines=5 published=2 refused=2 left_out=1 (header 1)" in run.text
    assert "line 3: 2 columns, and the header has 5" in run.text
    assert "line 4: 6 columns, and the header has 5" in run.text
    assert "2 refused, more than --max-rejected 0" in run.text
    (kept,) = (laptop.data / "rejected").iterdir()
    assert [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] == [
        {"line": 3, "reason": "2 columns, and the header has 5", "text": "a,z"},
        {"line": 4, "reason": "6 columns, and the header has 5", "text": "b,z,1,2,3,4"},
    ]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    run = laptop.types("run", "--from", str(path), "--again", "--max-rejected", "2", "--json")
    run.wait()
    told = json.loads(run.text[run.text.index("{") : run.text.rindex("}") + 1])
    assert (told["file"]["lines"], told["file"]["lines_refused"], told["file"]["failures"]) == (5, 2, [])


def test_ctrl_c_says_where_a_file_stopped_and_resume_goes_on_there(laptop: Laptop, tmp_path: Path) -> None:
    """Every line is published once, and each of the two accounts has its own."""
    path = tmp_path / "long.csv"
    rows = "".join(f"a,z,{1_700_000_000 + number},temperature,1\n" for number in range(60_000))
    path.write_text(f"device_id,zone,ts,kpi,value\n{rows}", encoding="utf-8")
    run = laptop.types("run", "--from", str(path), "--rate", "3000")
    eventually(lambda: laptop.stored() > 1000, PATIENCE_S, "some of it is stored")
    run.signal(signal.SIGINT)
    first = _must_have_ended(run, code=1)["published"]
    assert f"stopped after line {first + 1}, before its end" in run.text
    assert "the same command, with --resume" in run.text
    numbers = _must_have_ended(laptop.types("run", "--from", str(path), "--resume"))
    assert numbers["stored"] == 60_000
    assert len({row.ts for row in laptop.rows()}) == 60_000


def test_the_same_reading_in_several_files_is_one_row(laptop: Laptop, tmp_path: Path) -> None:
    """With ids that are derived; one account tells each refused line by its file, and a conflict is dead."""
    header, rows = (
        "device_id,zone,ts,kpi,value\n",
        [f"a,z,{1_700_000_000 + at},temperature,{at}.5" for at in range(20)],
    )
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.csv").write_text(header + "\n".join(rows[:12]) + "\n", encoding="utf-8")
    other = rows[8].replace("8.5", "9.5")
    again = [other, *(f"{row}0" for row in rows[9:])]  # 9.50 is 9.5
    (logs / "b.csv").write_text(header + "a,z\n" + "\n".join(again) + "\n", encoding="utf-8")
    run = laptop.types("run", "--from", f"{logs}/*.csv", "--id-from", "device_id,kpi,ts")
    numbers = _must_have_ended(run, code=1)
    assert (numbers["stored"], numbers["conflicts"], numbers["missing"]) == (20, 1, 0)
    assert len(laptop.rows()) == 20
    assert "2 files: lines=27 published=24 refused=1 left_out=2 (header 2)" in run.text
    assert "    b.csv line 2: 2 columns, and the header has 5" in run.text
    run = laptop.types(
        "run", "--from", f"{logs}/*.csv", "--id-from", "device_id,kpi,ts", "--resume", "--json"
    )
    assert run.wait() == 0, run.text
    told = json.loads(run.text[run.text.index("{") : run.text.rindex("}") + 1])
    assert [one["lines"] for one in told["file"]["files"]] == [0, 0]


def test_a_followed_file_ends_with_where_it_stopped(laptop: Laptop, tmp_path: Path) -> None:
    """At Ctrl-C, and the same command goes on there."""
    path = tmp_path / "app.csv"
    path.write_text("device_id,zone,ts,kpi,value\na,z,1700000000,temperature,1\n", encoding="utf-8")
    for number in (1, 2):
        run = laptop.types("run", "--from", str(path), "--follow")
        eventually(lambda number=number: laptop.stored() == 2 * number - 1, PATIENCE_S, "it is stored")  # type: ignore[misc]
        with path.open("a", encoding="utf-8") as file:
            file.write(f"a,z,{1_700_000_000 + 2 * number},temperature,1\n")
        eventually(lambda number=number: laptop.stored() == 2 * number, PATIENCE_S, "the next one is")  # type: ignore[misc]
        run.signal(signal.SIGINT)
        _must_have_ended(run)
        assert f"stopped after line {2 * number + 1}; the same command goes on there" in run.text
        with path.open("a", encoding="utf-8") as file:
            file.write(f"a,z,{1_700_000_001 + 2 * number},temperature,1\n")


@pytest.mark.parametrize("text", ["", "[]", "device_id,zone,ts,kpi,value\n"])
def test_a_file_of_which_nothing_is_published_is_no_success(laptop: Laptop, text: str) -> None:
    """It says so."""
    path = laptop.data.parent / "nothing.txt"
    path.write_text(text, encoding="utf-8")
    run = laptop.types("run", "--from", str(path))
    assert run.wait() == 1
    assert "nothing in it was published" in run.text


def test_dead_letters_in_a_stream_are_counted_there(laptop: Laptop) -> None:
    """By the status line as by the audit."""
    run = laptop.types(
        "run",
        "--rate",
        "500",
        "--duration",
        "2",
        "--invalid-ratio",
        "0.2",
        "--duplicate-ratio",
        "0.3",
        DEAD_LETTERS="stream",
    )
    numbers = _must_have_ended(run)
    assert numbers["dead"] > 100
    _assert_live_figures_agree(run, numbers)


def _assert_live_figures_agree(run: Process, numbers: dict[str, int]) -> None:
    """See that the last line of the run says what the audit says."""
    told = re.findall(r"^published=.*$", run.text, re.MULTILINE)[-1]
    live = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", told)}
    same = ("published", "stored", "dead", "conflicts", "pending")
    assert {name: live[name] for name in same} == {name: numbers[name] for name in same}
    assert live["lag"] == numbers["undelivered"]
    places = ("stored", "dead", "conflicts", "pending", "undelivered", "missing")
    assert numbers["published"] == sum(numbers[place] for place in places)


def test_conflicts_and_repeats_of_a_file_have_their_own_count(laptop: Laptop, tmp_path: Path) -> None:
    """Of 400 lines 100 are copies of others, and 100 have another content under an id of before."""
    path = tmp_path / "again.jsonl"
    lines = []
    for number in range(200):
        name = f"018f3c5e-8a10-4abc-8def-{number:012x}"
        line = {"event_id": name, "device_id": "d", "zone": "z", "ts": 1_700_000_000 + number,
                "kpi": "humidity", "value": 20}  # fmt: skip
        lines += [line, line if number % 2 else {**line, "value": 21}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run = laptop.types("run", "--from", str(path))
    numbers = _must_have_ended(run)
    assert numbers == {
        "published": 300, "stored": 200, "dead": 0, "conflicts": 100, "pending": 0, "undelivered": 0,
        "missing": 0,
    }  # fmt: skip
    _assert_live_figures_agree(run, numbers)


def test_the_status_finds_the_server_of_the_next_run(laptop: Laptop) -> None:
    """It watches from before the first run to behind the second, and keeps nothing of either."""
    watched = laptop.types("status", "--watch", "--interval", "0.2")

    def says(pattern: str) -> None:
        lines = len(watched.text.splitlines())
        eventually(
            lambda: re.search(pattern, "\n".join(watched.text.splitlines()[lines:])), PATIENCE_S, pattern
        )

    says("published=- stored=- dead=0")
    assert not laptop.data.exists()
    published = []
    for _ in range(2):
        run = laptop.types("run", "--rate", "200", "--duration", "3")
        says(r" published=[1-9]\d* stored=[1-9]\d* .* consumers=1 ")
        says(r" in_rate=[1-9]")
        published.append(_must_have_ended(run)["published"])
        says(r" published=- stored=[1-9]\d* ")
    assert published[1] > published[0]
    watched.signal(signal.SIGINT)
    assert watched.wait() == 0, watched.text


def test_settings_that_are_wrong_are_listed_and_nothing_is_started(laptop: Laptop) -> None:
    """Exit code 2, every error in one message, and no process, no folder."""
    run = laptop.types("run", BATCH_SIZE="many", RATE="-3", THRESHOLD_LUCK="7", CLAIM_IDLE_MS="1")
    assert run.wait() == 2, run.text
    for error in ("BATCH_SIZE='many'", "RATE='-3'", "THRESHOLD_LUCK", "CLAIM_IDLE_MS"):
        assert error in run.text
    assert not laptop.data.exists()
    assert laptop.processes() == []


def test_a_sink_that_cant_be_used_ends_the_run_with_the_reason(laptop: Laptop) -> None:
    """A database of somebody else ends the run with exit code 1 and that reason, and no process stays."""
    laptop.data.mkdir()
    (laptop.data / "telemetry.db").write_bytes(b"notes\n" * 1000)
    run = laptop.types("run", "--duration", "30")
    assert run.wait(60) == 1, run.text
    assert "is no SQLite database" in run.text
    assert "Traceback" not in run.text
    assert laptop.processes() == []


def test_a_run_outlives_a_database_that_cant_be_opened_for_a_while(laptop: Laptop) -> None:
    """The status line goes without its number, the consumer waits, and the audit tells what it cost."""
    run = laptop.types("run", "--rate", "300", "--duration", "0")
    assert _has_stored(laptop, run, 101)
    database = laptop.data / "telemetry.db"
    database.rename(laptop.data / "away.db")
    database.mkdir()
    log = laptop.data / "logs" / "consumer-1.jsonl"
    eventually(lambda: "write_unavailable" in log.read_text(), PATIENCE_S, "the consumer waits")
    lines = run.text.count("published=")
    eventually(
        lambda: run.text.count("published=") > lines or run.exit_code is not None, PATIENCE_S, "status"
    )
    database.rmdir()
    assert _has_stored(laptop, run, 101)
    run.signal(signal.SIGINT)
    numbers = _must_have_ended(run, code=1)
    assert numbers["missing"] > 100
    assert numbers["stored"] == laptop.stored()
    assert (numbers["pending"], numbers["undelivered"]) == (0, 0)


def test_runs_in_a_row_leave_no_process_behind(laptop: Laptop, tmp_path: Path) -> None:
    """Each run on a fresh folder starts four replicas at once, ends well, and leaves nobody behind."""
    for number in range(3):
        fresh = Laptop(tmp_path / str(number))
        fresh.folder.mkdir()
        run = fresh.types("run", "--replicas", str(REPLICAS), "--rate", "500", "--duration", "0.5")
        numbers = _must_have_ended(run)
        assert numbers["missing"] == 0
        assert numbers["stored"] == fresh.stored() > 0
        assert fresh.processes() == []
    assert laptop.processes() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_run_that_is_killed_leaves_no_process_behind(laptop: Laptop) -> None:
    """Its server and services end by themselves, and the next run goes on where it was."""
    run = laptop.types("run", "--replicas", "2", "--rate", "300", "--duration", "0")
    assert _has_stored(laptop, run, 200)
    assert len(laptop.processes()) >= 4
    run.kill()
    eventually(lambda: laptop.processes() == [], PATIENCE_S, "all have ended")
    numbers = _must_have_ended(laptop.types("run", "--rate", "100", "--duration", "0.5"))
    assert numbers["missing"] == 0
    assert numbers["stored"] >= 200
