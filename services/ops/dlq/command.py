"""`telemetry dlq`: look at dead letters, publish them again, remove them."""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final

import typer

from services.contract.operating import LetterStore
from services.ops.dlq.letters import (
    Chosen,
    Letter,
    LetterFilter,
    choose,
    letters_of,
    newest_of,
    open_letters,
    reasons,
    select,
)
from services.ops.dlq.options import (
    Consumers,
    Devices,
    Entries,
    Reasons,
    Replayed,
    Stages,
    Yes,
    ask,
    counted,
    entry_id_of,
)
from services.ops.dlq.raw import raw_json
from services.ops.failures import CommandFailed
from services.ops.lazy import bare_app, register
from services.ops.output.output import MOST_SHOWN, AsJson, Wide, answer, remark, show_document, show_records
from services.ops.output.parts import Column, Facts
from services.ops.output.times import Since, Until, refuse_empty, show_time
from services.ops.server.doors import open_server
from services.runtime.redact import shortened
from services.runtime.screen import answer_parts
from services.runtime.settings import ConsumerSettings, Sources, load, read_sources

dlq: Final = bare_app(help="List, show, replay and purge dead letters.", no_args_is_help=True)


_MOST_SHOWN: Final = 200
"""Of an error; it may quote a value of any length. `telemetry dlq show` has all of it."""


def _short(text: str) -> str:
    return shortened(text, _MOST_SHOWN)


def _mark(replayed_at: float | None) -> str:
    return "" if replayed_at is None else "yes"


_COLUMNS: Final = (
    Column("entry_id", "entry"),
    Column("failed_at", show=show_time),
    Column("stage", optional=True),
    Column("reason"),
    Column("device_id", "device"),
    Column("replayed_at", "replayed", _mark, optional=True),
    Column("error", show=_short, wraps=True),
)


@dlq.command("list")
def list_letters(
    reason: Reasons,
    stage: Stages,
    device: Devices,
    entry: Entries,
    consumer: Consumers,
    since: Since = None,
    until: Until = None,
    replayed: Replayed = None,
    limit: Annotated[
        int, typer.Option(min=0, max=MOST_SHOWN, metavar="N", help="The newest N; 0: all.")
    ] = 20,
    as_json: AsJson = False,
    _wide: Wide = False,
) -> None:
    """List dead letters, the newest last. --since and --until are the times of the failures.

    Exit code 1 if a letter can't be read.
    """
    refuse_empty(since, until)
    asked = LetterFilter(reason, stage, device, entry, consumer, since, until, replayed)
    sources = read_sources()
    with open_letters(load(ConsumerSettings, sources), sources) as store:
        found = _Counted(select(store, asked))
        shown = show_records(_records(_newest(found, limit), whole=as_json), _COLUMNS, as_json=as_json)
        if shown == 0:
            remark(_none(store))
        elif shown < found.number:
            remark(f"the newest {shown:,} of {found.number:,}; --limit 0 shows all")


@dlq.command("show")
def show_letter(
    entry_id: Annotated[
        str, typer.Argument(metavar="ENTRY", callback=entry_id_of, help="Id of the letter's entry.")
    ],
    as_json: AsJson = False,
    _wide: Wide = False,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="Print only the entry, as JSON with base64. It is whole even if the letter is truncated, "
            "as long as the broker keeps it.",
        ),
    ] = False,
) -> None:
    """Show a dead letter: the entry as received, and the reason.

    Exit code 1 if there is no such letter, or a letter can't be read.
    """
    sources = read_sources()
    settings = load(ConsumerSettings, sources)
    if raw:
        _write_raw(settings, sources, entry_id)
        return
    with open_letters(settings, sources) as store:
        one = newest_of(store, entry_id)
        if one is None:
            raise CommandFailed(f"no dead letter of entry {entry_id!r}")
        show_document(one.record(), _letter_parts(one), as_json=as_json)


register(
    dlq,
    "replay",
    "services.ops.dlq.replay_command:replay_command",
    "Publish dead letters again, corrected if need be.",
)


@dlq.command("purge")
def purge_letters(
    reason: Reasons,
    stage: Stages,
    device: Devices,
    entry: Entries,
    consumer: Consumers,
    since: Since = None,
    until: Until = None,
    replayed: Replayed = None,
    every: Annotated[bool, typer.Option("--all", help="Every letter; needed if no filter is given.")] = False,
    yes: Yes = False,
) -> None:
    """Remove dead letters for good. The audit counts their events as purged, not as missing.

    Exit code 1 if a letter can't be read.
    """
    refuse_empty(since, until)
    asked = LetterFilter(reason, stage, device, entry, consumer, since, until, replayed)
    if asked.is_all and not every:
        raise CommandFailed("purge takes a filter such as --reason, or --all", exit_code=2)
    sources = read_sources()
    with open_letters(load(ConsumerSettings, sources), sources, may_start=True) as store:
        chosen = choose(select(store, asked))
        if not chosen:
            remark("no dead letter to purge")
        else:
            counts = reasons(chosen)
            if not yes:
                ask("Purge", counts, _warning(chosen))
            store.purge(chosen.keys())
            answer(f"purged {counted(counts)}")


def _none(store: LetterStore) -> str:
    """Say why nothing is listed: there is nothing, or nothing of that kind among what there is."""
    total = len({letter.entry_id for letter in store.read()})
    if not total:
        return "no dead letter"
    return f"no dead letter matches; there {'is 1' if total == 1 else f'are {total:,}'} of other kinds"


def _write_raw(settings: ConsumerSettings, sources: Sources, entry_id: str) -> None:
    with open_server(settings, sources) as server:
        answer_parts(raw_json(server.side, letters_of(server.settings, server.side), entry_id))


class _Counted:
    """Letters that are counted as they pass."""

    def __init__(self, letters: Iterable[Letter]) -> None:
        self._letters = letters
        self.number = 0

    def __iter__(self) -> Iterator[Letter]:
        for one in self._letters:
            self.number += 1
            yield one


def _newest(letters: Iterable[Letter], limit: int) -> Iterable[Letter]:
    """Give the last ones; limit 0 gives all, as they come."""
    return letters if limit == 0 else deque(letters, maxlen=limit)


def _records(letters: Iterable[Letter], *, whole: bool) -> Iterator[dict[str, Any]]:
    """Give letters as records; what no column shows only where it is wanted: an event may be a megabyte."""
    for one in letters:
        record = one.record() | {"device_id": one.letter.text("device_id")}
        yield record if whole else {column.name: record[column.name] for column in _COLUMNS}


def _letter_parts(one: Letter) -> list[Facts]:
    letter = one.letter
    pairs = letter.event.items() if isinstance(letter.event, dict) else letter.event
    about = [
        ("entry", letter.entry_id),
        ("failed at", show_time(letter.failed_at)),
        ("stage", letter.stage),
        ("reason", letter.reason),
        ("error", letter.error),
        ("attempts", str(letter.attempts)),
        ("deliveries", str(letter.deliveries)),
        ("consumer", letter.consumer),
        ("trace", letter.trace_id or "none"),
        ("replayed", show_time(one.replayed_at) or "no"),
    ]
    event = [(_shown(name), _shown(value)) for name, value in pairs]
    if not letter.truncated:
        return [Facts("Dead letter", about), Facts("Event as it was received", event)]
    size = "unknown" if letter.size_bytes is None else f"{letter.size_bytes:,} bytes"
    about.append(
        ("size", f"{size}; below is its beginning, and --raw gives all of it while the broker keeps it")
    )
    return [Facts("Dead letter", about), Facts("Beginning of the entry", event)]


def _shown(part: Any) -> str:
    """Write a name or value of the event; what is no text stands as it is kept."""
    return part if isinstance(part, str) else json.dumps(part)


def _warning(chosen: Mapping[str, Chosen]) -> str:
    lost = sum(1 for one in chosen.values() if not one.is_replayed)
    return f"; {lost:,} of them never replayed, so their events are given up for good" if lost else ""
