"""`telemetry settings`: each setting as it is here, and the documents made from the same declarations."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import typer

from services.contract.kpis import Kpi, Kpis, parse_kpis, shipped
from services.ops.about.marked import put_into
from services.ops.output.output import AsJson, Wide, answer, show_records
from services.ops.output.parts import Column
from services.runtime.settings import (
    THRESHOLD_PREFIX,
    ConsumerSettings,
    ProducerSettings,
    Settings,
    SettingsInvalid,
    Sources,
    declared,
    load,
    read_sources,
    variable,
)

Service = Literal["producer", "consumer", "both"]
Asked = Literal["producer", "consumer", "all"]

BEGIN: Final = "<!-- settings:begin -->"
END: Final = "<!-- settings:end -->"

_SERVICES: Final[tuple[tuple[Service, type[Settings]], ...]] = (
    ("producer", ProducerSettings),
    ("consumer", ConsumerSettings),
)
_COLUMNS: Final = (
    Column("name", "setting"),
    Column("service", "of"),
    Column("value"),
    Column("default", optional=True),
    Column("origin"),
    Column("meaning", wraps=True),
)


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting of one service, or of both; as texts."""

    name: str
    service: Service
    default: str
    meaning: str
    is_secret: bool = False
    value: str = ""
    origin: str = "default"

    def record(self) -> dict[str, str]:
        """Give what is shown of it; of a secret, only whether it is set."""
        value = "(hidden)" if self.is_secret and self.value else self.value
        return {
            "name": self.name,
            "service": self.service,
            "value": value,
            "default": self.default,
            "origin": self.origin,
            "meaning": self.meaning,
        }


def settings_command(
    service: Annotated[str, typer.Option(metavar="NAME", help="producer, consumer, or all.")] = "all",
    as_markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print the table of docs/settings.md: names, defaults and meanings."),
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Put that table into a file, between {BEGIN} and {END}."),
    ] = None,
    as_env_example: Annotated[
        bool, typer.Option("--env-example", help="Print the content of .env.example.")
    ] = False,
    as_json: AsJson = False,
    _wide: Wide = False,
) -> None:
    """Show every setting: its value here, its default, where the value came from, and its meaning.

    Settings are environment variables, or lines of a `.env` file in the working folder. Where both set one,
    the environment variable counts.
    """
    if service not in get_args(Asked):
        raise typer.BadParameter(
            f"{service!r} is none of {', '.join(get_args(Asked))}", param_hint="--service"
        )
    if into is not None:
        put_into(into, markdown(), BEGIN, END)
    elif as_markdown:
        answer(*markdown().splitlines())
    elif as_env_example:
        answer(*env_example().splitlines())
    else:
        rows = [row.record() for row in current_settings(read_sources()) if _is_asked(row, service)]
        show_records(rows, _COLUMNS, as_json=as_json)


def declared_settings(kpis: Kpis) -> list[SettingRow]:
    """List every setting: those of both services first, then each one's own, then the thresholds."""
    shared = {variable(one) for one in declared(Settings)}
    rows = [_row(one, "both") for one in declared(Settings)]
    for service, cls in _SERVICES:
        rows += [_row(one, service) for one in declared(cls) if variable(one) not in shared]
    return rows + [_threshold(kpi) for kpi in kpis.values()]


def current_settings(sources: Sources) -> list[SettingRow]:
    """List every setting as it is here.

    Raises SettingsInvalid with the errors of both services.
    """
    loaded = load_both(sources)
    values: dict[tuple[str, str], str] = {
        (variable(one), service): _text(getattr(loaded[service], one.name))
        for service, cls in _SERVICES
        for one in declared(cls)
    }
    kpis = loaded["consumer"].kpis
    values |= {
        (f"{THRESHOLD_PREFIX}{name.upper()}", "consumer"): _text(kpi.threshold) for name, kpi in kpis.items()
    }
    return [
        replace(row, value=values[row.name, _reader(row)], origin=_origin(sources, row.name))
        for row in declared_settings(_kpis_of_file(loaded["consumer"]))
    ]


def markdown() -> str:
    """Write the settings as a table of Markdown; the same wherever it is written."""
    lines = ["| Setting | Of | Default | Meaning |", "| --- | --- | --- | --- |"]
    for row in declared_settings(_shipped_kpis()):
        default = f"`{row.default}`" if row.default else ""
        lines.append(
            f"| `{row.name}` | {row.service} | {default} | {row.meaning.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines) + "\n"


def env_example() -> str:
    """Write `.env.example`: every setting with its meaning, all of them commented out."""
    lines = [
        "# Copy this file to .env, and remove the # before each setting that you change. An environment",
        "# variable of the same name replaces it. `telemetry settings` shows every value, and its origin.",
        "#",
        "# Write one NAME=value on each line. A # at the beginning of a line, or after a blank, begins a",
        "# comment. Put quotes around a value with blanks or #. Text in '...' is taken as it is; in",
        '# "...", escapes such as \\n and \\" are replaced. ${OTHER} is never replaced.',
        "# Made by: telemetry settings --env-example",
    ]
    by_name: dict[str, list[SettingRow]] = {}
    for row in declared_settings(_shipped_kpis()):
        by_name.setdefault(row.name, []).append(row)
    for name, rows in by_name.items():
        lines.append("")
        for row in rows:
            lines += textwrap.wrap(
                _of_whom(row, rows) + row.meaning, 100, initial_indent="# ", subsequent_indent="#   "
            )
        lines.append(f"#{name}={rows[-1].default}")
    return "\n".join(lines) + "\n"


def _of_whom(row: SettingRow, rows: Sequence[SettingRow]) -> str:
    """Tell apart what two services mean by one name."""
    return f"{row.service} (default {row.default}): " if len(rows) > 1 else ""


def _is_asked(row: SettingRow, service: str) -> bool:
    return service == "all" or row.service in {service, "both"}


def _reader(row: SettingRow) -> str:
    """Name the service whose value is shown; what is of both is read the same by both."""
    return "consumer" if row.service == "both" else row.service


def load_both(sources: Sources) -> dict[str, Settings]:
    """Load the settings of both services. Raises SettingsInvalid with the errors of both."""
    loaded: dict[str, Settings] = {}
    errors: dict[str, None] = {}  # in order, each once: what is of both is wrong for both
    for service, cls in _SERVICES:
        try:
            loaded[service] = load(cls, sources)
        except SettingsInvalid as error:
            errors |= dict.fromkeys(error.errors)
    if errors:
        raise SettingsInvalid(list(errors))
    return loaded


def _row(one: Any, service: Service) -> SettingRow:
    meaning = one.metadata["meaning"]
    bounds = _bounds(one.metadata["least"], one.metadata["most"])
    if bounds and bounds not in meaning:
        meaning += f". {bounds}"
    if one.metadata["choices"]:
        meaning += f". One of {', '.join(f'`{choice}`' for choice in one.metadata['choices'])}"
    return SettingRow(variable(one), service, _text(one.default), meaning, one.metadata["secret"])


def _bounds(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{least:,} to {most:,}"
    if least is not None and least > 0:
        return f"At least {least:,}"
    return ""


def _threshold(kpi: Kpi) -> SettingRow:
    meaning = (
        f"Threshold of {kpi.name}, in {kpi.unit}: an event above it is degraded. "
        "The default is from the KPI file"
    )
    return SettingRow(f"{THRESHOLD_PREFIX}{kpi.name.upper()}", "both", _text(kpi.threshold), meaning)


def _text(value: object) -> str:
    """Write a value as one would set it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _origin(sources: Sources, name: str) -> str:
    found = sources.find(name)
    return "default" if found is None else found[1]


def _shipped_kpis() -> Kpis:
    return parse_kpis(shipped())


def _kpis_of_file(settings: Settings) -> Kpis:
    """Read the KPIs as the file has them, without the thresholds that are set above it."""
    without = Sources({"KPIS_FILE": settings.kpis_file}, {}, {})
    return load(Settings, without).kpis
