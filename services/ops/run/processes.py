"""The processes of `telemetry run`: a producer and consumers, each with its log.

    DATA_DIR/logs/NAME.jsonl        the JSON logs of each process
    DATA_DIR/observe/targets.json   where each serves its metrics (targets.py)

Imports nothing heavy: the processes are started, and have loaded, before this one loads what it needs to
watch them.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

from services.consumer.programs import python
from services.ops.run.targets import hold_targets, remove_targets, write_targets
from services.ops.server.child import start_child
from services.runtime.own_files import open_own
from services.runtime.redact import shortened

_GRACE_S: Final = 20.0
"""How long a process may take to end after SIGTERM."""
_FIRST_METRICS_PORT: Final = 9100
_LOADING_S: Final = 3.0
"""How long the processes are left alone to load."""
_LONGEST_WORDS: Final = 1000
"""Characters of a line that is none of the log: it may be anything."""
_LOOK_S: Final = 0.02
"""Time between two looks whether they have."""


class RunFailed(Exception):
    """The pipeline can't run; the message says why, and `exit_code` is that of the process at fault.

    `details` are the last words of that process.
    """

    def __init__(self, message: str, exit_code: int, details: Sequence[str]) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.details = details


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run."""

    replicas: int
    producer_options: Sequence[str]
    """As for `python -m services.producer`."""
    batch_size: int
    """Of the consumers."""
    environment: Mapping[str, str]
    """For all processes; METRICS_HOST is in it."""


@dataclass(slots=True)
class Child:
    """A process of the pipeline, and its log."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    metrics_port: int
    """Where it serves its metrics; 0: nowhere."""
    process: subprocess.Popen[bytes] = field(init=False)
    restarts: int = 0
    _shown: int = 0

    def start(self) -> None:
        """Start it; its log goes on where it was."""
        with os.fdopen(open_own(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
            reads_ours = "-" in self.command  # --from -
            self.process = start_child(
                self.command, log, self.environment, None if reads_ours else subprocess.DEVNULL
            )

    def has_ended(self) -> bool:
        """Tell whether it runs no more."""
        return self.process.poll() is not None

    def has_spoken(self) -> bool:
        """Tell whether it is past its start: it has logged something, or runs no more."""
        return self.log.stat().st_size > 0 or self.has_ended()

    def new_lines(self) -> str:
        """Give what it has logged since the last time."""
        with self.log.open("rb") as log:
            log.seek(self._shown)
            text = log.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._shown += len(complete)
        return complete.decode(errors="replace")

    def failure(self) -> RunFailed:
        """Say why it ended, by its last words."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        words = [word for line in lines for word in _words(line)]
        return RunFailed(f"the {self.name} ended:", self.process.returncode, words)


class Processes:
    """The producer and the consumers, from the start to the end of a `with`.

    Until they are stopped, SIGINT, SIGTERM and SIGHUP end nothing by themselves: they are counted in
    `asked_to_stop`, the first for «publish no more», the second for «stop at once», the third for «kill».
    """

    def __init__(self, plan: Plan, data_dir: Path) -> None:
        self.asked_to_stop = 0
        self._handlers: dict[signal.Signals, Any] = {}
        self._data_dir = data_dir
        logs = data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.consumers = [
            self._child(
                f"consumer-{number}",
                python("services.consumer"),
                _consumer_environment(plan, number),
                logs,
                ("CONSUMER_METRICS_PORT", _FIRST_METRICS_PORT + number),
            )
            for number in range(1, plan.replicas + 1)
        ]
        self.producer = self._child(
            "producer",
            python("services.producer", *plan.producer_options),
            plan.environment,
            logs,
            ("PRODUCER_METRICS_PORT", _FIRST_METRICS_PORT),
        )
        self.all = (self.producer, *self.consumers)

    @staticmethod
    def _child(
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        logs: Path,
        port: tuple[str, int],
    ) -> Child:
        """Make a process; `port` is the setting of its metrics' port, and the one it takes where it can."""
        setting, wanted = port
        free = _free_port(environment["METRICS_HOST"], wanted)
        return Child(
            name,
            command,
            {**environment, "LOG_FORMAT": "json", setting: str(free)},
            logs / f"{name}.jsonl",
            free,
        )

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._ask)
        for child in self.all:
            os.close(open_own(child.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        for child in self.all:
            child.start()
        self._held = hold_targets(self._data_dir)
        write_targets(
            self._data_dir,
            {child.name: child.metrics_port for child in self.all},
            self.producer.environment["METRICS_HOST"],
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        remove_targets(self._data_dir)
        os.close(self._held)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        # At once, and not when the loop comes round: it may wait for a server that does not answer.
        self.asked_to_stop += 1
        for child in self.all if self.asked_to_stop > 1 else (self.producer,):
            if hasattr(child, "process") and not child.has_ended():
                child.process.send_signal(signal.SIGKILL if self.asked_to_stop > 2 else signal.SIGTERM)

    def let_load(self) -> None:
        """Wait until each process has logged something or has ended: until then they need the processors."""
        deadline = time.monotonic() + _LOADING_S
        while time.monotonic() < deadline and not all(child.has_spoken() for child in self.all):
            time.sleep(_LOOK_S)

    def stop(self, *, in_order: bool = True) -> None:
        """Stop the producer, then the consumers; each settles what it holds. A signal ends us again then.

        Not `in_order`: all at once, since none has begun.
        """
        for children in ([self.producer], self.consumers) if in_order else (self.all,):
            running = [child for child in children if hasattr(child, "process") and not child.has_ended()]
            for child in running:
                child.process.terminate()
            deadline = time.monotonic() + _GRACE_S
            for child in running:
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.process.kill()  # what it held stays pending: the audit shows it
                    child.process.wait()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


def _consumer_environment(plan: Plan, number: int) -> dict[str, str]:
    return {
        **plan.environment,
        "CONSUMER_NAME": f"consumer-{number}",
        "CONSUMER_RUN_DURATION": "0",
        "BATCH_SIZE": str(plan.batch_size),
    }


def _free_port(host: str, wanted: int) -> int:
    """Give the wanted port of a host, or another one where it is taken."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError, UnicodeError):
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.create_server(address[:2], family=family) as probe:
                return int(probe.getsockname()[1])
    return wanted  # the process says what is wrong with the host


def _words(line: str) -> Sequence[str]:
    """Give the error in a JSON log line, none where it tells none; other lines as they are."""
    try:
        told = json.loads(line)
        # Of settings each error is a line of its own; elsewhere a line feed is somebody else's.
        words = told["error"].split("\n") if told["message"] == "settings_unusable" else [str(told["error"])]
    except KeyError:
        return ()
    except (ValueError, TypeError, AttributeError, RecursionError):
        words = [shortened(line, _LONGEST_WORDS)] if line.strip() else []
    return [f"  {word}" for word in words]
