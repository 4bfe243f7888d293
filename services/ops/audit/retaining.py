"""Dropping the days that RETAIN_DAYS says, behind an audit: as far as what is stored of them is proven."""

import datetime as dt
import time
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from services.brokers.choice import operator_side
from services.brokers.operating.side import OperatorSide
from services.contract.consuming.retention import DAY_MS, Step
from services.contract.errors import PipelineError, SinkAbsent
from services.ops.audit.result import Audit
from services.runtime.settings import ConsumerSettings
from services.stores.choice import store_of

_IDS_A_CHUNK: Final = 10_000


@dataclass(slots=True)
class Retained:
    """What became of the days that are older than RETAIN_DAYS."""

    rows: int = 0
    """Which were dropped."""
    days: int = 0
    """Whole ones that were."""
    before: str = ""
    """The first day that stays, as far as its age goes."""
    waits: str = ""
    """Why a day has to wait; empty where none has."""
    waiting_day: str = ""
    """The oldest one that has to."""
    waiting_seconds: int = 0
    """For how long that one is too old."""

    def line(self) -> str:
        """Say it in one line."""
        told = f"retention: dropped rows={self.rows} days={self.days} before={self.before}"
        return f"{told}; {self.waiting_day or 'the rest'} waits: {self.waits}" if self.waits else told


def retain(
    settings: ConsumerSettings, result: Audit, now: Callable[[], float] = time.time
) -> Retained | None:
    """Drop what is older than RETAIN_DAYS, after an audit; None where that is 0. `now` in Unix seconds."""
    if settings.retain_days == 0:
        return None
    before_ms = (int(now() * 1000) - settings.retain_days * DAY_MS) // DAY_MS * DAY_MS
    done = Retained(before=_name(before_ms // DAY_MS))
    try:
        with closing(operator_side(settings)) as broker:
            again = PublishedAgain(broker, result)
            for one in store_of(settings).open_retention().drop(before_ms, again):
                if isinstance(one, Step):
                    done.rows += one.rows
                    done.days += one.day is not None
                    continue
                done.waits, done.waiting_day = one.why, _name(one.day)
                due_s = (one.day + 1 + settings.retain_days) * DAY_MS / 1000
                done.waiting_seconds = max(0, int(now() - due_s))
    except SinkAbsent:
        return done
    except PipelineError as error:  # what is dropped is dropped, and the rest is for the next time
        done.waits = str(error)
    return done


class PublishedAgain:
    """The ids that runs have published and not numbered, and that no audit before has looked at.

    An id that comes again is no further event as long as its row is there. Rows go, so those are remembered.
    """

    def __init__(self, broker: OperatorSide, result: Audit) -> None:
        self._broker = broker
        proven = {**result.known.runs, **{one.run: one for one in result.proof.runs}}
        self._chunk = {name: one.chunk for name, one in proven.items()}
        self._read = {name: one.ids for name, one in proven.items()}
        self._ids: set[str] = set()

    def __call__(self) -> Collection[str]:
        """Give them, with those that came since it was asked last. Raises BrokerUnavailable."""
        for record in self._broker.records().runs:
            at = self._read.get(record.run, 0)
            if record.foreign <= at:
                continue
            for chunk in self._broker.id_chunks(record, self._chunk.get(record.run, 0)):
                end = min(chunk.start + chunk.ids, record.foreign)
                at = max(at, chunk.start)
                while at < end:
                    raw = self._broker.foreign_ids(
                        record, chunk, at - chunk.start, min(_IDS_A_CHUNK, end - at)
                    )
                    if not raw:
                        break
                    self._ids.update(str(UUID(bytes=one)) for one in raw)
                    at += len(raw)
            self._read[record.run] = max(at, self._read.get(record.run, 0))
        return self._ids


def _name(day: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()
