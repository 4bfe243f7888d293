"""Pages that lead from nothing to there: all of their commands are run, in one shell and in their order.

They are docs/tutorial and docs/how-to.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from acceptance.pages import block_with, blocks_of, run_blocks
from acceptance.rig import PATIENCE_S, ROOT, Rig
from acceptance.test_run import Laptop
from observability import Receiver
from servers import eventually

_PIP: Final = f"""#!{sys.executable}
# pip install --target FOLDER SOURCE, for a package of pure Python and an environment without pip
import os, sys, tempfile, zipfile
from setuptools import build_meta
install, option, target, source = sys.argv[1:]
assert (install, option) == ("install", "--target")
target = os.path.abspath(target)
os.chdir(source)
with tempfile.TemporaryDirectory() as built:
    wheel = build_meta.build_wheel(built)
    zipfile.ZipFile(os.path.join(built, wheel)).extractall(target)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Laptop]:
    """Give a folder that is like a clone of the repository after a first `make run`."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("Makefile", "examples", "pyproject.toml", "requirements", "services"):
        (folder / name).symlink_to(ROOT / name)
    # The environment of this test, with stamps by which make installs nothing into it.
    environment = folder / ".venv"
    environment.mkdir()
    stamps = {"ready", "runs"}
    for path in Path(sys.prefix).iterdir():
        if path.name not in stamps:
            (environment / path.name).symlink_to(path)
    for name in stamps:
        (environment / name).touch()
    (tmp_path / "bin").mkdir()
    pip = tmp_path / "bin" / "pip"
    pip.write_text(_PIP, encoding="utf-8")
    pip.chmod(0o755)
    one = Laptop(folder)
    yield one
    one.close()


def typed(clone: Laptop, page: str) -> str:
    """Type all commands of a page; each has to end well. Gives what they say."""
    found = blocks_of(page)
    assert found
    return typed_blocks(clone, found)


def typed_blocks(clone: Laptop, found: Sequence[str]) -> str:
    """Type commands in one shell; each has to end well. Gives what they say."""
    kept = {name: os.environ[name] for name in ("LANG", "COVERAGE_PROCESS_START") if name in os.environ}
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(found)],
        cwd=clone.folder,
        env={
            **kept,
            "HOME": str(clone.folder.parent),
            "PATH": f"{clone.folder.parent}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATA_DIR": str(
                clone.data
            ),  # as it is without it, and named, so that what is left running is found
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def readings(clone: Laptop) -> set[tuple[str, str, float]]:
    """Give what is stored, without ids and times."""
    return {(row.device_id, row.kpi, row.value) for row in clone.rows()}


def test_the_first_pipeline(clone: Laptop) -> None:
    """A consumer is killed in it, and nothing is missing."""
    if shutil.which("pgrep") is None:
        pytest.skip("no pgrep here, which finds the consumer that is killed")
    said = typed(clone, "tutorial/first-pipeline.md")
    assert said.count("missing=0") == 2
    assert "humidity" in said
    assert "Main figures" in said


def test_own_data(clone: Laptop) -> None:
    """The reading that was wrong is stored in the end."""
    said = typed(clone, "tutorial/own-data.md")
    first, *_, last = [line for line in said.splitlines() if line.startswith("audit: ")]
    assert "stored=10 dead=1 " in first
    assert "dead=0 " in last
    assert "missing=0" in last
    assert ("shed-2", "temperature", 15.3) in readings(clone)
    assert ("shed-1", "humidity", 70.5) in readings(clone)


def test_own_step(clone: Laptop) -> None:
    """Tried, installed, and run by a consumer."""
    said = typed(clone, "tutorial/own-step.md")
    assert "value 14.5 -> 12.0" in said
    assert readings(clone) == {("shed-1", "temperature", 12.0), ("shed-2", "temperature", 15.1)}
    assert "shed-9 is broken" in said
    assert "stored=2 dead=1 " in said


def test_an_event_that_went_wrong(clone: Laptop) -> None:
    """Found, mended, stored; and its letter is removed."""
    said = typed(clone, "how-to/poison-event.md")
    assert readings(clone) == {("cellar-1", "humidity", 44.0), ("cellar-1", "humidity", 45.0)}
    assert "purged 1" in said
    assert (clone.data / "dlq.jsonl").read_text(encoding="utf-8") == ""


def test_a_wrong_deploy(clone: Laptop) -> None:
    """What wrong rules have refused is stored by the right ones."""
    said = typed(clone, "how-to/wrong-deploy.md")
    first, *_, last = [line for line in said.splitlines() if line.startswith("audit: ")]
    assert "stored=1 dead=2 " in first
    assert "stored=3 dead=0 " in last
    assert {value for _, _, value in readings(clone)} == {61.5, 58.0, 44.0}
    assert said.count("no dead letter to replay") == 2  # of a producer that was wrong: none was, here


def test_scaling(clone: Laptop) -> None:
    """Several consumers, and larger batches."""
    said = typed(clone, "how-to/scaling.md")
    assert "of 1 producer and 3 consumers" in said
    assert "missing=0" in said


def test_an_upgrade(rig: Rig) -> None:
    """Before and after it: all is well with a pipeline that runs."""
    rig.consumer()
    rig.publisher(seed=1).mix(50).send()
    done = run_blocks(rig, blocks_of("how-to/upgrade.md"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("missing=0") == 2


@pytest.mark.parametrize("page", ["how-to/scaling.md", "observe.md"])
def test_the_status_is_watched_until_ctrl_c(rig: Rig, page: str) -> None:
    """Beside a pipeline that runs; it ends well."""
    rig.start("run", [*rig.python, "-m", "services.ops", "run", "--duration", "0", "--rate", "200"], {})
    eventually(rig.settings.database.exists, PATIENCE_S, "the first rows")
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    watching = rig.start("watch", ["bash", "-c", f"exec {block_with(page, 'status --watch')}"], path)
    eventually(lambda: "stored" in watching.text, PATIENCE_S, "the figures")
    watching.signal(signal.SIGINT)
    assert watching.wait() == 0, watching.text


@pytest.mark.parametrize(
    ("page", "text", "logs"),
    [("observe.md", "OTEL_LOGS_EXPORTER", True), ("tracing.md", "OTEL_EXPORTER_OTLP_ENDPOINT", False)],
)
def test_one_line_sends_traces_to_a_collector(clone: Laptop, page: str, text: str, *, logs: bool) -> None:
    """But for its port, which another program of this machine may have; the logs too, if the line says so."""
    command = block_with(page, text)
    with Receiver() as collector:
        assert command.count("127.0.0.1:4318") == 1
        said = typed_blocks(clone, [command.replace("127.0.0.1:4318", f"127.0.0.1:{collector.port}")])
    assert "missing=0" in said
    sent = b"".join(collector.bodies)
    assert b"send telemetry_stream" in sent
    assert b"process telemetry_stream" in sent
    assert (b"consumer_started" in sent) == logs
