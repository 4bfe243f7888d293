"""The broker, opened for one command."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Annotated, Final, NamedTuple

import typer

from services.brokers.choice import operator_side
from services.brokers.operating.side import OperatorSide
from services.contract.errors import BrokerUnavailable, SinkUnavailable
from services.ops.failures import CommandFailed
from services.ops.server.own import reachable
from services.runtime.settings import ConsumerSettings, Sources

LOOK_S: Final = 0.2
"""Time between two looks whether what is waited for is there."""

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


def wait_for(ask: Callable[[], object], at_most_s: float) -> None:
    """Ask until there is an answer: the network lets a new pod in a moment after it has started.

    Raises what was raised last, BrokerUnavailable or SinkUnavailable, when that takes longer.
    """
    deadline = time.monotonic() + at_most_s
    while True:
        try:
            ask()
        except (BrokerUnavailable, SinkUnavailable):
            if time.monotonic() >= deadline:
                raise
        else:
            return
        time.sleep(LOOK_S)


@contextmanager
def open_server(
    settings: ConsumerSettings, sources: Sources, *, may_start: bool = False, wait_s: float = 0
) -> Iterator[Server]:
    """Open the server of the settings, or the one that runs here.

    `may_start`: where none does, our own is started for the time being; what only reads does not.
    `wait_s`: how long to try. Raises CommandFailed when it can't be reached, or breaks off.
    """
    with (
        reachable(settings, sources, may_start=may_start) as found,
        closing(operator_side(found)) as side,
    ):
        try:
            wait_for(side.greet, wait_s)
            yield Server(side, found)
        except BrokerUnavailable as error:
            raise CommandFailed(str(error), 2) from error
