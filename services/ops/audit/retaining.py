"""Dropping the days that RETAIN_DAYS says, behind an audit: as far as what is stored of them is proven.

What is dropped does not come back, and our clock may be wrong. So a day goes when it is too old by the clock
of the broker and by that of the store as well.
"""

import datetime as dt
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.brokers.choice import operator_side
from services.brokers.operating.side import OperatorSide
from services.contract.consuming.retention import DAY_MS, Retention, Step, Waits
from services.contract.errors import PipelineError, SinkAbsent
from services.contract.ids import text_of
from services.ops.audit.result import Audit
from services.runtime.settings import ConsumerSettings
from services.stores.choice import store_of

_SET: Final = "set the one that is wrong"
_NO_CLOCK: Final = (
    "no clock but ours can be asked, and that may be wrong: allow this user of the broker to ask for its "
    "time (Redis: +time)"
)
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


class Told(NamedTuple):
    """What another clock than ours says."""

    whose: str
    at: float
    """In Unix seconds."""


def clocks_of(settings: ConsumerSettings, broker: OperatorSide, retention: Retention) -> list[Told]:
    """Ask the broker and the store for their time. Raises BrokerUnavailable and SinkUnavailable."""
    asked = ((broker.place, broker.now()), (store_of(settings).place, retention.now()))
    return [Told(whose, at) for whose, at in asked if at is not None]


def retain(
    settings: ConsumerSettings,
    result: Audit,
    now: Callable[[], float] = time.time,
    clocks: Callable[[ConsumerSettings, OperatorSide, Retention], Sequence[Told]] = clocks_of,
) -> Retained | None:
    """Drop what is older than RETAIN_DAYS, after an audit; None where that is 0. `now` in Unix seconds.

    `clocks` asks those that are not ours: nothing goes that is younger by one of them, or if there is none.
    """
    if settings.retain_days == 0:
        return None
    ours = now()
    due = first = _first_day(settings, ours)
    done = Retained(before=_name(first))
    why = ""
    try:
        with closing(operator_side(settings)) as broker:
            retention = store_of(settings).open_retention()
            if told := clocks(settings, broker, retention):
                other = min(told, key=lambda one: one.at)
                first = min(due, _first_day(settings, other.at))
                done.before = _name(first)
                for one in retention.drop(first * DAY_MS, PublishedAgain(broker, result)):
                    if isinstance(one, Step):
                        done.rows += one.rows
                        done.days += one.day is not None
                    else:
                        _wait(done, one, settings, now())
                if first < due and ours - other.at > settings.max_future_s:
                    why = f"our clock is {ours - other.at:,.0f} s ahead of that of {other.whose}: {_SET}"
            else:
                why = _NO_CLOCK
            if why and not done.waits and (day := retention.oldest_day(due * DAY_MS)) is not None:
                _wait(done, Waits(day, why), settings, ours)
    except SinkAbsent:
        return done
    except PipelineError as error:  # what is dropped is dropped, and the rest is for the next time
        done.waits = str(error)
    return done


def _first_day(settings: ConsumerSettings, now: float) -> int:
    """Tell the first day that stays at a time, since 1970."""
    return int(max(0.0, now) * 1000) // DAY_MS - settings.retain_days


def _wait(done: Retained, one: Waits, settings: ConsumerSettings, now: float) -> None:
    done.waits, done.waiting_day = one.why, _name(one.day)
    due_s = (one.day + 1 + settings.retain_days) * DAY_MS / 1000
    done.waiting_seconds = max(0, int(now - due_s))


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
                    self._ids.update(map(text_of, raw))
                    at += len(raw)
            self._read[record.run] = at
        return self._ids


def _name(day: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()
