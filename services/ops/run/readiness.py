"""Whether the processes of `telemetry run` have begun, by what each says on /readyz.

What keeps the services from their work shows there, whatever it is: a right that a user lacks, a server that
is full, a file that somebody has locked. They wait for it as long as it takes; a person need not.
"""

import http.client
import time
from collections.abc import Callable, Sequence
from typing import Final

from services.ops.run.processes import Child, Processes, RunFailed
from services.ops.run.start import LIMIT_S

_TIMEOUT_S: Final = 1.0
_INTERVAL_S: Final = 0.25
_LOADING: Final = "start: starting"
_MOST_BYTES: Final = 65_536


class Readiness:
    """Asks the producer and the consumers until they have begun. `ask` says why a process is not ready."""

    def __init__(
        self,
        processes: Processes,
        remark: Callable[[str], None],
        ask: Callable[[Child], str | None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts: list[_Part] = [_Part((processes.producer,)), _Part(tuple(processes.consumers))]
        self._remark = remark
        self._ask = ask or why_not_ready
        self._now = now
        self._next = 0.0

    @property
    def why_waiting(self) -> str | None:
        """Say what keeps a part from its begin; None where nothing is known to."""
        return next((part.why for part in self._parts if part.why), None)

    def look(self) -> None:
        """Ask again, when it is time. Raises RunFailed for what can't begin for too long."""
        now = self._now()
        if now < self._next:
            return
        self._next = now + _INTERVAL_S
        for part in self._parts:
            if not part.has_begun:
                self._look_at(part, now)

    def failure(self) -> RunFailed:
        """Say which part can't begin."""
        part = next(part for part in self._parts if part.why)
        return RunFailed(f"the {part.name} can't begin:", 2, [f"  {part.why}"])

    def _look_at(self, part: "_Part", now: float) -> None:
        """Ask processes that share their work: it is enough that one of them can begin."""
        reasons = [self._ask(child) for child in part.children if not child.has_ended()]
        part.has_begun = "" in reasons
        if part.has_begun or not reasons or None in reasons:  # None: it loads, or can't be asked
            part.why = ""
            return
        is_new, part.why = not part.why, str(reasons[0])
        if is_new:
            part.since = now
            self._remark(f"the {part.name} waits: {part.why}; {LIMIT_S:g} s at most")
        elif now - part.since > LIMIT_S:
            raise self.failure()


class _Part:
    """Processes of one kind."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = children
        names = [child.name for child in children]
        self.name = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        self.has_begun = False
        self.why = ""
        self.since = 0.0


def why_not_ready(child: Child) -> str | None:
    """Say why a process is not ready: empty where it is, None where it only loads or can't be asked."""
    if not child.metrics_port:
        return None
    host = child.environment["METRICS_HOST"]
    connection = http.client.HTTPConnection(host, child.metrics_port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(_MOST_BYTES).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return ""
    return text.removeprefix(_LOADING).removeprefix("; ") or None
