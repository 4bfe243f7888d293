"""The command line: options that stand for settings, and those of reading a file. Every error at once."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, cast

from services.contract.attributes import MAX_ATTRIBUTES, MAX_NAME_CHARS
from services.contract.producing.outgoing import FIELD_NAMES, TRACE_NAMES
from services.producer.files.inputs import STANDARD_INPUT
from services.producer.files.reading import Reading
from services.producer.files.texts import FORMATS, TS_UNITS, UNIT, Format, Mapped, TsUnit
from services.runtime.settings import ProducerSettings, SettingsInvalid, Sources, load, read_sources

_SETTINGS: Final = {
    "--rate": ("RATE", "events a second"),
    "--duration": ("PRODUCER_RUN_DURATION", "seconds to publish; 0: for ever"),
    "--batch-size": ("BATCH_SIZE", "events in one round trip"),
    "--sleep-interval": ("SLEEP_INTERVAL", "seconds between batches, without --rate"),
    "--seed": ("SEED", "for a repeatable run"),
    "--invalid-ratio": ("INVALID_RATIO", "share of invalid events, 0 to 1"),
    "--duplicate-ratio": ("DUPLICATE_RATIO", "share of events published twice, 0 to 1"),
    "--device-count": ("DEVICE_COUNT", "devices that are simulated"),
    "--zone-count": ("ZONE_COUNT", "zones that they are spread over"),
}
_FILE_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Told:
    """All that a producer is told."""

    settings: ProducerSettings
    reading: Reading | None
    batch_size: int
    sleep_interval_s: float
    duration_s: float


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsInvalid([message])


def read_options(arguments: Sequence[str]) -> Told:
    """Read the command line, the environment and `.env`.

    Raises SettingsInvalid with every error, and SystemExit(0) after --help.
    """
    given = _parser().parse_args(list(arguments))
    errors: list[str] = []
    reading = _reading(given, errors)
    options = {
        name: text
        for option, (name, _) in _SETTINGS.items()
        if (text := getattr(given, option[2:].replace("-", "_"))) is not None
    }
    sources = read_sources(options=options)
    try:
        settings = load(ProducerSettings, sources)
    except SettingsInvalid as error:
        raise SettingsInvalid([*errors, *error.errors]) from None
    errors += [f"{name}: give a value" for name, text in options.items() if text == ""]
    told = _told(settings, sources, reading)
    if settings.stream_max_length and told.batch_size > settings.stream_max_length:
        errors.append(
            f"BATCH_SIZE={told.batch_size}: more than STREAM_MAX_LENGTH={settings.stream_max_length}, "
            "so a batch would never fit; lower it, or raise that"
        )
    if errors:
        raise SettingsInvalid(errors)
    return told


def _told(settings: ProducerSettings, sources: Sources, reading: Reading | None) -> Told:
    batch, pause, duration = settings.batch_size, settings.sleep_interval, settings.producer_run_duration
    if reading is not None:
        # A file is read to its end, as fast as it goes, unless somebody says otherwise.
        if not (sources.find("BATCH_SIZE") or sources.find("SLEEP_INTERVAL")):
            most = settings.stream_max_length or _FILE_BATCH
            batch, pause = min(_FILE_BATCH, most), 0.0
        if not sources.find("PRODUCER_RUN_DURATION"):
            duration = 0.0
    return Told(settings, reading, batch, pause, duration)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m services.producer",
        description="Publish generated telemetry, or the events of a file. Every setting is also an "
        "environment variable.",
        allow_abbrev=False,
    )
    for option, (name, meaning) in _SETTINGS.items():
        parser.add_argument(option, metavar="N", help=f"{meaning} ({name})")
    parser.add_argument("--from", dest="source", metavar="FILE", help="JSON lines or CSV; -: standard input")
    parser.add_argument("--format", metavar="FORMAT", help="csv or jsonl; otherwise by the file's name")
    parser.add_argument(
        "--map", action="append", default=[], metavar="OURS=THEIRS", help="such as device_id=sensor,ts=time"
    )
    parser.add_argument(
        "--const", action="append", default=[], metavar="OURS=TEXT", help="value of a missing field"
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="THEIRS",
        help="columns kept as attributes: firmware,status",
    )
    parser.add_argument("--ts-unit", metavar="UNIT", help="of their times as numbers: s, ms, us or ns")
    parser.add_argument("--resume", action="store_true", help="go on with the file where it stopped")
    return parser


def _reading(given: argparse.Namespace, errors: list[str]) -> Reading | None:
    columns = _pairs("--map", [part for text in given.map for part in text.split(",")], errors)
    constants = _pairs("--const", given.const, errors)
    errors += [f"--map and --const both give {name}" for name in columns if name in constants]
    if "event_id" in constants:
        errors.append("--const event_id: each event has an id of its own")
    if given.format is not None and given.format not in FORMATS:
        errors.append(f"--format {given.format}: one of {', '.join(FORMATS)}")
    keep = dict.fromkeys(name for text in given.keep for part in text.split(",") if (name := part.strip()))
    if given.keep and not keep:
        errors.append("--keep: name the columns, such as --keep firmware,status")
    if len(keep) > MAX_ATTRIBUTES:
        errors.append(f"--keep: {len(keep)} columns; an event has at most {MAX_ATTRIBUTES} attributes")
    errors += [
        f"--keep {name[:MAX_NAME_CHARS]}...: an attribute's name has at most {MAX_NAME_CHARS} characters"
        for name in keep
        if len(name) > MAX_NAME_CHARS
    ]
    unit = "s" if given.ts_unit is None else given.ts_unit
    if unit not in TS_UNITS:
        errors.append(f"--ts-unit {unit}: one of {', '.join(TS_UNITS)}")
    if given.source is None:
        for option in ("map", "const", "keep", "format", "ts_unit", "resume"):
            if getattr(given, option):
                errors.append(f"--{option.replace('_', '-')}: only together with --from FILE")
        return None
    if given.resume and given.source == STANDARD_INPUT:
        errors.append("--resume: standard input can't be read again; name a file with --from")
    mapped = Mapped(columns, constants, cast("TsUnit", unit), tuple(keep))
    return Reading(given.source, mapped, cast("Format | None", given.format), given.resume)


def _pairs(option: str, texts: Sequence[str], errors: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        names = (*FIELD_NAMES, *(TRACE_NAMES if option == "--map" else ()), UNIT)
        if not equals or name not in names or (option == "--map" and not value.strip()):
            errors.append(f"{option} {text}: write FIELD=..., FIELD one of {', '.join(names)}")
        elif name in pairs:
            errors.append(f"{option} {name}: given twice")
        else:
            pairs[name] = value.strip() if option == "--map" else value
    return pairs
