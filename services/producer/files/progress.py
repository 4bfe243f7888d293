"""A progress bar on a terminal, where rich is installed; nothing otherwise."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.runtime import screen


@contextmanager
def shown(path: Path | None) -> Iterator[Callable[[int], None]]:
    """Show how many bytes of a file are published; the function given takes that number."""
    bar = None if path is None or not screen.remarks_on_terminal() else _bar()
    if bar is None or path is None:
        yield lambda _: None
        return
    with bar:
        task = bar.add_task(screen.shown(path.name), total=path.stat().st_size)
        yield lambda offset: bar.update(task, completed=offset)


def _bar() -> Any:
    try:
        rich_progress = importlib.import_module("rich.progress")
        console = importlib.import_module("rich.console").Console(stderr=True)
    except ImportError:
        return None
    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),  # a file's name is no markup
        rich_progress.BarColumn(),
        rich_progress.TaskProgressColumn(),
        rich_progress.TimeRemainingColumn(),
        console=console,
        transient=True,
    )
