"""A page of the site with every command and its options, as `--help` shows them."""

from collections.abc import Iterator
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from services.ops.app import COMMANDS
from services.ops.lazy import load

PAGE: Final = "options.md"
_COLUMNS: Final = 100
_HEAD: Final = """# Every option

What `telemetry COMMAND --help` shows. [The command](commands.md) tells what each is for, and
[exit codes](exit-codes.md) how it ends.
"""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, PAGE, content=markdown()))
    return files


def markdown() -> str:
    """Write the page: a heading for each command, in the order of `telemetry --help`."""
    parts = [
        part for name, (target, _) in COMMANDS.items() for part in _help(f"telemetry {name}", load(target))
    ]
    return "\n".join((_HEAD, *parts))


def _help(name: str, command: Any) -> Iterator[str]:
    sizes = {"terminal_width": _COLUMNS, "max_content_width": _COLUMNS}
    context = command.make_context(name, [], resilient_parsing=True, **sizes)
    yield f"## {name}\n\n```text\n{context.get_help().strip()}\n```\n"
    for word, one in getattr(context.command, "commands", {}).items():
        yield from _help(f"{name} {word}", one)
