"""`telemetry messages`: the catalogue of log messages, for people and in docs/logs.md."""

from pathlib import Path
from typing import Annotated, Final

import typer

from services.ops.about.log_catalogue import CATALOGUE, Message
from services.ops.about.marked import put_into
from services.ops.output.output import AsJson, Wide, show_records
from services.ops.output.parts import Column

BEGIN: Final = "<!-- messages:begin -->"
END: Final = "<!-- messages:end -->"


def messages_command(
    as_json: AsJson = False,
    _wide: Wide = False,
    into: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Put the table into a file, between {BEGIN} and {END}."),
    ] = None,
) -> None:
    """Show every message of the services' logs: its level, who writes it, its fields and its meaning."""
    if into is not None:
        put_into(into, markdown(), BEGIN, END)
        return
    columns = [
        Column(name, wraps=name in {"fields", "meaning"})
        for name in ("message", "level", "of", "fields", "meaning")
    ]
    show_records((_record(one) for one in CATALOGUE), columns, as_json=as_json)


def markdown() -> str:
    """Write the catalogue as a table."""
    rows = (
        f"| `{one.name}` | {one.level} | {one.who} | {', '.join(one.fields)} | {one.meaning} |\n"
        for one in CATALOGUE
    )
    return "| message | level | of | fields | meaning |\n| --- | --- | --- | --- | --- |\n" + "".join(rows)


def _record(one: Message) -> dict[str, str]:
    return {
        "message": one.name,
        "level": one.level,
        "of": one.who,
        "fields": ", ".join(one.fields),
        "meaning": one.meaning,
    }
