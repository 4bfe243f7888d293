"""Another user of the machine, beside `telemetry run`: sees nothing of it, and changes nothing."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.rig import PATIENCE_S, Process
from acceptance.test_run import Laptop
from servers import eventually

from services.ops.run.targets import read_targets

NOBODY = 65534


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """Give a folder without a server."""
    one = Laptop(tmp_path)
    yield one
    one.close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """Give a folder in which the pipeline runs, and events are stored."""
    laptop = Laptop(tmp_path_factory.mktemp("busy"))
    run = _runs(laptop)
    while not _serves_metrics(laptop):  # a run beside us that started at the same time took a port
        _ends(run)
        run = _runs(laptop)
    eventually(
        lambda: laptop.stored() > 50 and (laptop.data / "dlq.jsonl").exists(), PATIENCE_S, "events are stored"
    )
    yield laptop
    _ends(run)
    laptop.close()


def _runs(laptop: Laptop) -> Process:
    for log in laptop.data.glob("logs/*.jsonl"):
        log.unlink()  # of an earlier run: it says where that one's metrics were
    before = os.umask(0o022)  # as most systems have it
    try:
        return laptop.types("run", "--duration", "0", "--rate", "100", "--invalid-ratio", "0.2")
    finally:
        os.umask(before)


def _ends(run: Process) -> None:
    assert run.exit_code is None
    run.signal(signal.SIGINT)
    assert run.wait() == 0


def _serves_metrics(laptop: Laptop) -> bool:
    """Wait until producer and consumer have said whether they serve them; False where a port was taken."""
    logs = [laptop.data / "logs" / f"{name}.jsonl" for name in ("producer", "consumer-1")]

    def said() -> str:
        texts = [log.read_text() if log.exists() else "" for log in logs]
        has_said = all("health_serving" in text or "health_port_taken" in text for text in texts)
        return "".join(texts) if has_said else ""

    return "health_port_taken" not in str(eventually(said, PATIENCE_S, "it is said where metrics are"))


def _address(laptop: Laptop) -> tuple[int, str]:
    found = json.loads((laptop.data / "redis" / "address.json").read_text())
    return int(found["port"]), str(found["password"])


def _asks(port: int, *commands: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
        connection.settimeout(2)
        answer = b""
        while answer.count(b"\r\n") < len(commands):
            answer += connection.recv(65536)
        return answer.decode(errors="replace")


def test_who_has_no_password_gets_nothing_of_the_server(busy: Laptop) -> None:
    """It is another one each time, and stands in a file of its owner alone."""
    port, password = _address(busy)
    for command in ("XLEN telemetry_stream", "FLUSHALL", "SHUTDOWN NOSAVE", "REPLICAOF 127.0.0.1 1", "SAVE"):
        assert _asks(port, command).startswith("-NOAUTH"), command
    assert len(password) >= 32
    assert _asks(port, f"AUTH {password}", "XLEN telemetry_stream").startswith("+OK\r\n:")
    assert busy.types("status").wait() == 0  # the commands read it there


def test_all_files_are_their_owners_alone(busy: Laptop) -> None:
    """Database, WAL, dead letters, logs, the server's files; but for what a Prometheus reads, ports alone."""
    modes = {
        str(path.relative_to(busy.data)): stat.S_IMODE(path.lstat().st_mode) for path in busy.data.rglob("*")
    }
    assert {
        "telemetry.db",
        "telemetry.db-wal",
        "dlq.jsonl",
        "redis/address.json",
        "logs/producer.jsonl",
    } <= set(modes)
    assert modes.pop("observe") == 0o755
    assert modes.pop("observe/targets.json") == 0o644
    modes["."] = stat.S_IMODE(busy.data.stat().st_mode)
    wrong = {name: oct(mode) for name, mode in modes.items() if mode not in {0o600, 0o700}}
    assert wrong == {}


def test_a_folder_that_was_there_keeps_its_mode_and_each_run_has_its_password(laptop: Laptop) -> None:
    """Whoever made the folder said who may look into it."""
    laptop.data.mkdir()
    laptop.data.chmod(0o755)
    (laptop.data / "logs").mkdir()
    (laptop.data / "logs").chmod(0o750)
    passwords = set()
    for _ in range(2):
        run = laptop.types("run", "--duration", "1")
        eventually((laptop.data / "redis" / "address.json").exists, PATIENCE_S, "the server is there")
        passwords.add(_address(laptop)[1])
        assert run.wait() == 0
    assert len(passwords) == 2
    assert stat.S_IMODE(laptop.data.stat().st_mode) == 0o755
    assert stat.S_IMODE((laptop.data / "logs").stat().st_mode) == 0o750
    assert stat.S_IMODE((laptop.data / "telemetry.db").stat().st_mode) == 0o600


def test_metrics_are_for_this_machine(busy: Laptop) -> None:
    """They listen on 127.0.0.1 alone; METRICS_HOST says where else."""
    targets = read_targets(busy.data)
    assert targets.keys() == {"producer", "consumer-1"}
    for address in targets.values():
        host, _, port = address.partition(":")
        socket.create_connection((host, int(port)), timeout=10).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", int(port)), timeout=10)


def test_the_list_of_processes_shows_no_password(busy: Laptop) -> None:
    """The server has it by its standard input, the services by their environment."""
    port, password = _address(busy)
    arguments = b"".join(
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists()
    )
    assert f"127.0.0.1:{port}".encode() in arguments  # the server names itself by its address
    assert password.encode() not in arguments
    for log in (
        *busy.data.glob("logs/*"),
        busy.data / "redis" / "server.log",
        *busy.folder.glob("*.log"),
    ):
        assert password not in log.read_text(errors="replace"), log


AS_NOBODY = """
import os, sys
data, nobody = sys.argv[1], int(sys.argv[2])
os.setgroups([])  # only now: Python itself may lie where nobody else can read it
os.setgid(nobody)
os.setuid(nobody)
def tried(what):
    try:
        what()
    except OSError:
        return
    print("could", what.__doc__ or what)
for name in ("", "/redis/address.json", "/telemetry.db", "/dlq.jsonl", "/logs/producer.jsonl"):
    tried(lambda: (os.listdir if name == "" else open)(data + name))
tried(lambda: os.symlink("/etc/passwd", data + "/dlq.new"))
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if data.encode() in open(f"/proc/{pid}/environ", "rb").read():
            print("could read the environment of", pid)
    except OSError:
        pass
print("done")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user here")
def test_another_user_reads_and_changes_nothing(busy: Laptop) -> None:
    """Neither files, nor the services' environments."""
    for folder in (busy.folder, *busy.folder.parents):  # what pytest makes is for its own user alone
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(busy.data), str(NOBODY)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "done\n"


@pytest.mark.parametrize("name", ["logs/producer.jsonl", "logs/consumer-1.jsonl", "redis/server.log"])
def test_a_log_that_is_a_link_is_refused_in_a_line(laptop: Laptop, name: str) -> None:
    """What it leads to is left as it is."""
    victim = laptop.folder / "victim"
    victim.write_text("precious")
    link = laptop.data / name
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    run = laptop.types("run", "--duration", "1")
    assert run.wait() == 2
    (line,) = [text for text in run.text.splitlines() if str(link) in text]
    assert "it is a link" in line
    assert "Traceback" not in run.text
    assert victim.read_text() == "precious"
