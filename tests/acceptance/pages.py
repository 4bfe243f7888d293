"""Pages of the docs whose commands are run as they stand."""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from acceptance.rig import ROOT, Rig


def blocks_of(page: str) -> list[str]:
    """Give the commands of a page in docs."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```sh\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def block_with(page: str, text: str) -> str:
    """Give the commands of the one block of a page that has a text; of a transcript, what was typed."""
    whole = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (block,) = (
        body for body in re.findall(r"^```\w*\n(.*?)^```$", whole, re.DOTALL | re.MULTILINE) if text in body
    )
    return "".join(re.findall(r"^\$ (.*\n)", block, re.MULTILINE)) or str(block)


def run_blocks(rig: Rig, blocks: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run commands in one shell, in the rig's folder; it ends where one of them fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(blocks)],
        cwd=rig.folder,
        env={**os.environ, **rig.environment, "PYTHONPATH": str(ROOT), "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
