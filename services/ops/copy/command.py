"""`telemetry copy --to URL`: everything of the store that the settings name into another one.

Rows with the time at which they were stored, dead letters where they lie in a file or in the database, what
was replayed and purged of them, and what audits have proven. In which order, and why: copying.py.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from services.contract.errors import DeadLettersUnavailable, SinkUnavailable
from services.ops.copy.copying import Copy, Place, copy
from services.ops.copy.letters import LettersLook
from services.ops.failures import CommandFailed
from services.ops.output.output import AsJson, answer, choose_style, remark, show_document
from services.ops.output.parts import printable
from services.ops.output.progress import ProgressLine
from services.runtime.settings import ConsumerSettings, SettingsInvalid, load, read_sources
from services.stores.choice import at_address, open_copied, open_copied_letters
from services.stores.copying import CopiedLetters

_LOGGER: Final = logging.getLogger(__name__)
_GO_ON: Final = "what was copied is there; the same command goes on from here"

To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="URL",
        envvar="COPY_TO",
        show_envvar=False,
        help="The other store: postgresql://user:password@host:port/database, or sqlite:FOLDER (sqlite: is "
        "DATA_DIR). Put an address with a password into COPY_TO instead: others can see a command line.",
    ),
]


def copy_command(
    to: To,
    as_pipeline: Annotated[
        str,
        typer.Option(
            "--as-pipeline",
            metavar="NAME",
            help="The name of this pipeline there (PIPELINE_NAME), if it is another one.",
            show_default=False,
        ),
    ] = "",
    while_running: Annotated[
        bool,
        typer.Option(
            "--while-running",
            help="Consumers go on meanwhile. What they store too late for this copy is left for the next "
            "one, and is no failure.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy this store into another one, and compare the two. Nothing is changed in this one.

    It copies events with the time at which they were stored, dead letters with the marks of what was
    replayed and purged (letters in Redis stay there), and what audits have proven. In the other store
    nothing is overwritten. After a kill or an error, run it again: it goes on where it stopped, and copies
    what is new. Exit code 1 if the other store does not have everything in the end. While consumers still
    write here it can't have, so stop them before the last copy; what is published meanwhile waits in the
    stream.
    """
    settings = load(ConsumerSettings, read_sources())
    other = _target(settings, to)
    if as_pipeline:
        other = replace(other, pipeline_name=as_pipeline)
    with ExitStack() as opened:
        source, target = opened.enter_context(_places(settings, other))
        with _going_on(), ProgressLine("events") as progress:
            done = copy(source, target, settings.stream_name, progress)
        here, there = source.rows.place, target.rows.place
        strangers = source.rows.others(settings.pipeline_name, settings.stream_name)
        damages = source.letters.damages.number if source.letters is not None else 0
        place_of_letters = source.letters.place if source.letters is not None else ""
    wrong = _wrong(done, there, while_running=while_running)
    if damages:
        wrong.append(
            f"{_counted(damages, 'place')} of the dead letters in {place_of_letters} can't be read: "
            "telemetry dlq list names them"
        )
    _show(done, here, there, wrong, as_json=as_json)
    for pipeline, stream in strangers:
        remark(
            f"note: {here} also has dead letters or proofs of PIPELINE_NAME={printable(pipeline)} "
            f"STREAM_NAME={printable(stream)}: copy again with these"
        )
    if wrong:
        raise CommandFailed(f"{there} does not have all of {here}: {wrong[0]}", details=wrong[1:])


def _target(settings: ConsumerSettings, to: str) -> ConsumerSettings:
    """Read the address. Raises SettingsInvalid, which tells nothing of it."""
    try:
        return at_address(settings, to.strip())
    except SettingsInvalid as error:
        raise SettingsInvalid(
            [line.replace("DATABASE_URL=(hidden)", "--to") for line in error.lines]
        ) from None


@contextmanager
def _places(settings: ConsumerSettings, other: ConsumerSettings) -> Iterator[tuple[Place, Place]]:
    """Open both sides. Raises CommandFailed where they are one."""
    if not settings.database_url and not other.database_url and _is_same(settings.database, other.database):
        raise CommandFailed(f"--to names the store that is to be copied: {settings.database}", exit_code=2)
    with ExitStack() as opened:
        source = open_copied(settings, _LOGGER, may_write=False)
        opened.callback(source.close)
        target = open_copied(other, _LOGGER, may_write=True)
        opened.callback(target.close)
        if source.identity() == target.identity():
            raise CommandFailed(f"--to names the store that is to be copied: {source.place}", exit_code=2)
        letters: list[CopiedLetters | None] = [open_copied_letters(one) for one in (settings, other)]
        for one in letters:
            if one is not None:
                opened.callback(one.close)
        mine, theirs = letters
        # At the broker, or in the one file that both have: nothing to do.
        if mine is None or theirs is None or mine.place == theirs.place:
            mine = theirs = None
        yield (
            Place(rows=source, letters=mine, pipeline=settings.pipeline_name),
            Place(rows=target, letters=theirs, pipeline=other.pipeline_name),
        )


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


@contextmanager
def _going_on() -> Iterator[None]:
    """Say of what passes that the copy can go on."""
    try:
        yield
    except (SinkUnavailable, DeadLettersUnavailable) as error:
        raise CommandFailed(str(error), exit_code=2, details=[_GO_ON]) from error


def _wrong(done: Copy, there: str, *, while_running: bool) -> list[str]:
    """Say what the target does not have, a line for each kind."""
    lines = []
    events = done.events
    if events.conflicts.number:
        lines.append(
            f"{_events(events.conflicts.number)} with another content there, left as they are: "
            f"{_named(events.conflicts.ids, events.conflicts.number)}"
        )
    if events.refused.number:
        lines.append(
            f"{_events(events.refused.number)} that {there} refuses ({events.why_refused}): "
            f"{_named(events.refused.ids, events.refused.number)}"
        )
    if events.gone:
        lines.append(
            f"{_events(events.gone)} that were written there are gone again: somebody removes events there "
            "(RETAIN_DAYS?). Stop that, and run it again"
        )
    if not events.is_whole:
        lines.append("what audits have proven was not copied, since it says that these events are there")
    elif done.is_dropping:
        lines.append(
            "retention drops days here all the time; what audits have proven was not copied: run it again"
        )
    if done.is_moving and not while_running:
        lines.append(
            f"consumers still write: {_events(done.late)} came during the last look. Stop them, and run "
            "it again; what is published meanwhile waits in the stream"
        )
    if done.letters is not None and done.letters.missing and not while_running:
        lines.append(
            f"{done.letters.missing:,} dead letters or marks of them changed meanwhile: run it again"
        )
    return lines


def _show(done: Copy, here: str, there: str, wrong: list[str], *, as_json: bool) -> None:
    letters = done.letters or LettersLook()
    document = {
        "from": here,
        "to": there,
        "is_same": not wrong,
        "events": done.events.events,
        "events_added": done.added,
        "events_more": done.more,
        "conflicts": done.events.conflicts.number,
        "refused": done.events.refused.number,
        "restamped": done.events.restamped,
        "letters": letters.letters,
        "letters_added": done.added_letters,
        "replayed": letters.replayed,
        "purged": letters.purged,
        "proofs": done.proofs,
    }
    show_document(document, [], as_json=as_json)
    if choose_style(as_json) == "json" or wrong:
        return
    has = (
        f"{_events(done.events.events)} ({done.added:,} new), {_counted(letters.letters, 'dead letter')} "
        f"({letters.replayed:,} replayed, {letters.purged:,} purged), {_counted(done.proofs, 'proof')}"
    )
    moving = ", and consumers still write here: stop them before the last copy" if done.is_moving else ""
    answer(f"{'so far' if done.is_moving else 'the same'}: {there} has {has} of {here}{moving}")
    if done.events.restamped:
        answer(
            f"note: {_events(done.events.restamped)} of them were stored there at another time, or by "
            "another threshold"
        )
    if done.more > 0:
        answer(f"note: there are {_events(done.more)} more")
    for group in done.other_proofs:
        answer(
            f"note: there is another proof of the group {printable(group)}, as new as ours or newer, "
            "which is left"
        )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _events(number: int) -> str:
    return _counted(number, "event")


def _named(ids: list[str], number: int) -> str:
    more = number - len(ids)
    return f"{', '.join(ids)}{f' and {more:,} more' if more else ''}"
