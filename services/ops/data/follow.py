"""Events as they are stored, until Ctrl-C."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from services.contract.ids import id_from, time_of
from services.stores.rows import RowFilter, Rows, StoredRow

LOOK_S: Final = 1.0
"""Between two looks."""
WINDOW_S: Final = 10.0
"""How far behind the newest id one may be stored and is still shown: ids tell when events were published."""


def follow(
    rows: Rows, asked: RowFilter, limit: int, pause: Callable[[], None] = lambda: time.sleep(LOOK_S)
) -> Iterator[StoredRow]:
    """Give the newest `limit` events, the oldest of them first, and then each that is stored."""
    last = list(rows.events(asked, limit)) if limit else []
    yield from reversed(last)
    seen = {row.event_id for row in _recent(rows, asked)}
    while True:
        pause()
        recent = list(_recent(rows, asked))
        yield from (row for row in reversed(recent) if row.event_id not in seen)
        seen = {row.event_id for row in recent}


def _recent(rows: Rows, asked: RowFilter) -> Iterator[StoredRow]:
    """Give what is asked for of the last seconds before the newest id, the newest first."""
    newest = next(rows.events(limit=1), None)
    if newest is None:
        return iter(())
    first_ms = max(0, time_of(newest.event_id) - int(WINDOW_S * 1000))
    return rows.events(replace(asked, first_id=id_from(first_ms)))
