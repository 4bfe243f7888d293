"""Read a source by a mapping, and note what comes of it: without a broker, in bounded memory."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any, Final

from services.consumer.validate import check
from services.contract.event import Fields, Rejection
from services.contract.kpis import Kpis
from services.ops.inspect.beginning import Beginning, Held
from services.producer.files.account import Account
from services.producer.files.decode import decoded
from services.producer.files.lines import Bytes
from services.producer.files.opening import Wants, open_reader
from services.producer.mapping.mapped import Mapped
from services.producer.rows.resolve import resolver
from services.producer.spellings import NumberStyle, Spellings
from services.runtime.telemetry.metrics import Metrics

_FIRST: Final = 5
_MOST_SERIES: Final = 1000
_MOST_STEPS: Final = 1000
_A_GAP: Final = 3
"""Times the usual step."""
_MOST_KPIS: Final = 50
_ID: Final = "00000000-0000-4000-8000-000000000000"


@dataclass(slots=True)
class Span:
    """The values of a KPI."""

    count: int = 0
    least: float = float("inf")
    most: float = float("-inf")
    dead: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Trial:
    """What came of a source."""

    is_whole: bool
    account: Account = field(default_factory=Account)
    first: list[tuple[str, ...]] = field(default_factory=list)
    """device_id, zone, ts, kpi, value of the first events."""
    refused: list[tuple[int, str]] = field(default_factory=list)
    """The first of them: line and reason."""
    spans: dict[str, Span] = field(default_factory=dict)
    dead: Counter[str] = field(default_factory=Counter)
    """Events that the consumer would keep as dead letters, by reason."""
    why_dead: str = ""
    earliest: float | None = None
    latest: float | None = None
    back: int = 0
    """Times before the one before them, of the same device and KPI."""
    same: int = 0
    """Times that are the same as the one before."""
    step: float | None = None
    """Seconds that usually lie between two readings of a series."""
    gaps: int = 0
    longest_gap: tuple[float, float] | None = None
    """Seconds, and the time that it begins with."""
    twice: int = 0
    broken: str = ""
    _last: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _steps: list[tuple[float, float]] = field(default_factory=list)

    def add(self, _line: int, reason: str, _data: bytes, /) -> None:
        """Note a refusal."""
        if len(self.refused) < _FIRST:
            self.refused.append((_line, reason))

    def flush(self) -> None:
        """Nothing is kept elsewhere."""

    def note(self, texts: Sequence[str], kpis: Kpis, latest_ts: float) -> None:
        """Note an event: its device_id, zone, ts, kpi and value."""
        device_id, zone, ts_text, kpi, value_text = texts
        if len(self.first) < _FIRST:
            self.first.append((device_id, zone, ts_text, kpi, value_text))
        name = kpi if kpi in self.spans or len(self.spans) < _MOST_KPIS else "(others)"
        span = self.spans.setdefault(name, Span())
        span.count += 1
        value, ts = float(value_text), float(ts_text)
        span.least, span.most = min(span.least, value), max(span.most, value)
        found = check(Fields(_ID, device_id, zone, ts_text, kpi, value_text), kpis, latest_ts)
        if isinstance(found, Rejection):
            self.why_dead = self.why_dead or found.error
            self.dead[found.reason] += 1
            span.dead[found.reason] += 1
        self._time(ts, (device_id, zone, kpi))

    def _time(self, ts: float, series: tuple[str, str, str]) -> None:
        self.earliest = ts if self.earliest is None else min(ts, self.earliest)
        self.latest = ts if self.latest is None else max(ts, self.latest)
        before = self._last.get(series)
        if before is None and len(self._last) >= _MOST_SERIES:
            return
        self._last[series] = ts
        if before is None:
            return
        if ts < before:
            self.back += 1
        elif ts == before:
            self.same += 1
        elif self.step is not None:
            self._gap(ts - before, before)
        else:
            self._steps.append((ts - before, before))
            if len(self._steps) >= _MOST_STEPS:
                self.settle()

    def settle(self) -> None:
        """Take the usual step out of those so far."""
        if self.step is None and self._steps:
            self.step = median_low(step for step, _ in self._steps)
            for step, since in self._steps:
                self._gap(step, since)
            self._steps.clear()

    def _gap(self, step: float, since: float) -> None:
        if self.step is not None and step > _A_GAP * self.step:
            self.gaps += 1
            if self.longest_gap is None or step > self.longest_gap[0]:
                self.longest_gap = step, since


def attempt(
    beginning: Beginning,
    mapped: Mapped,
    kpis: Kpis,
    max_future_s: float,
    progress: Callable[[], Any] | None = None,
) -> Trial:
    """Read the beginning; with `progress`, which is called now and then, the whole. Raises SourceUnusable."""
    source: Bytes
    if progress is None:
        text, is_whole = beginning.text(mapped.layout.encoding)
        source = Held(text)
    else:
        is_whole = True
        _, source, _ = decoded(beginning.whole(), beginning.name, mapped.layout.encoding, lambda: False)
    logger = logging.Logger("inspect")  # noqa: LOG001 - nobody hears it: what is refused is shown
    logger.addHandler(logging.NullHandler())
    wants = Wants(
        name=beginning.name,
        logger=logger,
        metrics=Metrics("producer"),
        resolve=resolver(Spellings(kpis), NumberStyle(mapped.decimal, mapped.thousands)),
    )
    trial = Trial(is_whole)
    reader = open_reader(source, mapped.format or "csv", mapped, wants)
    reader.refusals = trial
    latest_ts = time.time() + max_future_s
    for events in reader.contents():
        for event in events:
            trial.note(event, kpis, latest_ts)
        if progress is not None:
            progress()
    trial.settle()
    trial.account, trial.twice = reader.account, reader.times.twice
    trial.broken = reader.broken if is_whole else ""
    return trial
