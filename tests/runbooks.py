"""What the runbooks tell people to type."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

RUNBOOKS: Final = Path(__file__).parents[1] / "docs" / "runbooks"


def _lines(language: str) -> Iterator[str]:
    for file in sorted(RUNBOOKS.glob("*.md")):
        for block in re.findall(rf"```{language}\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL):
            yield from (line.strip() for line in block.splitlines() if line.strip())


def queries() -> list[str]:
    """Give every query, once."""
    return sorted(set(_lines("promql")))


def shell_commands() -> list[list[str]]:
    """Give every command of a block, once, for the release `demo`."""
    return [words for line in sorted(set(_lines("sh"))) if (words := shlex.split(line))]


def telemetry_commands() -> list[list[str]]:
    """Give every `telemetry` command, in a block or within the text, without that word."""
    text = "".join(file.read_text(encoding="utf-8") for file in sorted(RUNBOOKS.glob("*.md")))
    found = set(re.findall(r"(?:`|-- )telemetry ([a-z][^`\n]*)", text))
    return [command.split() for command in sorted(found)]
