"""`telemetry status`: what is where, at this moment. What isn't there yet is said to be so."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated

import typer

from services.ops.failures import CommandFailed
from services.ops.output.output import AsJson, Wide, remark, show_document, watch
from services.ops.output.parts import Record
from services.ops.server.doors import LOOK_S, StartServer
from services.ops.server.own import reachable, running
from services.ops.status.looks import Looks
from services.ops.status.text import errors_of, status_line, status_parts
from services.runtime.settings import ConsumerSettings, load, read_sources


def status_command(
    watching: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="With --watch: time between two readings.")
    ] = 2.0,
    wait: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="First wait until the broker and the store answer."),
    ] = 0.0,
    start_server: StartServer = False,
    as_json: AsJson = False,
    _wide: Wide = False,
) -> None:
    """Show the main figures, the stream, groups, consumers, sink, dead letters and producer runs.

    With --watch also rates and latency since the reading before; without a terminal, one line for each
    reading. Exit code 1 if a letter or a record can't be read; 2 if the broker or the store can't be. What
    isn't there yet is no error.
    """
    sources = read_sources()
    settings = load(ConsumerSettings, sources)
    with ExitStack() as stack:
        if start_server:
            stack.enter_context(reachable(settings, sources, may_start=True))
        # Looked for at each look: the next run's server has another address.
        looks = Looks(settings, lambda: running(settings, sources))
        stack.callback(looks.close)
        if watching:
            try:
                watch(_looks(looks, interval), status_parts, status_line, as_json=as_json)
            except KeyboardInterrupt:  # the way to end it, so no error
                return
        document = _look(looks, wait)
    show_document(document, status_parts(document), as_json=as_json)
    remark(*document["dead_letters"].get("notes", ()))
    if errors := errors_of(document):
        raise CommandFailed(errors[0], 2 if _is_away(document) else 1, errors[1:])


def _look(looks: Looks, wait_s: float) -> Record:
    deadline = time.monotonic() + wait_s
    while _is_away(document := looks.look()) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    return document


def _is_away(document: Record) -> bool:
    return any("error" in document[part] for part in ("server", "database"))


def _looks(looks: Looks, interval_s: float) -> Iterator[Record]:
    while True:
        yield looks.look()
        time.sleep(interval_s)
