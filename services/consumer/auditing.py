"""Audits by themselves, where days are dropped: one of the consumers makes each, in a process of its own.

It is the command, `telemetry audit --record --retain`, with the settings of this consumer: it is on a floor
above ours, and what it takes of memory is given back. Who makes it says so in the store first, so that the
others don't. Killed in between, the next one is made after the interval.
"""

import json
import logging
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from services.consumer.programs import python
from services.contract.consuming.retention import Retention
from services.contract.errors import PipelineError

COMMAND: Final = tuple(python("services.ops", "audit", "--json", "--record", "--retain"))
_LONGEST_LOOK_S: Final = 60.0
"""Between two looks whether an audit is due."""
_LOOKS: Final = 10
"""How many there are in an interval, where that is short."""
_END_S: Final = 5.0
_SLICE_S: Final = 0.25
_MOST_TOLD: Final = 500
"""Characters of what the command has said."""


class Auditor:
    """Looks whether an audit is due until it is closed. `now` in Unix seconds."""

    def __init__(
        self,
        retention: Retention,
        interval_s: float,
        now: Callable[[], float],
        logger: logging.Logger,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._retention = retention
        self._interval_s = interval_s
        self._now = now
        self._logger = logger
        self._command = command
        self._asked_to_end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="auditor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, and the audit that is under way: what that has written and dropped is whole."""
        self._asked_to_end.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._asked_to_end.wait(min(_LONGEST_LOOK_S, self._interval_s / _LOOKS)):
            try:
                if self._retention.claim_audit(self._now(), self._interval_s):
                    self._audit()
            except PipelineError as error:
                self._logger.warning("audit_not_made", extra={"error": str(error)})
            except OSError as error:  # no process can be started
                self._logger.warning("audit_not_made", extra={"error": str(error.strerror or error)})

    def _audit(self) -> None:
        with subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            while True:
                try:
                    out, told = process.communicate(timeout=_SLICE_S)
                    break
                except subprocess.TimeoutExpired:
                    if self._asked_to_end.is_set():
                        process.kill()
        if self._asked_to_end.is_set():
            return
        try:
            self._tell(json.loads(out))
        except (ValueError, KeyError, TypeError):
            self._logger.warning("audit_not_made", extra={"error": told.strip()[-_MOST_TOLD:]})

    def _tell(self, found: dict[str, Any]) -> None:
        names = ("published", "stored", "dead", "expired", "missing")
        self._logger.info("audited", extra={name: found[name] for name in names})
        for problem in found["problems"]:
            self._logger.warning("audit_proves_nothing", extra={"error": str(problem)})
        kept = found["retention"]
        if kept["rows"]:
            self._logger.info(
                "days_dropped", extra={"days": kept["days"], "rows": kept["rows"], "before": kept["before"]}
            )
        if kept["waits"]:
            self._logger.warning("retention_waits", extra={"day": kept["waiting_day"], "why": kept["waits"]})
