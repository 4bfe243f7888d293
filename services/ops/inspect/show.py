"""What is shown of a file: lines of 80 columns for people, one document for programs."""

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from services.contract.kpis import Kpis
from services.ops.inspect.names import FIELDS
from services.ops.inspect.propose import Proposal
from services.ops.inspect.trial import Trial
from services.ops.output.parts import printable
from services.producer.mapping.mapped import BLANKS
from services.runtime.redact import head

_WIDTH: Final = 80
_MOST_COLUMNS: Final = 40
_MOST_LINES: Final = 60
_NAMES: Final = {
    "csv": "a table",
    "jsonl": "JSON lines",
    "json": "JSON",
    "senml": "SenML",
    "influx": "line protocol",
}
_MARKS: Final = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar", BLANKS: "blanks"}
_LEFT_OUT: Final = {
    "header": "header",
    "skipped": "before it",
    "after": "behind it",
    "comment": "comment",
    "blank": "blank",
    "missing": "no reading",
}


def cut(text: object, width: int) -> str:
    """Write a text as one line that takes at most so many columns of a terminal."""
    line = printable(text)
    if _wide(line) <= width:
        return line
    while _wide(line) > width - 2:
        # A text of a megabyte is not shortened letter by letter.
        line = line[: width - 2] if len(line) > width else line[:-1]
    return f"{line}.."


def _tail(path: str, width: int) -> str:
    """Shorten a path in JSON at its beginning: its last name tells the most."""
    return path if len(path) <= width or " " in path or "." not in path else f"..{path[2 - width :]}"


def _wide(text: str) -> int:
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(unicodedata.combining(one) > 0 for one in text)


def _rows(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """Align cells; the last column takes what is left."""
    texts = [[printable(cell) for cell in row] for row in rows]
    wide = [min(most, max(_wide(row[at]) for row in texts)) for at, most in enumerate(widths)]
    for row in rows:
        line = "  "
        for cell, width in zip(row, wide, strict=True):
            text = cut(cell, width)
            line += text + " " * (width - _wide(text) + 2)
        yield cut(line.rstrip(), _WIDTH)


def wrapped(text: str, indent: str = "", more: str = "") -> Iterator[str]:
    """Give a text in lines that a terminal has room for, `more` before each but the first."""
    line, is_empty = indent, True
    for word in printable(text).split():
        one = cut(word, _WIDTH - _wide(more or indent))
        if not is_empty and _wide(line) + 1 + _wide(one) > _WIDTH:
            yield line
            line, is_empty = more, True
        line += one if is_empty else f" {one}"
        is_empty = False
    yield line


def lines_of(
    name: str, proposal: Proposal, trial: Trial, kpis: Kpis, text: str, is_given: bool
) -> Iterator[str]:
    """Give all of it for a person."""
    yield from wrapped(f"{name}: {what(proposal)}", "", "  ")
    if proposal.columns:
        yield from ("", "Columns")
        rows = [
            (
                f"#{at}",
                _tail(one.title, 24),
                one.kind,
                one.use or "-",
                ", ".join(head(one, 20) for one in one.examples),
            )
            for at, one in enumerate(proposal.columns[:_MOST_COLUMNS], 1)
        ]
        yield from _rows([("", "name", "kind", "taken as", "examples"), *rows], (5, 24, 8, 20, 40))
        if len(proposal.columns) > _MOST_COLUMNS:
            yield f"  and {len(proposal.columns) - _MOST_COLUMNS} more (--json has all)"
    if trial.spans:
        yield from ("", "Times, in UTC", *_times(trial))
        yield from ("", "Values", *_values(trial, kpis))
    yield from ("", "The mapping" if is_given else "A mapping")
    lines = text.splitlines()
    yield from (f"  {cut(line, _WIDTH - 2)}".rstrip() for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"  and {len(lines) - _MOST_LINES} lines more"
    if proposal.unsure:
        yield from ("", "Not sure")
        for one in proposal.unsure:
            yield from wrapped(one, "  - ", "    ")
    if trial.first:
        yield from ("", "First events")
        events = [(*one[:2], moment(float(one[2])), *one[3:]) for one in trial.first]
        yield from _rows([FIELDS, *events], (16, 12, 26, 14, 12))
    yield from ("", "Lines" if trial.account.unit == "lines" else "Readings", *_account(trial))


def what(proposal: Proposal) -> str:
    """Say what a file is."""
    mapped = proposal.mapped
    layout = mapped.layout
    parts = [_NAMES[mapped.format or "csv"]]
    if layout.encoding:
        parts.append(layout.encoding)
    if mapped.format == "csv":
        mark = layout.delimiter or ","
        parts.append(f"{len(proposal.columns)} columns by {_MARKS.get(mark, mark)}")
        parts.append(f"header in line {proposal.header_line}" if proposal.header_line else "no header")
        if mapped.decimal == ",":
            parts.append("decimal comma")
    elif mapped.readings:
        parts.append(f"readings at {mapped.readings}")
    return ", ".join(parts)


def moment(ts: float) -> str:
    """Write a time."""
    return datetime.fromtimestamp(ts, UTC).isoformat(sep=" ").removesuffix("+00:00")


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _times(trial: Trial) -> Iterator[str]:
    if trial.earliest is None or trial.latest is None:
        return
    yield f"  from {moment(trial.earliest)} to {moment(trial.latest)}"
    yield (
        f"  {trial.back:,} go back; {trial.same:,} are the same as the one before"
        if (trial.back or trial.same)
        else "  in order"
    )
    if trial.step is not None:
        yield f"  usually {_span(trial.step)} between two readings of a device and KPI"
    if trial.longest_gap is not None:
        gap, since = trial.longest_gap
        gaps = "one gap" if trial.gaps == 1 else f"{trial.gaps:,} gaps"
        yield f"  {gaps}; the longest is {_span(gap)}, after {moment(since)}"
    if trial.twice:
        yield f"  {trial.twice:,} in an hour that comes twice (--time-twice)"


def _values(trial: Trial, kpis: Kpis) -> Iterator[str]:
    rows, deaths = [], []
    for name, span in trial.spans.items():
        kpi = kpis.get(name)
        deaths.append(", ".join(f"{count:,} {reason}" for reason, count in span.dead.most_common()))
        rows.append(
            (
                name,
                f"{span.count:,}",
                f"{span.least:g} to {span.most:g}",
                "no such KPI" if kpi is None else f"allowed {kpi.min:g} to {kpi.max:g} {kpi.unit}",
            )
        )
    for line, dead in zip(_rows(rows, (18, 10, 18, 26)), deaths, strict=True):
        yield line
        if dead:
            yield from wrapped(f"dead letters: {dead}", "    ", "      ")
    if trial.dead:
        yield from wrapped(
            cut(f"Dead letters would be {trial.dead.total():,} of them. The first: {trial.why_dead}", 220),
            "  ",
            "  ",
        )
        yield "  For other names or ranges, write a KPI file (KPIS_FILE, docs/event.md)."


def _account(trial: Trial) -> Iterator[str]:
    account = trial.account
    left = ", ".join(f"{_LEFT_OUT.get(why, why)} {count:,}" for why, count in account.left_out.most_common())
    yield f"  {account.lines:,} read{'' if trial.is_whole else ', the beginning (--all reads the whole)'}"
    events = "one event" if account.events == 1 else f"{account.events:,} events"
    yield f"  {account.published:,} can be published, as {events}"
    yield f"  {account.left_out.total():,} left out{f': {left}' if left else ''}"
    yield f"  {account.refused:,} refused" + (
        f", and {account.refused_readings:,} readings of others" if account.refused_readings else ""
    )
    for kind, count in account.reasons.most_common(5):
        yield f"    {cut(f'{count:,} {kind}', _WIDTH - 4)}"
    for line, reason in trial.refused:
        yield from wrapped(cut(f"line {line:,}: {reason}", 220), "    ", "      ")
    if trial.broken:
        yield cut(f"  not read to its end: {trial.broken}", _WIDTH)


def document(name: str, proposal: Proposal, trial: Trial, text: str) -> dict[str, Any]:
    """Give all of it for a program."""
    layout = proposal.mapped.layout
    gap = trial.longest_gap
    return {
        "name": name,
        "is_whole": trial.is_whole,
        "format": proposal.mapped.format,
        "encoding": layout.encoding,
        "delimiter": layout.delimiter,
        "header_line": proposal.header_line or None,
        "columns": [
            {
                "number": at,
                "name": one.title,
                "kind": one.kind,
                "taken_as": one.use or None,
                "examples": [example[:200] for example in one.examples],
            }
            for at, one in enumerate(proposal.columns, 1)
        ],
        "times": {
            "earliest": trial.earliest,
            "latest": trial.latest,
            "back": trial.back,
            "same": trial.same,
            "usual_step_s": trial.step,
            "gaps": trial.gaps,
            "longest_gap_s": gap[0] if gap else None,
            "longest_gap_after": gap[1] if gap else None,
            "twice": trial.twice,
        },
        "values": {
            kpi: {"count": one.count, "min": one.least, "max": one.most, "dead_letters": dict(one.dead)}
            for kpi, one in trial.spans.items()
        },
        "mapping": text,
        "unsure": proposal.unsure,
        "columns_left_out": proposal.left,
        "first_events": [dict(zip(FIELDS, event, strict=True)) for event in trial.first],
        "account": trial.account.as_record(),
        "first_refused": [{"line": line, "reason": reason} for line, reason in trial.refused],
        "broken": trial.broken or None,
    }
