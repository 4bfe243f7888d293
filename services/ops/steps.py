"""`telemetry steps try`: what steps make of events, without a consumer, a server or a database."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.consumer.steps import StepsInvalid, load_steps, through
from services.consumer.validate import form, hold
from services.contract.attributes import attributes_of
from services.contract.codec import decimal
from services.contract.event import Event, Fields, Rejection
from services.contract.kpis import Kpis
from services.ops.failures import CommandFailed
from services.ops.lazy import bare_app
from services.ops.output.output import AsJson, Wide, answer, remark, show_records
from services.ops.output.parts import Column, number
from services.runtime.settings import ConsumerSettings, load, read_sources
from services.steps import Step

steps: Final = bare_app(help="Try your own steps (docs/steps.md).", invoke_without_command=True)

_WANTED: Final = ("device_id", "zone", "ts", "kpi", "value")
_COLUMNS: Final = (
    number("line"),
    Column("outcome"),
    Column("reason", show=lambda reason: reason or ""),
    Column("what", wraps=True),
)


@steps.callback()
def about(context: typer.Context) -> None:
    """Try your own steps (docs/steps.md)."""
    if context.invoked_subcommand is None:
        answer(*context.get_help().split("\n"))


@steps.command("try")
def try_steps(
    functions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="Steps to try, in this order; without any: the installed steps.",
        ),
    ] = None,
    as_json: AsJson = False,
    _wide: Wide = False,
) -> None:
    """Show what steps make of events on standard input.

    Each line is a JSON object with device_id, zone, ts (Unix seconds), kpi and value; event_id and attributes
    are optional. `telemetry events --json` writes such lines. MODULE may be in the working folder. After the
    steps the rules of KPIS_FILE are checked, as in the consumer. Exit code 1 if a line can't be read, or a
    step fails.
    """
    settings = load(ConsumerSettings, read_sources())
    taken = [_load(one) for one in functions] if functions else installed_steps()
    if not taken:
        raise CommandFailed("no step is installed here: name one, such as my_steps:to_celsius", 2)
    counts: Counter[str] = Counter()
    now = time.time()

    def counted(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for record in records:
            counts[record["reason"] or record["outcome"]] += 1
            yield record

    records = _tried(sys.stdin.buffer, taken, settings.kpis, now + settings.max_future_s)
    show_records(counted(records), _COLUMNS, as_json=as_json)
    remark(", ".join(f"{what} {number}" for what, number in sorted(counts.items())) or "no event was given")
    if counts["unreadable"] or counts["step_failed"]:
        raise typer.Exit(1)


def installed_steps() -> list[Step]:
    """Load the steps that are installed here. Raises CommandFailed."""
    try:
        return load_steps()
    except StepsInvalid as error:
        raise CommandFailed(str(error), 2) from None


def _load(function: str) -> Step:
    """Import a step by `module:function`. Raises CommandFailed."""
    module, colon, name = function.partition(":")
    if not (module and colon and name):
        raise CommandFailed(f"{function}: write MODULE:FUNCTION, such as my_steps:to_celsius", 2)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        step: Any = getattr(import_module(module), name)
    except Exception as error:
        raise CommandFailed(f"step {function}: {type(error).__name__}: {error}", 2) from error
    if not callable(step):
        raise CommandFailed(f"step {function} is no function", 2)
    found: Callable[[Event], Event | Rejection] = step
    return found


def _tried(
    lines: Iterable[bytes], taken: Sequence[Step], kpis: Kpis, latest_ts: float
) -> Iterator[dict[str, Any]]:
    """Lead each line through the steps; blank ones are left out."""
    for at, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            before = form(_fields(line, at))
        except ValueError as error:
            yield _record(at, "unreadable", None, str(error))
            continue
        if isinstance(before, Rejection):
            yield _record(at, "dead", before.reason, f"before the steps: {before.error}")
            continue
        after = through(before, taken)
        if isinstance(after, Event):
            after = hold(after, kpis, latest_ts)
        if isinstance(after, Rejection):
            yield _record(at, "dead", after.reason, after.error, before)
        else:
            changes = _changes(before, after)
            yield _record(at, "changed" if changes else "kept", None, changes, before, after)


def _fields(line: bytes, at: int) -> Fields:
    """Read the texts of an event. Raises ValueError."""
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - as for all that can't be read
    if missing := [name for name in _WANTED if found.get(name) is None]:
        raise ValueError(f"no {', '.join(missing)}")
    attributes = found.get("attributes")
    if isinstance(attributes, dict):
        attributes = json.dumps(attributes)
    texts = {name: _text(name, found[name]) for name in _WANTED}
    texts |= {"event_id": _text("event_id", found.get("event_id") or f"00000000-0000-4000-8000-{at:012d}")}
    texts |= {} if attributes is None else {"attributes": _text("attributes", attributes)}
    return Fields(**texts)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is neither a text nor a number")  # noqa: TRY004 - as above
    try:
        return decimal(value)
    except OverflowError:
        return str(value)


def _record(
    line: int,
    outcome: str,
    reason: str | None,
    what: str,
    before: Event | None = None,
    after: Event | None = None,
) -> dict[str, Any]:
    return {
        "line": line,
        "outcome": outcome,
        "reason": reason,
        "what": what,
        "before": None if before is None else _shown(before),
        "after": None if after is None else _shown(after),
    }


def _shown(event: Event) -> dict[str, Any]:
    return event._asdict() | {
        "is_degraded": bool(event.is_degraded),
        "attributes": attributes_of(event.attributes),
    }


def _changes(before: Event, after: Event) -> str:
    return ", ".join(
        f"{name} {old} -> {new}"
        for name, old, new in zip(Event._fields, before, after, strict=True)
        if old != new
    )
