"""Pages of the docs whose commands are typed on the cluster, in a folder that is like a clone."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e.cluster import PATIENCE_S, ROOT, Namespace, run


def blocks_of(page: str, heading: str) -> list[str]:
    """Give the commands that stand below a heading of a page in docs, up to the next heading."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.search(
        rf"^{re.escape(heading)}\n(.*?)(?=^#)", f"{_without_comments(text)}\n# ", re.DOTALL | re.MULTILINE
    )
    assert section is not None, f"{page} has no {heading}"
    return re.findall(r"^```\n(.*?)^```$", section[1], re.DOTALL | re.MULTILINE)


def block_of(page: str, heading: str, text: str) -> str:
    """Give the commands of the one block below a heading that has a text; of a transcript, what was typed."""
    (block,) = (one for one in blocks_of(page, heading) if text in one)
    return "\n".join(_typed_in(block)) + "\n" if block.startswith("$ ") else block


def _typed_in(transcript: str) -> Iterator[str]:
    """Give each command of a transcript, with the lines that it goes on for."""
    lines = iter(transcript.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line.removeprefix("$ ")
            while not _is_whole(command):
                command += f"\n{next(lines)}"
            yield command


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:  # a quotation goes on, or the line
        return False
    return not command.endswith("|")


def with_own(commands: str, own: Mapping[str, str]) -> str:
    """Put what each reader has of one's own in the place of what the page has, which has to be there once."""
    for theirs, ours in own.items():
        assert commands.count(theirs) == 1, f"{theirs} is in it {commands.count(theirs)} times: {commands}"
        commands = commands.replace(theirs, ours)
    return commands


def _without_comments(text: str) -> str:
    # Within a block a line that begins with # is no heading.
    return re.sub(
        r"^```\w*\n.*?^```$",
        lambda block: block[0].replace("\n#", "\n #"),
        text,
        flags=re.DOTALL | re.MULTILINE,
    )


@contextmanager
def typed(namespace: Namespace, folder: Path, commands: str) -> Iterator[str]:
    """Type commands, each of which has to end well; gives what they say. What is left running ends then."""
    config, said, programs = folder / "kubeconfig", folder / "said", folder / "programs"
    helm = shutil.which(namespace.helm_program)
    assert helm is not None
    programs.mkdir(exist_ok=True)
    for link, target in (("charts", ROOT / "charts"), ("k8s", ROOT / "k8s"), ("programs/helm", Path(helm))):
        if not (folder / link).exists():
            (folder / link).symlink_to(target)
    config.write_text(run("kubectl", "config", "view", "--raw", "--flatten"), encoding="utf-8")
    named = f"kubectl config set-context --current --namespace={namespace.name} > context.log"
    # The cluster and the images are there, and stay.
    there = "make() { :; }\nkind() { :; }\nminikube() { :; }"
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    with said.open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-c", f"set -euo pipefail\n{named}\n{there}\n{commands}"],
            cwd=folder,
            env={**os.environ, "KUBECONFIG": str(config), "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        with suppress(subprocess.TimeoutExpired):
            shell.wait(5 * PATIENCE_S)
        text = said.read_text(encoding="utf-8")
        assert shell.poll() == 0, f"{_ended(shell.returncode)}:\n{text[-6000:]}"
        yield text
    finally:
        with suppress(ProcessLookupError):  # nothing is left
            os.killpg(shell.pid, signal.SIGKILL)  # a port that is forwarded, say
        shell.wait()


def _ended(code: int | None) -> str:
    return f"not within {5 * PATIENCE_S:g} s" if code is None else f"it ended with {code}"
