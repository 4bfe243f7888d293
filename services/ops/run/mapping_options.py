"""The options that say how a file is laid out, for `telemetry run` and `telemetry inspect`.

They are the producer's own (services/producer/mapping/keys.py), and it reads them: here they are passed on.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

_PANEL: Final = "What the file is like (each is also a key of the --mapping file)"


def _option(name: str, metavar: str, meaning: str) -> Any:
    return typer.Option(name, metavar=metavar, help=meaning, rich_help_panel=_PANEL)


Text = str | None
Texts = list[str] | None

MappingFile = Annotated[Text, _option("--mapping", "FILE", "TOML file with the options below as keys.")]
Fields = Annotated[Texts, _option("--map", "OURS=THEIRS", "The column of a field, such as device_id=sensor.")]
Constants = Annotated[
    Texts, _option("--const", "OURS=TEXT", "The text of a field that has no column, such as zone=lab.")
]
Values = Annotated[
    Texts,
    _option(
        "--value",
        "COLUMN=KPI",
        "A column of readings of this KPI; with more fields: COLUMN=KPI,device_id=b,unit=K.",
    ),
]
FileFormat = Annotated[
    Text, _option("--format", "FORMAT", "csv, jsonl, json, senml or influx.  [default: recognised]")
]
Delimiter = Annotated[Text, _option("--delimiter", "MARK", "Separator of cells: a character, tab or blanks.")]
Quote = Annotated[Text, _option("--quote", "MARK", "Quotation mark of cells; none: cells are not quoted.")]
Encoding = Annotated[
    Text, _option("--encoding", "NAME", "Encoding, such as latin-1.  [default: UTF-8 or UTF-16, recognised]")
]
SkipLines = Annotated[Text, _option("--skip-lines", "N", "Lines to skip before the header.")]
SkipAfterHeader = Annotated[
    Text, _option("--skip-after-header", "N", "Lines to skip after the header, such as a row of units.")
]
Comment = Annotated[Text, _option("--comment", "MARK", "Text that comment lines begin with.")]
NoHeader = Annotated[
    bool,
    typer.Option("--no-header", help="There is no header: the first line is data.", rich_help_panel=_PANEL),
]
Columns = Annotated[
    Texts, _option("--columns", "A,B,C", "Names of the columns, instead of those of the header.")
]
Decimal = Annotated[Text, _option("--decimal", "MARK", "Decimal mark of numbers: . or ,")]
Thousands = Annotated[Text, _option("--thousands", "MARK", "Separator of thousands in numbers.")]
Missing = Annotated[Texts, _option("--missing", "TEXT", "Text of a cell without a reading, such as -200.")]
Keep = Annotated[
    Texts, _option("--keep", "THEIRS", "Columns to keep as attributes, such as firmware,status.")
]
IdFrom = Annotated[
    Texts,
    _option(
        "--id-from",
        "A,B,C",
        "Make the event id from these fields, so that a repeated reading is stored once.",
    ),
]
Readings = Annotated[
    Text, _option("--readings", "PATH", "Path of the list of readings in JSON, such as data[].")
]
TimeColumns = Annotated[
    Texts,
    _option(
        "--time-column",
        "COLUMN",
        "A column of the time; give it twice if date and time have a column each.",
    ),
]
TimeFormat = Annotated[
    Text,
    _option(
        "--time-format",
        "FORMAT",
        "year-month-day, day-month-year, month-day-year, s, ms, us, ns, or a pattern with %.",
    ),
]
TsUnit = Annotated[Text, _option("--ts-unit", "UNIT", "Unit of times that are numbers: s, ms, us or ns.")]
TimeZone = Annotated[
    Text,
    _option(
        "--time-zone", "ZONE", "Time zone of times that name none, such as Europe/Berlin.  [default: UTC]"
    ),
]
TimeTwice = Annotated[
    Text,
    _option(
        "--time-twice", "WHICH", "How to read the hour that comes twice in autumn: earlier, later or refuse."
    ),
]
EarliestTime = Annotated[Text, _option("--earliest-time", "DAY", "Refuse times before this day.")]

_OPTIONS: Final = {
    "mapping": "--mapping",
    "fields": "--map",
    "constants": "--const",
    "values": "--value",
    "file_format": "--format",
    "delimiter": "--delimiter",
    "quote": "--quote",
    "encoding": "--encoding",
    "skip_lines": "--skip-lines",
    "skip_after_header": "--skip-after-header",
    "comment": "--comment",
    "no_header": "--no-header",
    "columns": "--columns",
    "decimal": "--decimal",
    "thousands": "--thousands",
    "missing": "--missing",
    "keep": "--keep",
    "id_from": "--id-from",
    "readings": "--readings",
    "time_columns": "--time-column",
    "time_format": "--time-format",
    "ts_unit": "--ts-unit",
    "time_zone": "--time-zone",
    "time_twice": "--time-twice",
    "earliest_time": "--earliest-time",
}
"""By the names of a command's parameters."""


def mapping_options(given: Mapping[str, Any]) -> list[str]:
    """Give what was said as options of `python -m services.producer`."""
    options: list[str] = []
    for name, option in _OPTIONS.items():
        value = given[name]
        if value is True:
            options.append(option)
        elif isinstance(value, list):
            # Joined, since a value may begin with a dash.
            options += [f"{option}={one}" for one in value]
        elif isinstance(value, str):
            options.append(f"{option}={value}")
    return options
