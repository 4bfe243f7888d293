"""How a service is asked to stop, and how it stops whatever it is in the middle of.

SIGTERM, SIGINT and SIGHUP ask for the orderly end: finish what is in hand, read nothing more. (SIGHUP is
left ignored where it is already, as by `nohup`.) Python runs a handler between two steps of its own, so a
call that does not return (a name that is looked up, a slow disk, a step in a loop) keeps the process deaf.
A thread hears the signal all the same. Where nothing is in hand it ends the process. Where something is, it
says what is waited for; a second Ctrl-C ends that as well, which is no worse than SIGKILL: what is not
acknowledged stays pending.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Final, NoReturn

from services.runtime.clock import SystemClock

_SOON_S: Final = 1.9
"""How long the orderly end may take to begin."""
_LOOK_S: Final = 0.05
_FRAMES_TOLD: Final = 4


def end_when_asked() -> None:
    """End at once when asked to, until StopSignals takes over: nothing is begun yet.

    The first process of a container would not be ended by a signal that it has no handler for.
    """
    for number in _stop_signals():
        signal.signal(number, lambda *_: os._exit(0))


class StopSignals:
    """Hears the signals that ask to stop. As a context it is how long something is in hand."""

    def __init__(self, clock: SystemClock, logger: logging.Logger) -> None:
        self._logger = logger
        self._in_hand = 0
        self._main = threading.get_ident()
        self._heard, wake = os.pipe()
        os.set_blocking(wake, False)
        for number in _stop_signals():
            signal.signal(number, lambda *_: clock.stop())
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="stopping", daemon=True).start()

    def __enter__(self) -> None:
        self._in_hand += 1

    def __exit__(self, *_: object) -> None:
        self._in_hand -= 1

    def ending(self) -> None:
        """Say that the orderly end has begun: it takes the time that it takes."""
        self._in_hand += 1

    def _watch(self) -> None:
        self._next_signal()
        threading.Thread(target=self._watch_for_another, name="stopping-now", daemon=True).start()
        asked_at = idle_since = time.monotonic()
        is_told = False
        while (now := time.monotonic()) - idle_since < _SOON_S:
            if self._in_hand:
                idle_since = now
            if self._in_hand and now - asked_at >= _SOON_S and not is_told:
                is_told = True
                self._logger.warning("stop_waits", extra={"where": self._where()})
            time.sleep(_LOOK_S)
        self._end("nothing was in hand", 0)

    def _watch_for_another(self) -> None:
        """End at a second Ctrl-C: whoever types it has waited long enough."""
        while self._next_signal() != signal.SIGINT:
            pass
        if self._in_hand:
            self._end("what was in hand is not finished; it stays pending, and nothing is lost", 1)
        self._end("nothing was in hand", 0)

    def _next_signal(self) -> int:
        while (number := os.read(self._heard, 1)[0]) not in _ASKING:
            pass
        return number

    def _end(self, hint: str, code: int) -> NoReturn:
        self._logger.warning("stop_forced", extra={"where": self._where(), "hint": hint})
        os._exit(code)

    def _where(self) -> list[str]:
        """Tell where the main thread is, the innermost call first."""
        frame = sys._current_frames().get(self._main)  # noqa: SLF001 - there is no other way
        stack = traceback.extract_stack(frame)[::-1]
        return [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in stack[:_FRAMES_TOLD]]


_ASKING: Final = tuple(
    number for name in ("SIGTERM", "SIGINT", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)


def _stop_signals() -> list[signal.Signals]:
    """Give those that ask to stop; not SIGHUP where whoever started us has it ignored."""
    return [
        number
        for number in _ASKING
        if number in {signal.SIGTERM, signal.SIGINT} or signal.getsignal(number) != signal.SIG_IGN
    ]
