"""The start of `telemetry run`: what it writes to has to be there, or it says what is waited for, and ends.

What only a change ends (a wrong name, a wrong password) ends it at once. What may pass by itself (a server
that starts, an address that does not answer) is waited for, for a few seconds: a person sits before it, and
a service that has begun waits for as long as it takes.
"""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from services.brokers.choice import operator_side
from services.contract.errors import PipelineError, SinkUnusable
from services.ops.failures import CommandFailed
from services.ops.output.output import remark
from services.runtime.settings import ConsumerSettings
from services.stores.blank import refuse_blank
from services.stores.choice import store_of

LIMIT_S: Final = 10.0
_QUIET_S: Final = 1.0
"""What is there within this time needs no word."""
_SLICE_S: Final = 0.05
_PAUSE_S: Final = 0.5


def see_broker(settings: ConsumerSettings) -> None:
    """See that the broker can be asked. Raises CommandFailed."""

    def greet() -> None:
        with closing(operator_side(settings)) as side:
            side.greet()

    see(greet, f"the broker at {settings.broker_address}", "BROKER_URL, REDIS_HOST, REDIS_PORT")


def see_store(settings: ConsumerSettings) -> None:
    """See that the store takes rows. Raises CommandFailed, and SettingsInvalid."""
    store = store_of(settings)
    see(store.see_usable, store.place, "DATABASE_URL, PGHOST, PGPORT")


def see_begin(settings: ConsumerSettings) -> None:
    """See that the store need not be filled first. Raises CommandFailed, and SettingsInvalid."""
    store = store_of(settings)

    def look() -> None:
        with closing(operator_side(settings.as_operator())) as side:
            refuse_blank(settings, store, side.settled)

    see(look, store.place, "DATABASE_URL, PGHOST, PGPORT")


def see(look: Callable[[], None], place: str, named: str) -> None:
    """Look until it goes well, for LIMIT_S at most. Raises CommandFailed.

    It looks in a thread, so that Ctrl-C ends it, whatever the thread waits for. `named`: the settings that
    lead there.
    """
    ends = time.monotonic() + LIMIT_S
    quiet_until = time.monotonic() + _QUIET_S
    is_told = False
    why = f"{place}: no answer; check host, port and firewall ({named})"

    def tell(what: str) -> None:
        nonlocal is_told
        if not is_told:
            remark(f"waiting for {place}, {LIMIT_S:g} s at most: {what.removeprefix(f'{place}: ')}")
        is_told = True

    while True:
        attempt = _Attempt(look)
        while not attempt.is_over(_SLICE_S):
            if time.monotonic() > ends:
                raise CommandFailed(f"{why}; waited {LIMIT_S:g} s", 2)
            if time.monotonic() > quiet_until:
                tell("it has not answered yet")
        error = attempt.error
        if error is None:
            return
        if not isinstance(error, PipelineError):
            raise error
        why = str(error)
        if error.lasts or isinstance(error, SinkUnusable):
            raise CommandFailed(why, 2)
        tell(why)
        if time.monotonic() + _PAUSE_S > ends:
            raise CommandFailed(f"{why}; waited {LIMIT_S:g} s", 2)
        time.sleep(_PAUSE_S)


class _Attempt:
    """One look, in a thread of its own."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._over = threading.Event()
        self.error: BaseException | None = None
        threading.Thread(target=self._run, name="look", daemon=True).start()

    def is_over(self, wait_s: float) -> bool:
        """Wait so long; tell whether it is over."""
        return self._over.wait(wait_s)

    def _run(self) -> None:
        try:
            self._look()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self.error = error
        self._over.set()
