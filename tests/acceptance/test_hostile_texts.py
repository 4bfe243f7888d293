"""Texts of others, by every way in which one comes to a terminal: nothing raw, no forged line, no secret.

Each way is tried on a terminal and without one, by the real programs.
"""

import contextlib
import json
import os
import socketserver
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from acceptance.rig import ROOT
from hostile import (
    CONTROLS,
    HIDE_ME,
    HOSTILE,
    LINES,
    MARKUP,
    faults,
    run_on_terminal,
    run_plain,
    unsafe_characters,
)

from services.contract.consuming.doors import Dead, Entry
from services.contract.event import Rejection
from services.stores.files.dead_letters import DeadLetterFile

OPS = [sys.executable, "-m", "services.ops"]
PRODUCER = [sys.executable, "-m", "services.producer"]
CONSUMER = [sys.executable, "-m", "services.consumer"]
ON_ONE_LINE = HOSTILE.replace(LINES, "")
NAME = f"{CONTROLS}{LINES}{MARKUP}".replace("/", "|")
"""Of a file."""


class Way(NamedTuple):
    """A way in: what is run, with which settings, in a folder with which files."""

    command: list[str]
    code: int
    environment: Mapping[str, str] = {}
    files: Mapping[str, str | bytes] = {}


def _csv(header: str) -> bytes:
    return f'device_id,ts,kpi,value,"{header}"\nd,1700000000,humidity,1,1\n'.encode()


QUOTED = json.dumps(HOSTILE, ensure_ascii=False).replace("\x7f", "\\u007f")
UNIT = ON_ONE_LINE.encode("unicode_escape").decode().replace("\\x", "\\u00")
KPI_WITH_A_UNIT = f'[t]\nunit = "{UNIT}"\nmin = 0\nmax = 9\nthreshold = 5\n'
WAYS = {
    "a command": Way([*OPS, HOSTILE], 2),
    "an option": Way([*OPS, "events", f"--{ON_ONE_LINE}"], 2),
    "an option's value": Way([*OPS, "settings", "--service", HOSTILE], 2),
    "a value of choices": Way([*OPS, "dlq", "list", "--reason", HOSTILE], 2),
    "a time": Way([*OPS, "events", "--since", HOSTILE], 2),
    "an argument": Way([*OPS, "dlq", "show", HOSTILE], 2),
    "one argument too many": Way([*OPS, "status", HOSTILE], 2),
    "a field to set": Way([*OPS, "dlq", "replay", "--set", HOSTILE], 2),
    "a file that is not there": Way([*OPS, "run", "--from", HOSTILE], 2),
    "a mapping": Way([*OPS, "run", "--from", "f.csv", "--map", HOSTILE], 2, files={"f.csv": "ts\n"}),
    "a number": Way([*OPS, "events"], 2, {"BATCH_SIZE": HOSTILE}),
    "a choice": Way([*OPS, "status"], 2, {"LOG_LEVEL": HOSTILE}),
    "a host": Way([*OPS, "status"], 2, {"REDIS_HOST": HOSTILE}),
    "a url": Way([*OPS, "status"], 2, {"REDIS_URL": f"redis://me:{HIDE_ME}@{HOSTILE}"}),
    "a name of a setting": Way([*OPS, "settings"], 2, {f"REDIS_PASSWOR{CONTROLS}D": "1", "BATCH_SIZE": "x"}),
    "a threshold": Way([*OPS, "settings"], 2, {f"THRESHOLD_{CONTROLS}": HOSTILE}),
    "a folder": Way([*OPS, "summary"], 2, {"DATA_DIR": f"{NAME}\x1b[31m"}),
    "a setting that is shown": Way([*OPS, "settings"], 0, {"STREAM_NAME": HOSTILE, "CONSUMER_NAME": HOSTILE}),
    "a line of .env": Way([*OPS, "events"], 2, files={".env": f"REDIS_PASSWORD {HIDE_ME}{CONTROLS}\n"}),
    "a name in .env": Way([*OPS, "events"], 2, files={".env": f"{CONTROLS}=1\nX{HOSTILE}\n"}),
    "a value in .env": Way([*OPS, "events"], 2, files={".env": f"BATCH_SIZE='{HOSTILE}'\n"}),
    "a kpi's name": Way([*OPS, "settings"], 2, {"KPIS_FILE": "k"}, {"k": f"[{QUOTED}]\na = 1\n"}),
    "a kpi's key": Way([*OPS, "settings"], 2, {"KPIS_FILE": "k"}, {"k": f"[t]\n{QUOTED} = 1\n"}),
    "a kpi's unit": Way([*OPS, "settings"], 0, {"KPIS_FILE": "k"}, {"k": KPI_WITH_A_UNIT}),
    "what is no toml": Way([*OPS, "settings"], 2, {"KPIS_FILE": "k"}, {"k": f"[t]\na = \x1b{ON_ONE_LINE}\n"}),
    "a column": Way([*PRODUCER, "--from", "f.csv"], 2, files={"f.csv": _csv(HOSTILE.replace('"', ""))}),
    "a column twice": Way([*PRODUCER, "--from", "f.csv"], 2, files={"f.csv": f"{ON_ONE_LINE}," * 2}),
    "a file of a producer": Way([*PRODUCER, "--from", HOSTILE], 2),
    "an option of a producer": Way([*PRODUCER, f"--{HOSTILE}"], 2),
    "a value of a producer": Way([*PRODUCER, "--rate", HOSTILE], 2),
    "a setting of a consumer": Way([*CONSUMER], 2, {"LOG_LEVEL": HOSTILE}),
    "an argument of a consumer": Way([*CONSUMER, HOSTILE], 2),
}  # fmt: skip


def _environment(way: Way) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **way.environment}


ALL_OF_THEM = """
import json, os, runpy, sys
mark, folder = sys.argv[1], sys.argv[2]
kept = dict(os.environ)
for name, (words, environment) in json.load(open(f"{folder}/ways.json")).items():
    os.environ.clear()
    os.environ.update(kept | environment)
    os.chdir(f"{folder}/{name}")
    sys.argv = words[2:]
    code = 0
    try:
        runpy.run_module(words[2], run_name="__main__", alter_sys=False)
    except SystemExit as end:
        code = end.code or 0
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    print(f"{mark} {code} {name}", flush=True)
"""
"""Runs them one after the other: each program anew would load the same for a second or more."""


@pytest.fixture(scope="module", params=["plain", "terminal"])
def said(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str]]:
    """Run every way, on a terminal or without; gives exit code and all that was said."""
    folder = tmp_path_factory.mktemp("ways")
    for name, way in WAYS.items():
        (folder / name).mkdir()
        for file, content in way.files.items():
            (folder / name / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    told = {name: (way.command, dict(way.environment)) for name, way in WAYS.items()}
    (folder / "ways.json").write_text(json.dumps(told))
    mark = "-- end of"
    command = [sys.executable, "-c", ALL_OF_THEM, mark, str(folder)]
    environment = _environment(Way([], 0))
    if request.param == "plain":
        # Standard error among standard output, so that each way has its own.
        command = ["/bin/sh", "-c", 'exec "$@" 2>&1', "sh", *command]
        _, text, _ = run_plain(command, {**environment, "LOG_FORMAT": "text"}, folder)
    else:
        _, text = run_on_terminal(command, environment, folder)
    found: dict[str, tuple[int, str]] = {}
    so_far: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.startswith(mark):
            code, _, name = line.removeprefix(f"{mark} ").partition(" ")
            found[name] = (int(code), "\n".join(so_far))
            so_far = []
        else:
            so_far.append(line)
    assert found.keys() == WAYS.keys(), text[-2000:]
    return found


@pytest.mark.parametrize("name", WAYS)
def test_a_text_of_others_is_shown_and_does_nothing(name: str, said: dict[str, tuple[int, str]]) -> None:
    """It ends as it is told to, says something, and all that it says is harmless."""
    code, text = said[name]
    assert text.strip()
    assert faults(text) == []
    assert code == WAYS[name].code, text


@pytest.mark.parametrize("name", ["a setting of a consumer", "a column", "a value of a producer"])
def test_a_log_line_of_it_is_json(name: str, tmp_path: Path) -> None:
    """Without a terminal the services say it in the log's form."""
    way = WAYS[name]
    for file, content in way.files.items():
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    code, out, err = run_plain(way.command, _environment(way), tmp_path)
    assert code == way.code
    lines = [json.loads(line) for line in (out + err).splitlines()]
    assert lines[-1]["levelname"] == "CRITICAL"
    assert unsafe_characters(out + err) == []
    assert HIDE_ME not in json.dumps(lines)


FIELDS = [
    b"device_id",
    HOSTILE.encode(),
    HOSTILE.encode(),
    b"1",
    f"{HOSTILE}\0".encode(),
    b"\xff\x1b[31m",
    b"\xff\x9b",
    b"x",
]


@pytest.mark.parametrize("where", ["plain", "terminal"])
@pytest.mark.parametrize("command", [["dlq", "show", "1-1"], ["dlq", "list"]])
def test_a_dead_letter_is_shown_and_does_nothing(command: list[str], where: str, tmp_path: Path) -> None:
    """Names of fields as well as values; those that are no text too."""
    letters = DeadLetterFile(tmp_path / "data" / "dlq.jsonl", lambda: 1.0, HOSTILE)
    letters.put([Dead(Entry(b"1-1", FIELDS), Rejection("decode", "unknown_field", HOSTILE))])
    environment = _environment(Way([], 0))
    if where == "plain":
        code, said, err = run_plain([*OPS, *command], environment, tmp_path)
        assert faults(err) == []
    else:
        code, said = run_on_terminal([*OPS, *command], environment, tmp_path)
    assert code == 0
    assert faults(said) == []
    code, out, _ = run_plain([*OPS, *command, "--json"], environment, tmp_path)
    assert code == 0
    assert unsafe_characters(out) == []
    assert ["device_id", HOSTILE] in json.loads(out)["event"]  # data is left as it is


class _Refusing(socketserver.ThreadingTCPServer):
    """A server that answers every command with an error of its own words."""

    allow_reuse_address = True
    daemon_threads = True


class _Error(socketserver.BaseRequestHandler):
    reply = f"-ERR {ON_ONE_LINE} {'A' * 300}\r\n"

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while asked := self.request.recv(65536):
                self.request.sendall(self.reply.encode() * (asked.count(b"\r\n*") + asked.startswith(b"*")))


@pytest.fixture
def refusing() -> Iterator[int]:
    """Give the port of a server that refuses."""
    with _Refusing(("127.0.0.1", 0), _Error) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("where", ["plain", "terminal", "json"])
@pytest.mark.parametrize("command", [["audit"], ["status"], ["groups"]])
def test_what_a_server_says_does_nothing(
    command: list[str], where: str, refusing: int, tmp_path: Path
) -> None:
    """Its errors are told, without what they hold of secrets."""
    environment = {**_environment(Way([], 0)), "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(refusing)}
    words = [*OPS, *command, *(["--json"] if where == "json" else [])]
    if where == "terminal":
        code, said = run_on_terminal(words, environment, tmp_path)
    else:
        code, out, err = run_plain(words, environment, tmp_path)
        said = out + err
        if where == "json" and out:
            json.loads(out)
    assert code == 2
    assert faults(said) == []
    assert "AAA" in said


def test_a_file_s_name_is_no_markup_beside_the_bar(tmp_path: Path) -> None:
    """The producer shows on a terminal how far it is."""
    path = tmp_path / f"[|bold][red]{NAME}.csv"
    path.write_bytes(b"x" * 100)
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from services.producer.files import progress\n"
        "with progress.shown(Path(sys.argv[1])) as show:\n"
        "    show(10); time.sleep(0.3)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    code, said = run_on_terminal(command, _environment(Way([], 0)), tmp_path)
    assert code == 0
    assert "[|bold][red]" in said
    # The bar itself moves the cursor: what is of the name does not.
    assert not any(one in said for one in ("\x1b]0", "\x9b", "\u202e", "\u200b", "\x07"))


@pytest.mark.parametrize(
    "reply", [":1\r\n", "$-1\r\n", "*0\r\n", "+OK\r\n", "*1\r\n*1\r\n:1\r\n", "\x1b[31m\r\n"]
)
@pytest.mark.parametrize("command", [["audit"], ["status"], ["groups"]])
def test_what_is_no_server_of_ours_is_one_line(
    command: list[str], reply: str, refusing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever listens there: it is refused, and no traceback ends the command."""
    monkeypatch.setattr(_Error, "reply", reply)
    environment = {**_environment(Way([], 0)), "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(refusing)}
    code, out, err = run_plain([*OPS, *command], environment, tmp_path)
    assert code == 2
    assert faults(out + err) == []
    assert err.count("\n") == 1
