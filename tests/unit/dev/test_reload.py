"""The reloader of the development images, with real processes and real files."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import eventually

PATIENCE_S = 30.0

SERVICE = """
import signal, sys, time
def stop(number, _):
    print(f"{VERSION} stopped by {signal.Signals(number).name}", flush=True)
    sys.exit(STOPPED)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
print(f"{VERSION} started", *sys.argv[1:], flush=True)
while True:
    time.sleep(0.01)
"""


ROOT = Path(__file__).parents[3]

RELOAD = """
import sys
from pathlib import Path
from services.dev.reload import Reloader
sys.exit(Reloader([sys.executable, "-m", "one", *sys.argv[1:]], Path.cwd()).run())
"""


class Site:
    """A folder with a service of the test's own, and a reloader that watches it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service = folder / "one.py"
        self.output = folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, version: str, code: str = SERVICE, stopped: int = 0) -> None:
        """Write the service's code as a sync does: a new file in the place of the old one."""
        fresh = self.service.with_suffix(".new")
        fresh.write_text(f"VERSION = {version!r}\nSTOPPED = {stopped}\n{code}", encoding="utf-8")
        fresh.replace(self.service)

    def start(self, *arguments: str, command: tuple[str, ...] = ("-c", RELOAD)) -> None:
        """Start the reloader."""
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command, *arguments],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=output,
                stderr=output,
            )

    def says(self, line: str) -> None:
        """Wait for a line of the service's."""
        eventually(lambda: line in self.lines, PATIENCE_S, f"{line!r} in {self.lines}")

    @property
    def lines(self) -> list[str]:
        """What was printed, by both."""
        return self.output.read_text(encoding="utf-8").splitlines()

    def changes(self) -> list[list[str]]:
        """Give the changes that the reloader logged, by their files."""
        own = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line["files"] for line in own if line["message"] == "code_changed"]

    def signal(self, number: signal.Signals) -> None:
        """Send the reloader a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def exit_code(self) -> int:
        """Wait for its end."""
        assert self.process is not None
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Give a place; what runs there ends with the test."""
    one = Site(tmp_path)
    yield one
    if one.process is not None and one.process.poll() is None:
        one.process.terminate()
        one.process.wait(PATIENCE_S)


def test_changed_code_runs_after_the_old_was_told_to_stop(site: Site) -> None:
    """By SIGTERM, with the same options, and as often as the code changes."""
    site.write("first")
    site.start("--option", "1")
    site.says("first started --option 1")
    site.write("second")
    site.says("second started --option 1")
    site.write("third")
    site.says("third started --option 1")
    told = [line for line in site.lines if "stopped" in line]
    assert told == ["first stopped by SIGTERM", "second stopped by SIGTERM"]
    assert site.changes() == [["one.py"], ["one.py"]]


@pytest.mark.parametrize("change", [lambda file: file.write_text("x = 1\n"), lambda file: file.unlink()])
def test_new_and_removed_files_in_any_folder_count(site: Site, change: Callable[[Path], object]) -> None:
    """Not only the module that is run."""
    deep = site.service.parent / "a" / "b" / "deep.py"
    deep.parent.mkdir(parents=True)
    deep.touch()
    site.write("only")
    site.start()
    site.says("only started")
    change(deep)
    eventually(lambda: site.lines.count("only started") == 2, PATIENCE_S, "a second start")
    assert site.changes() == [["a/b/deep.py"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_services_exit_code_is_given(
    site: Site, number: signal.Signals
) -> None:
    """As if the service ran alone."""
    site.write("only", stopped=7)
    site.start()
    site.says("only started")
    site.signal(number)
    assert site.exit_code() == 7
    assert f"only stopped by {number.name}" in site.lines
    assert site.lines.count("only started") == 1


def test_a_stop_during_a_restart_starts_nothing_more(site: Site) -> None:
    """The service takes its time to end; told to stop meanwhile, the reloader ends with it."""
    slow = SERVICE.replace("sys.exit(STOPPED)", "open('going', 'w'); time.sleep(2); sys.exit(STOPPED)")
    site.write("slow", slow, stopped=5)
    site.start()
    site.says("slow started")
    site.write("next")
    eventually((site.folder / "going").exists, PATIENCE_S, "the service was told to stop")
    site.signal(signal.SIGHUP)
    assert site.exit_code() in {5, 128 + signal.SIGHUP}
    assert "next started" not in site.lines


@pytest.mark.parametrize(("code", "expected"), [("raise SystemExit(3)", 3), ("", 0), ("import", 1)])
def test_a_service_that_ends_by_itself_ends_the_reloader(site: Site, code: str, expected: int) -> None:
    """Kubernetes decides what is next, as without a reloader."""
    site.write("only", code)
    site.start()
    assert site.exit_code() == expected


def test_a_service_that_a_signal_ends_gives_the_shells_code(site: Site) -> None:
    """128 and the number of the signal."""
    site.write("only", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    site.start()
    assert site.exit_code() == 137


def test_code_that_was_broken_by_a_change_is_mended_by_the_next(site: Site) -> None:
    """The container stays: another would have the image's code."""
    site.write("first")
    site.start()
    site.says("first started")
    site.write("broken", "def")
    eventually(lambda: "SyntaxError" in "\n".join(site.lines), PATIENCE_S, "the new code fails")
    site.write("third")
    site.says("third started")
    assert site.lines.count("third started") == 1


def test_the_command_runs_the_module_that_it_is_given(site: Site) -> None:
    """Here itself, which without a module says how it is used."""
    site.start("services.dev.reload", command=("-m", "services.dev.reload"))
    assert site.exit_code() == 2
    assert site.lines == ["usage: python -m services.dev.reload MODULE [OPTION ...]"]
