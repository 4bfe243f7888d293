"""`make dev` as a person uses it; docker, kind, helm and kubectl are stand-ins that note their arguments."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from servers import eventually

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 60.0

STAND_IN: Final = """#!/usr/bin/env bash
echo "${0##*/} $*" >> "$CALLS"
if [ -e "$CALLS.fail-${0##*/}" ]; then echo "${0##*/} fails"; exit 1; fi
if [ "${0##*/} $1" = "kubectl logs" ]; then
    echo "$$" >> "$CALLS.tails"
    echo "[pod/one] a line"
    exec sleep 600
fi
"""


class Loop:
    """A copy of what the loop works on, and the loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("services", "charts", "requirements", "k8s", "bin"):
            (folder / name).mkdir()
        (folder / "services" / "__init__.py").write_text('__version__ = "1.2.3"\n', encoding="utf-8")
        (folder / "charts" / "values.yaml").write_text("a: 1\n", encoding="utf-8")
        for name in (
            "Makefile",
            "Dockerfile.producer",
            "Dockerfile.consumer",
            ".dockerignore",
            "LICENSE",
            "k8s/dev.sh",
        ):
            shutil.copy(ROOT / name, folder / name)
        for tool in ("docker", "kind", "helm", "kubectl"):
            (folder / "bin" / tool).write_text(STAND_IN, encoding="utf-8")
            (folder / "bin" / tool).chmod(0o755)
        self._calls = folder / "calls"
        self._calls.touch()
        self._output = folder / "output"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(self._calls),
            "POLL_S": "0.1",
        }
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                ["make", "dev", "NAMESPACE=mine"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def calls(self) -> list[str]:
        """What the tools were asked to do, one line a call; not what they were asked about themselves."""
        return [
            call
            for call in self._calls.read_text(encoding="utf-8").splitlines()
            if not call.endswith("--help")
        ]

    @property
    def output(self) -> str:
        """What a person sees."""
        return self._output.read_text(encoding="utf-8")

    def wait_for_tails(self, number: int) -> list[str]:
        """Wait until the logs are followed for the nth time, and give the calls up to then."""

        def followed() -> list[str]:
            calls = self.calls
            return calls if sum(call.startswith("kubectl logs") for call in calls) == number else []

        return eventually(followed, PATIENCE_S, f"{number} times logs: {self.output}")  # type: ignore[no-any-return]

    def fail(self, tool: str, *, on: bool) -> None:
        """Have a tool fail from now on, or work again."""
        mark = Path(f"{self._calls}.fail-{tool}")
        mark.touch() if on else mark.unlink()

    def tails_alive(self) -> list[int]:
        """Give the processes that follow logs."""
        pids = [int(line) for line in Path(f"{self._calls}.tails").read_text(encoding="utf-8").split()]
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    def stop(self) -> None:
        """Press Ctrl-C: every process of the terminal gets it."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(PATIENCE_S)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    """Give a loop that runs; it ends with the test."""
    if missing := [tool for tool in ("bash", "git", "make") if shutil.which(tool) is None]:
        pytest.skip(f"no {missing[0]} on this machine")
    one = Loop(tmp_path)
    yield one
    if one.process.poll() is None:
        one.stop()


def _steps(calls: list[str]) -> list[str]:
    """Shorten the calls to what is done to what."""
    return [" ".join(call.split()[:2]) for call in calls]


def _tag(calls: list[str]) -> str:
    """Give the tag that was deployed last, of both images."""
    call = [call for call in calls if call.startswith("helm upgrade")][-1]
    tags = re.findall(r"--set-string (?:producer|consumer)\.image\.tag=(\S+)", call)
    assert len(tags) == 2
    (tag,) = set(tags)
    return str(tag)


ROUND: Final = ["docker build", "docker build", "kind load", "kind load", "helm upgrade", "kubectl logs"]


def test_a_change_of_the_code_is_built_loaded_deployed_and_followed(loop: Loop) -> None:
    """By a tag that follows from the content, so that the pods are replaced."""
    calls = loop.wait_for_tails(1)
    assert _steps(calls) == ROUND
    assert all("--namespace mine" in call for call in calls if call.startswith(("helm", "kubectl")))
    first = _tag(calls)
    assert f"--tag telemetry-consumer:{first} --tag telemetry-consumer:1.2.3" in calls[1]
    assert calls[3] == f"kind load docker-image --name telemetry telemetry-consumer:{first}"
    (loop.folder / "services" / "new.py").write_text("x = 1\n", encoding="utf-8")
    calls = loop.wait_for_tails(2)
    assert _steps(calls) == ROUND * 2
    assert _tag(calls) != first
    (loop.folder / "services" / "new.py").unlink()
    assert _tag(loop.wait_for_tails(3)) == first
    assert len(loop.tails_alive()) == 1


def test_a_change_of_the_chart_is_deployed_without_a_build(loop: Loop) -> None:
    """With the images that are there."""
    first = _tag(loop.wait_for_tails(1))
    (loop.folder / "charts" / "values.yaml").write_text("a: 2\n", encoding="utf-8")
    calls = loop.wait_for_tails(2)
    assert _steps(calls) == [*ROUND, "helm upgrade", "kubectl logs"]
    assert _tag(calls) == first


@pytest.mark.parametrize("tool", ["docker", "kind", "helm"])
def test_a_step_that_fails_is_tried_again_at_the_next_change(loop: Loop, tool: str) -> None:
    """What runs meanwhile is followed; nothing is deployed that was not built and loaded."""
    loop.wait_for_tails(1)
    loop.fail(tool, on=True)
    (loop.folder / "services" / "new.py").write_text("x = (\n", encoding="utf-8")
    calls = loop.wait_for_tails(2)
    assert "that failed" in loop.output
    assert calls[-2].startswith(tool)
    loop.fail(tool, on=False)
    (loop.folder / "services" / "new.py").write_text("x = 1\n", encoding="utf-8")
    assert _steps(loop.wait_for_tails(3))[-6:] == ROUND


def test_ctrl_c_ends_it_and_leaves_no_process(loop: Loop) -> None:
    """While logs are followed."""
    loop.wait_for_tails(1)
    eventually(lambda: "a line" in loop.output, PATIENCE_S, "logs are shown")
    loop.stop()
    assert loop.tails_alive() == []
    assert "stopped; what is deployed stays" in loop.output
