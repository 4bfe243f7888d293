"""The options by which dead letters are chosen. Each may be repeated, and takes any of its values then."""

import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Final, get_args

import typer

from services.contract.event import Reason, Stage
from services.ops.dlq.letters import told
from services.ops.failures import CommandFailed
from services.ops.output.output import confirmed

_ENTRY_ID: Final = re.compile(r"\d{1,20}-\d{1,20}(?:/\d{1,5})?", re.ASCII)


def one_of(names: Sequence[str], what: str, given: Sequence[str]) -> None:
    """Raise typer.BadParameter for a name that isn't one of these, with the one that is nearest."""
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise typer.BadParameter(f"no such {what}: {name!r}; {meant}there are {', '.join(names)}")


def entry_id_of(given: str) -> str:
    """Give the id of an entry, or of an event in it. Raises typer.BadParameter for what can't be one."""
    text = given.strip()
    if not _ENTRY_ID.fullmatch(text):
        raise typer.BadParameter(
            f"{given!r} is no entry id; one looks like 1700000000000-0, or 1700000000000-0/17 for the "
            "17th event of an entry"
        )
    return text


def _entry_ids(given: list[str]) -> list[str]:
    return [entry_id_of(one) for one in given]


def _known_reasons(given: list[str]) -> list[str]:
    one_of(get_args(Reason), "reason", given)
    return given


def _known_stages(given: list[str]) -> list[str]:
    one_of(get_args(Stage), "stage", given)
    return given


Reasons = Annotated[
    list[str],
    typer.Option(
        "--reason",
        metavar="NAME",
        default_factory=list,
        show_default=False,
        callback=_known_reasons,
        help="Only with this reason.",
    ),
]
Stages = Annotated[
    list[str],
    typer.Option(
        "--stage",
        metavar="NAME",
        default_factory=list,
        show_default=False,
        callback=_known_stages,
        help="Only of this stage.",
    ),
]
Devices = Annotated[
    list[str],
    typer.Option(
        "--device", metavar="ID", default_factory=list, show_default=False, help="Only of this device."
    ),
]
Entries = Annotated[
    list[str],
    typer.Option(
        "--entry",
        metavar="ID",
        default_factory=list,
        show_default=False,
        callback=_entry_ids,
        help="Only of this stream entry.",
    ),
]
Consumers = Annotated[
    list[str],
    typer.Option(
        "--consumer",
        metavar="NAME",
        default_factory=list,
        show_default=False,
        help="Only written by this consumer.",
    ),
]
Replayed = Annotated[
    bool | None, typer.Option("--replayed/--not-replayed", help="Only replayed ones, or only the others.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def ask(what: str, counts: Mapping[str, int], warning: str = "") -> None:
    """Ask before something is done to so many letters; ends the command unless the answer is yes.

    Raises CommandFailed where nobody can answer.
    """
    question = f"{what} {counted(counts)}{warning}?"
    if not sys.stdin.isatty():
        raise CommandFailed(f"{question} There is no terminal to ask on: add --yes", exit_code=2)
    if not confirmed(question):
        raise CommandFailed("nothing was done")


def counted(counts: Mapping[str, int]) -> str:
    """Say how many letters there are, of which reasons."""
    number = sum(counts.values())
    return f"{number:,} dead letter{'' if number == 1 else 's'} ({told(counts)})"
