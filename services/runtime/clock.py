"""Time, passed in: the wall clock for what is stored, the monotonic one for intervals."""

import os
import select
import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time, and lets it pass."""

    def now(self) -> float:
        """Tell Unix seconds, UTC."""
        ...

    def monotonic(self) -> float:
        """Tell seconds that never go back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass; returns early when the process is asked to stop."""
        ...

    def is_stopping(self) -> bool:
        """Tell whether the process was asked to stop."""
        ...


class SystemClock:
    """The machine's clocks. `stop` ends every sleep, now and from then on."""

    def __init__(self) -> None:
        self._stopping = False
        self._awake, self._wake = os.pipe()

    def stop(self) -> None:
        """Ask the process to stop. Safe in a signal handler."""
        # A pipe and no threading.Event: its lock may be held by the very thread that the signal
        # interrupts.
        self._stopping = True
        os.write(self._wake, b".")

    def is_stopping(self) -> bool:
        """Tell whether the process was asked to stop."""
        return self._stopping

    def now(self) -> float:
        """Tell Unix seconds, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Tell seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, unless the process is asked to stop."""
        select.select([self._awake], [], [], seconds)
