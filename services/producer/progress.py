"""A progress bar on a terminal, where rich is installed; nothing otherwise."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def shown(path: Path | None) -> Iterator[Callable[[int], None]]:
    """Show how many bytes of a file are published; the function given takes that number."""
    bar = None if path is None or not sys.stderr.isatty() else _bar()
    if bar is None or path is None:
        yield lambda _: None
        return
    with bar:
        task = bar.add_task(path.name, total=path.stat().st_size)
        yield lambda offset: bar.update(task, completed=offset)


def _bar() -> Any:
    try:
        rich_progress = importlib.import_module("rich.progress")
        console = importlib.import_module("rich.console").Console(stderr=True)
    except ImportError:
        return None
    return rich_progress.Progress(console=console, transient=True)
