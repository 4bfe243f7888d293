"""Pages of the docs whose commands are typed on the cluster, in a folder that is like a clone."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
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
    charts, config, said = folder / "charts", folder / "kubeconfig", folder / "said"
    if not charts.exists():
        charts.symlink_to(ROOT / "charts")
    config.write_text(run("kubectl", "config", "view", "--raw", "--flatten"), encoding="utf-8")
    named = f"kubectl config set-context --current --namespace={namespace.name} > context.log"
    # The cluster and the images are there, and stay.
    there = "make() { :; }\nkind() { :; }"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
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
        code = shell.wait(5 * PATIENCE_S)
        text = said.read_text(encoding="utf-8")
        assert code == 0, text[-6000:]
        yield text
    finally:
        with suppress(ProcessLookupError):  # nothing is left
            os.killpg(shell.pid, signal.SIGKILL)  # a port that is forwarded, say
