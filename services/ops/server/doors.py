"""The broker, opened for one command."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated, NamedTuple

import typer

from services.brokers.choice import operator_side
from services.brokers.operating.side import OperatorSide
from services.contract.errors import BrokerUnavailable
from services.ops.failures import CommandFailed
from services.ops.server.own import reachable
from services.runtime.settings import ConsumerSettings, Sources

StartServer = Annotated[
    bool,
    typer.Option(
        "--start-server", help="If no server runs in DATA_DIR, start ours for as long as this takes."
    ),
]


class Server(NamedTuple):
    """A broker that can be asked, and the settings that lead to it."""

    side: OperatorSide
    settings: ConsumerSettings


@contextmanager
def open_server(settings: ConsumerSettings, sources: Sources, *, may_start: bool = False) -> Iterator[Server]:
    """Open the server of the settings, or the one that runs here.

    `may_start`: where none does, our own is started for the time being; what only reads does not.
    Raises CommandFailed when it can't be reached, or breaks off.
    """
    with (
        reachable(settings, sources, may_start=may_start) as found,
        closing(operator_side(found)) as side,
    ):
        try:
            side.greet()
            yield Server(side, found)
        except BrokerUnavailable as error:
            raise CommandFailed(str(error), 2) from error
