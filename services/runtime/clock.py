"""Time, passed in: the wall clock for what is stored, the monotonic one for intervals."""

import math
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
    """The machine's clocks. `stop` ends every sleep, now and from then on.

    `run_duration_s`: after this time the process is asked to stop, too; 0: never.
    """

    def __init__(self, run_duration_s: float = 0.0) -> None:
        self._stopping = False
        self._ends = time.monotonic() + run_duration_s if run_duration_s > 0 else math.inf
        self._awake, self._wake = os.pipe()

    def stop(self) -> None:
        """Ask the process to stop. Safe in a signal handler."""
        # A pipe and no threading.Event: its lock may be held by the very thread that the signal
        # interrupts.
        self._stopping = True
        os.write(self._wake, b".")

    def is_stopping(self) -> bool:
        """Tell whether the process was asked to stop."""
        return self._stopping or time.monotonic() >= self._ends

    def now(self) -> float:
        """Tell Unix seconds, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Tell seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, unless the process is asked to stop."""
        remaining = max(0.0, self._ends - time.monotonic())
        select.select([self._awake], [], [], min(seconds, remaining))
