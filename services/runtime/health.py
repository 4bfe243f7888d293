"""What a process says about itself: whether it is alive, and whether it can do its job.

Live means that the loop turns: a process that hangs is restarted. Ready means that it can do its job
now; the reasons why not are in the answer.
"""

from collections.abc import Callable


class Health:
    """What a process says about itself. Written by the loop, read by the endpoint's threads."""

    def __init__(self, liveness_timeout_s: float, monotonic: Callable[[], float]) -> None:
        self._timeout_s = liveness_timeout_s
        self._monotonic = monotonic
        self._turned = monotonic()
        self._unready: dict[str, str] = {"start": "starting"}

    def turn(self) -> None:
        """Say that the loop has turned once more."""
        self._turned = self._monotonic()

    def started(self) -> None:
        """Say that the start is over."""
        self.clear("start")

    def fail(self, part: str, why: str) -> None:
        """Say that `part` keeps the process from its job."""
        self._unready = {**self._unready, part: why}

    def clear(self, part: str) -> None:
        """Say that `part` works."""
        if part in self._unready:
            self._unready = {name: why for name, why in self._unready.items() if name != part}

    def why(self, part: str) -> str:
        """Say why `part` keeps the process from its job; empty where it works."""
        return self._unready.get(part, "")

    def liveness(self) -> str:
        """Say why the process should be restarted; empty when it is alive."""
        idle = self._monotonic() - self._turned
        return f"the loop has not turned for {idle:.1f} s" if idle > self._timeout_s else ""

    def readiness(self) -> str:
        """Say why the process can't do its job; empty when it can."""
        return "; ".join(f"{part}: {why}" for part, why in self._unready.items())
