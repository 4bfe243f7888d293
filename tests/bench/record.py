"""The record beside the page: every run that a figure of the page is from, as JSON with each round's value.

A whole run takes half an hour. So a run of some cases replaces their figures, and leaves the others with
the date and the machine that they were taken on.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.figure import Figure, Goal
from bench.plan import BenchFailed
from bench.report import Report
from bench.sample import Sample


def merged(earlier: Sequence[Report], new: Report) -> list[Report]:
    """Put a run behind earlier ones, of which only figures of other cases are left."""
    measured = {one.case for one in new.figures}
    kept = [replace(run, figures=[one for one in run.figures if one.case not in measured]) for run in earlier]
    return [*(run for run in kept if run.figures), new]


def read(path: Path) -> list[Report]:
    """Read a record; none where there is no such file. Raises BenchFailed for what is no record."""
    if not path.exists():
        return []
    try:
        return [_report(run) for run in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchFailed(
            f"{path} is no record of a bench: {error!r}; remove it, and run all cases"
        ) from None


def to_json(runs: Collection[Report]) -> str:
    """Write runs, each round's value included."""
    return json.dumps([_as_json(run) for run in runs], indent=1, ensure_ascii=False)


def _as_json(run: Report) -> Mapping[str, Any]:
    return {
        "command": run.command,
        "taken_at": run.taken_at,
        "sizes": run.sizes,
        "machine": dict(run.machine),
        "versions": dict(run.versions),
        "figures": [_figure_as_json(one) for one in run.figures],
    }


def _figure_as_json(one: Figure) -> Mapping[str, Any]:
    goal = None if one.goal is None else {"bound": one.goal.bound, "at_least": one.goal.at_least}
    return {
        "case": one.case,
        "what": one.what,
        "unit": one.unit,
        "median": one.sample.median,
        "values": list(one.sample.values),
        "goal": goal,
        "verdict": one.verdict,
    }


def _report(run: Mapping[str, Any]) -> Report:
    figures = [
        Figure(
            one["case"],
            one["what"],
            one["unit"],
            Sample(tuple(one["values"])),
            None if one["goal"] is None else Goal(**one["goal"]),
        )
        for one in run["figures"]
    ]
    return Report(run["command"], run["taken_at"], run["sizes"], run["machine"], run["versions"], figures)
