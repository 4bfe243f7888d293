"""`telemetry publish`: one event by options, or JSON lines from standard input, as by HTTP."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Annotated, Any, BinaryIO, Final

import typer

from services.brokers.choice import producer_side
from services.brokers.producing.side import ProducerTools
from services.contract.errors import BrokerRefuses, Stopping
from services.contract.producing.outgoing import Numbering
from services.contract.producing.publishing import Publisher
from services.ops.failures import CommandFailed
from services.ops.output.output import AsJson, answer, remark
from services.ops.run.start import see_broker
from services.ops.server.own import is_external, not_running, running
from services.producer.mapping.mapped import Mapped
from services.producer.spellings import Spellings
from services.producer.taking.desk import MOST_TOGETHER, Bundle, Desk
from services.producer.taking.making import MOST_NAMED, JsonMaker, Made, Refused, Rules
from services.runtime.clock import SystemClock
from services.runtime.health import Health
from services.runtime.screen import answer_json
from services.runtime.settings import ConsumerSettings, ProducerSettings, Sources, load, read_sources
from services.runtime.telemetry.metrics import Metrics

_SOURCE: Final = "publish"
_LONGEST: Final = 1 << 22
"""Bytes of a line: the largest event is a quarter of it by default."""
_CHUNK: Final = 1 << 16
_READINGS_A_LINE: Final = 100
_CONNECTION: Final = tuple(
    f"redis_{name}" for name in ("host", "port", "username", "password", "password_file", "tls")
)

_Lines = list[tuple[int, bytes]]
"""Lines that are not blank, each with its number."""


def publish_command(
    device: Annotated[str | None, typer.Option(metavar="ID", help="Device of the event.")] = None,
    kpi: Annotated[str | None, typer.Option("--kpi", metavar="NAME", help="Its KPI.")] = None,
    value: Annotated[str | None, typer.Option(metavar="NUMBER", help="Its value.")] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="NAME", help="Unit of the value, if it is not the KPI's own.")
    ] = None,
    zone: Annotated[str, typer.Option(metavar="NAME", help="Its zone.")] = "default",
    ts: Annotated[
        str | None, typer.Option("--time", metavar="TIME", help="ISO 8601 or Unix seconds; left out: now.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="NAME=TEXT", help="An attribute; may be given more than once.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish one event. Without --device, --kpi and --value: the JSON lines on standard input.

    A line is an object with device_id, zone, kpi and value, and with ts if it has a time of its own
    (docs/devices.md). An event with a time is stored once, however often it is sent. Exit code 1 if a line
    was refused.
    """
    sources = read_sources()
    settings = _led(load(ProducerSettings, sources), sources)
    rules = Rules(Spellings(settings.kpis), settings.kpis, settings.max_entry_bytes, _READINGS_A_LINE)
    maker = JsonMaker(Mapped(), rules)
    wanted = {"--device": device, "--kpi": kpi, "--value": value}
    given = [name for name, text in wanted.items() if text is not None]
    if given and len(given) < len(wanted):
        raise typer.BadParameter(f"an event has {', '.join(wanted)}; given is {', '.join(given)} alone")
    if not given:
        if sys.stdin.isatty():
            remark("reading JSON lines from standard input; Ctrl-D ends it")
        lines = _lines(sys.stdin.buffer)
    else:
        event: dict[str, Any] = {
            "device_id": device,
            "zone": zone,
            "kpi": kpi,
            "value": value,
            "unit": unit,
            "ts": ts,
        }
        event["attributes"] = _attributes(attribute or []) or None
        lines = iter([[(1, json.dumps({name: one for name, one in event.items() if one}).encode())]])
    _publish(settings, maker, lines, is_one=bool(given), as_json=as_json)


def _led(settings: ProducerSettings, sources: Sources) -> ProducerSettings:
    """Give settings that lead to the broker that is named, or that runs here. Raises CommandFailed."""
    if is_external(sources):
        return settings
    here = load(ConsumerSettings, sources)
    found = running(here, sources)
    if found is None:
        raise CommandFailed(not_running(here), 2)
    return replace(settings, **{name: getattr(found, name) for name in _CONNECTION})


def _attributes(given: list[str]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in given)
    if len(pairs) < len(given) or any("=" not in text for text in given):
        raise typer.BadParameter("write NAME=TEXT, each name once", param_hint="--attribute")
    return pairs


def _lines(source: BinaryIO) -> Iterator[_Lines]:
    """Give the lines that are here together, as they come. Raises CommandFailed for one without an end."""
    number, rest = 0, b""
    while chunk := source.read1(_CHUNK):  # type: ignore[attr-defined]
        *whole, rest = (rest + chunk).split(b"\n")
        yield [(number + at, line) for at, line in enumerate(whole, 1) if line.strip()]
        number += len(whole)
        if len(rest) > _LONGEST:
            raise CommandFailed(f"line {number + 1:,} is longer than {_LONGEST:,} bytes")
    if rest.strip():
        yield [(number + 1, rest)]


class _Account:
    """What was published, and what was refused."""

    def __init__(self) -> None:
        self.published = self.duplicates = self.refused = 0
        self.named: list[Refused] = []
        self.event_id = ""

    def refuse(self, line: int, made: Made) -> None:
        """Count the refusals of a line, and name the first of all."""
        self.refused += len(made.refused_fields)
        self.named += [one._replace(position=line) for one in made.refused][: MOST_NAMED - len(self.named)]

    def document(self) -> dict[str, Any]:
        """Give it for programs."""
        return {
            "published": self.published,
            "duplicates": self.duplicates,
            "refused": self.refused,
            "refusals": [
                {"line": one.position, "field": one.field, "reason": one.reason} for one in self.named
            ],
        }


def _publish(
    settings: ProducerSettings,
    maker: JsonMaker,
    lines: Iterator[_Lines],
    *,
    is_one: bool,
    as_json: bool,
) -> None:
    """Publish what the lines say, and tell what became of it. Raises CommandFailed and Exit."""
    see_broker(replace(load(ConsumerSettings, read_sources()), **_connection(settings)))
    account = _Account()
    clock = SystemClock()
    logger = logging.getLogger("telemetry")
    tools = ProducerTools(clock, Metrics("producer"), logger, Health(60.0, clock.monotonic))
    failure = ""
    with closing(producer_side(settings, tools)) as side:
        try:
            publisher = side.publisher(side.open_run(_SOURCE))
            _send(publisher, maker, lines, account, clock)
            publisher.end()
        except BrokerRefuses as error:
            failure = str(error)
        except (KeyboardInterrupt, Stopping):
            failure = "stopped: the events in hand may be published, too"
    for one in account.named:
        remark(f"line {one.position}: {one.reason}" if not is_one else one.reason)
    if account.refused > len(account.named):
        remark(f"and {account.refused - len(account.named):,} more")
    if as_json:
        answer_json(account.document() | ({"event_id": account.event_id} if is_one else {}))
    elif is_one and account.event_id:
        again = " (it was there already)" if account.duplicates else ""
        answer(f"published {account.event_id}{again}")
    else:
        answer(f"published={account.published} duplicates={account.duplicates} refused={account.refused}")
    if failure:
        raise CommandFailed(failure, 2)
    if account.refused:
        raise typer.Exit(1)


def _connection(settings: ProducerSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in _CONNECTION}


def _send(
    publisher: Publisher,
    maker: JsonMaker,
    lines: Iterator[_Lines],
    account: _Account,
    clock: SystemClock,
) -> None:
    """Publish a line after the other, those that are here together in a few steps."""
    desk = Desk(0.0, clock.monotonic)
    numbering = Numbering(publisher.run.name, publisher.run.last)
    waiting = 0

    def publish() -> None:
        nonlocal waiting
        while waiting and (batch := desk.next_batch(MOST_TOGETHER, clock.now(), numbering)) is not None:
            sent = publisher.publish(batch)
            desk.settle("taken")
            account.published += sent.published
            account.duplicates += sent.duplicates
            account.event_id = str(batch.events[-1].fields[0 if batch.events[-1].is_plain else 1])
            waiting -= len(batch.events)

    for together in lines:
        for number, line in together:
            made = maker.lines(line)
            account.refuse(number, made)
            if made.events:
                desk.hand_in(Bundle([one for _, one in made.events], lambda _: None))
                waiting += len(made.events)
        publish()
