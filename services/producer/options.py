"""The command line: options that stand for settings, and those of reading a file. Every error at once."""

import argparse
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from services.producer.files.inputs import STANDARD_INPUT
from services.producer.files.listing import files_of
from services.producer.files.reading import Reading
from services.producer.mapping.keys import KEYS, Said, Sayings, build
from services.producer.mapping.mapped import MAPPABLE, SETTABLE, TS_UNITS
from services.producer.mapping.mapping_file import read_mapping_file
from services.runtime.settings import ProducerSettings, SettingsInvalid, Sources, load, read_sources

_SETTINGS: Final = {
    "--rate": ("RATE", "events a second"),
    "--duration": ("PRODUCER_RUN_DURATION", "seconds to publish; 0: until it is stopped"),
    "--batch-size": ("BATCH_SIZE", "events in one round trip"),
    "--sleep-interval": ("SLEEP_INTERVAL", "seconds between batches, without --rate"),
    "--seed": ("SEED", "seed for a repeatable run"),
    "--invalid-ratio": ("INVALID_RATIO", "share of invalid events, 0 to 1"),
    "--duplicate-ratio": ("DUPLICATE_RATIO", "share of events published twice, 0 to 1"),
    "--device-count": ("DEVICE_COUNT", "number of simulated devices"),
    "--zone-count": ("ZONE_COUNT", "number of zones of these devices"),
}
_FILE_BATCH: Final = 500
_DOORS: Final = ("http", "mqtt")
"""Modes in which events come from whoever sends them."""
_OF_A_FILE: Final = (
    "--mapping",
    *(key.option for key in KEYS),
    "--map",
    "--const",
    "--value",
    "--ts-unit",
    "--max-rejected",
    "--resume",
    "--again",
    "--complete",
    "--follow",
)
_AT_A_FIELD: Final = re.compile(rf",(?=\s*(?:{'|'.join(MAPPABLE)})\s*=)")
"""A comma that begins another FIELD=...; any other is in a column's name."""
_VALUE: Final = re.compile(r"(.+?)=([^=,]+)((?:,(?:device_id|zone|unit)=[^=,]+)*)")


@dataclass(frozen=True, slots=True)
class Told:
    """All that a producer is told."""

    settings: ProducerSettings
    readings: Sequence[Reading]
    """The files, in order; empty: events are made up."""
    batch_size: int
    sleep_interval_s: float
    duration_s: float

    @property
    def reading(self) -> Reading | None:
        """The file, where it is one."""
        return self.readings[0] if len(self.readings) == 1 else None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsInvalid([message])


def read_options(arguments: Sequence[str]) -> Told:
    """Read the command line, the environment and `.env`.

    Raises SettingsInvalid with every error, and SystemExit(0) after --help.
    """
    given = _parser().parse_args(list(arguments))
    errors: list[str] = []
    readings = _readings(given, errors)
    options = {
        name: text
        for option, (name, _) in _SETTINGS.items()
        if (text := getattr(given, option[2:].replace("-", "_"))) is not None
    }
    modes = [mode for mode in _DOORS if getattr(given, mode)]
    if len(modes) > 1:
        errors.append("--http and --mqtt: it is one or the other; start a producer for each")
    if modes:
        options["PRODUCER_MODE"] = modes[0]
    sources = read_sources(options=options)
    try:
        settings = load(ProducerSettings, sources)
    except SettingsInvalid as error:
        raise SettingsInvalid([*errors, *error.errors]) from None
    errors += [f"{name}: give a value" for name, text in options.items() if text == ""]
    told = _told(settings, sources, readings)
    is_fed = settings.producer_mode in _DOORS  # by whoever sends: batches are as large as what is sent
    if settings.stream_max_length and told.batch_size > settings.stream_max_length and not is_fed:
        errors.append(
            f"BATCH_SIZE={told.batch_size}: more than STREAM_MAX_LENGTH={settings.stream_max_length}, "
            "so a batch would never fit; lower it, or raise that"
        )
    if is_fed and readings:
        mode = settings.producer_mode
        errors.append(f"--from, and PRODUCER_MODE={mode} (--{mode}): it is one or the other")
    if errors:
        raise SettingsInvalid(errors)
    return told


def _told(settings: ProducerSettings, sources: Sources, readings: Sequence[Reading]) -> Told:
    batch, pause, duration = settings.batch_size, settings.sleep_interval, settings.producer_run_duration
    # A file is read to its end, as fast as it goes, unless somebody says otherwise.
    if readings and not (sources.find("BATCH_SIZE") or sources.find("SLEEP_INTERVAL")):
        most = settings.stream_max_length or _FILE_BATCH
        batch, pause = min(_FILE_BATCH, most), 0.0
    # And who takes what is sent has no end.
    if (readings or settings.producer_mode in _DOORS) and not sources.find("PRODUCER_RUN_DURATION"):
        duration = 0.0
    return Told(settings, readings, batch, pause, duration)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m services.producer",
        description="Publish generated telemetry, the events of a file, or what is sent by HTTP or MQTT. "
        "Every setting is also an environment variable.",
        allow_abbrev=False,
    )
    for option, (name, meaning) in _SETTINGS.items():
        parser.add_argument(option, metavar="N", help=f"{meaning} ({name})")
    parser.add_argument(
        "--http", action="store_true", help="take events by HTTP at HTTP_HOST, HTTP_PORT (PRODUCER_MODE=http)"
    )
    parser.add_argument(
        "--mqtt", action="store_true", help="take messages of MQTT_TOPICS at MQTT_URL (PRODUCER_MODE=mqtt)"
    )
    parser.add_argument(
        "--from",
        dest="source",
        action="append",
        default=[],
        metavar="FILE",
        help="publish this file, folder or pattern such as 'logs/*.csv'; -: standard input. May be given "
        "more than once",
    )
    parser.add_argument("--mapping", metavar="FILE", help="TOML file with the options from here to --value")
    for key in KEYS:
        if key.kind == "flag":
            parser.add_argument(key.option, action="store_true", help=key.meaning)
        elif key.kind == "list":
            parser.add_argument(
                key.option,
                action="append",
                default=[],
                metavar=key.metavar,
                help=key.meaning.replace("%", "%%"),
            )
        else:
            parser.add_argument(key.option, metavar=key.metavar, help=key.meaning.replace("%", "%%"))
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="columns of fields, such as device_id=sensor,ts=time",
    )
    parser.add_argument(
        "--const",
        action="append",
        default=[],
        metavar="OURS=TEXT",
        help="text of a field that has no column, such as zone=lab",
    )
    parser.add_argument(
        "--value",
        action="append",
        default=[],
        metavar="COLUMN=KPI",
        help="a column of readings of this KPI; with more fields: COLUMN=KPI,device_id=b,unit=K",
    )
    parser.add_argument("--ts-unit", metavar="UNIT", help="unit of times that are numbers: s, ms, us or ns")
    parser.add_argument("--max-rejected", metavar="N", help="lines that may be refused without a failure (0)")
    parser.add_argument("--resume", action="store_true", help="go on in a file where the last run stopped")
    parser.add_argument("--again", action="store_true", help="publish a file once more, from its beginning")
    parser.add_argument(
        "--complete", action="store_true", help="with --resume: take a last line without a line end as whole"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="wait for appended lines and new files; goes on where the last run stopped, as with --resume",
    )
    return parser


def _readings(given: argparse.Namespace, errors: list[str]) -> Sequence[Reading]:
    if not given.source:
        errors += [
            f"{option}: only together with --from FILE"
            for option in _OF_A_FILE
            if getattr(given, _attribute(option)) not in (None, False, [])
        ]
        return ()
    # What is followed is listed again and again, and a folder may have no file yet.
    sources = list(dict.fromkeys(given.source)) if given.follow else files_of(given.source, errors)
    if given.resume and STANDARD_INPUT in sources:
        errors.append("--resume: standard input can't be read again; name a file with --from")
    if given.resume and given.again:
        errors.append("--again: begins from the beginning, and --resume goes on; give one of them")
    if given.follow:
        errors += _wrong_to_follow(given)
    said = {} if given.mapping is None else read_mapping_file(Path(given.mapping), errors)
    said |= _said(given, errors)
    mapped, most = build(said, errors), _max_rejected(given, errors)
    return [
        Reading(
            source,
            mapped,
            resume=given.resume or given.follow,
            again=given.again,
            is_complete=given.complete,
            follow=given.follow,
            max_rejected=most,
        )
        for source in sources
    ]


def _wrong_to_follow(given: argparse.Namespace) -> list[str]:
    wrong = []
    if STANDARD_INPUT in given.source:
        wrong.append("--follow: standard input is read as it comes; leave it out")
    if given.again or given.complete:
        wrong.append("--follow: goes on with a file that is written to; leave out --again and --complete")
    return wrong


def _max_rejected(given: argparse.Namespace, errors: list[str]) -> int:
    text = given.max_rejected or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        errors.append(f"--max-rejected {text}: write a number of lines")
        return 0
    return int(text)


def _said(given: argparse.Namespace, errors: list[str]) -> Sayings:
    """Give what the options say of a mapping, each of them in place of what its file says."""
    said: Sayings = {}
    for key in KEYS:
        value = getattr(given, _attribute(key.option))
        where = key.option if key.kind in {"flag", "list"} else f"{key.option} {value}"
        if key.kind == "flag" and value:
            said[key.name] = Said(False, where)
        elif key.kind == "number" and value is not None:
            said[key.name] = Said(int(value) if value.isascii() and value.isdigit() else value, where)
        elif key.kind == "list" and value:
            said[key.name] = Said(_listed(key.name, value), where)
        elif key.kind == "text" and value is not None:
            said[key.name] = Said(value, key.option)
    if given.ts_unit is not None:
        if given.ts_unit in TS_UNITS:
            said["time.format"] = Said(given.ts_unit, "--ts-unit")
        else:
            errors.append(f"--ts-unit {given.ts_unit}: one of {', '.join(TS_UNITS)}")
    for text in given.map:
        for one in _AT_A_FIELD.split(text):
            _add_pair(said, "--map", "fields", one, errors)
    for text in given.const:
        _add_pair(said, "--const", "constants", text, errors)
    for text in given.value:
        _add_value(said, text, errors)
    return said


def _listed(name: str, texts: list[str]) -> list[str]:
    if name not in {"columns", "keep", "id_from"}:
        return texts
    found = [one.strip() for text in texts for one in next(csv.reader([text], skipinitialspace=True), [])]
    return found if name == "columns" else list(dict.fromkeys(filter(None, found)))


def _add_pair(said: Sayings, option: str, table: str, text: str, errors: list[str]) -> None:
    name, equals, value = text.partition("=")
    name = name.strip()
    names = MAPPABLE if table == "fields" else SETTABLE
    where = f"{option} {text}"
    if not equals or name not in names or (table == "fields" and not value.strip()):
        if name == "event_id":
            errors.append(f"{where}: each event has an id of its own")
        else:
            errors.append(f"{where}: write FIELD=..., FIELD one of {', '.join(names)}")
    elif said.get(f"{table}.{name}", Said("", "")).where.startswith(option):
        errors.append(f"{option} {name}: given twice")
    else:
        said[f"{table}.{name}"] = Said(value.strip() if table == "fields" else value, where)


def _add_value(said: Sayings, text: str, errors: list[str]) -> None:
    """Read COLUMN=KPI, or COLUMN=KPI,device_id=...; the column's name may have any of these marks in it."""
    found = _VALUE.fullmatch(text)
    if found is None:
        errors.append(f"--value {text}: write COLUMN=KPI, or COLUMN=KPI,device_id=probe-1")
        return
    more = dict(one.split("=", 1) for one in found[3].split(",") if one)
    said[f"values.{found[1].strip()}"] = Said({"kpi": found[2], **more}, f"--value {text}")


def _attribute(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
