"""The options that say how a file is laid out, for `telemetry run` and `telemetry inspect`.

They are the producer's own (services/producer/mapping/keys.py), and it reads them: here they are passed on.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

_PANEL: Final = "What the file is like (each is a key of the --mapping file as well)"


def _option(name: str, metavar: str, meaning: str) -> Any:
    return typer.Option(name, metavar=metavar, help=meaning, rich_help_panel=_PANEL)


Text = str | None
Texts = list[str] | None

MappingFile = Annotated[Text, _option("--mapping", "FILE", "TOML file that says all of this.")]
Fields = Annotated[Texts, _option("--map", "OURS=THEIRS", "Column of a field, such as device_id=sensor.")]
Constants = Annotated[
    Texts, _option("--const", "OURS=TEXT", "Value of a field without one, such as zone=lab.")
]
Values = Annotated[
    Texts,
    _option("--value", "COLUMN=KPI", "A column that is a reading by itself; more: =KPI,device_id=b,unit=K."),
]
FileFormat = Annotated[
    Text, _option("--format", "FORMAT", "csv, jsonl, json, senml or influx; else it is seen.")
]
Delimiter = Annotated[Text, _option("--delimiter", "MARK", "Between cells: a character, tab or blanks.")]
Quote = Annotated[Text, _option("--quote", "MARK", "Around cells; none: nothing is.")]
Encoding = Annotated[Text, _option("--encoding", "NAME", "Such as latin-1; UTF-16 is seen by itself.")]
SkipLines = Annotated[Text, _option("--skip-lines", "N", "Lines before the header.")]
SkipAfterHeader = Annotated[
    Text, _option("--skip-after-header", "N", "Lines behind it, such as one of units.")
]
Comment = Annotated[Text, _option("--comment", "MARK", "What a comment's line begins with.")]
NoHeader = Annotated[
    bool, typer.Option("--no-header", help="The first line is data.", rich_help_panel=_PANEL)
]
Columns = Annotated[Texts, _option("--columns", "A,B,C", "Names of the columns, in place of a header's.")]
Decimal = Annotated[Text, _option("--decimal", "MARK", "Before the fraction of a number: . or ,")]
Thousands = Annotated[Text, _option("--thousands", "MARK", "Between thousands.")]
Missing = Annotated[Texts, _option("--missing", "TEXT", "What stands where no reading is, such as -200.")]
Keep = Annotated[Texts, _option("--keep", "THEIRS", "Columns kept as attributes, such as firmware,status.")]
IdFrom = Annotated[Texts, _option("--id-from", "A,B,C", "Fields by which the same reading is one row.")]
Readings = Annotated[Text, _option("--readings", "PATH", "Lists of readings in JSON, such as data[].")]
TimeColumns = Annotated[Texts, _option("--time-column", "COLUMN", "One of the columns that are the time.")]
TimeFormat = Annotated[
    Text, _option("--time-format", "FORMAT", "day-month-year, month-day-year, s, ms, us, ns, or a %-pattern.")
]
TsUnit = Annotated[Text, _option("--ts-unit", "UNIT", "The same, for numbers: s, ms, us or ns.")]
TimeZone = Annotated[Text, _option("--time-zone", "ZONE", "Of times that name none, such as Europe/Berlin.")]
TimeTwice = Annotated[
    Text, _option("--time-twice", "WHICH", "Of an hour that comes twice: earlier, later or refuse.")
]
EarliestTime = Annotated[Text, _option("--earliest-time", "DAY", "Before it no time is believed.")]

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
