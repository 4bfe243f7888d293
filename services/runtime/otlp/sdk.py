"""What all signals of OpenTelemetry share: exporter, resource, the SDK's voice, and the time at the end."""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, Literal

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from services import __version__
from services.runtime.redact import know
from services.runtime.settings import SettingsInvalid

Signal = Literal["traces", "logs", "metrics"]

_TOGETHER_S: Final = 1.8
"""How long the last of all signals may take together; with what else ends the process, two seconds."""
_ONE_S: Final = 1.5
_LEAST_S: Final = 0.1
"""A signal that another one left no time has this."""

_CLASSES: Final[Mapping[Signal, tuple[str, str]]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
}
_PROTOCOLS: Final = {"http/protobuf": "http", "grpc": "grpc"}
_LOUD: Final = ("opentelemetry", "urllib3", "requests", "grpc")
"""Loggers of those who send: what they say is about the sending, and is said in our words."""
_ABOUT_LOGS: Final = re.compile(r"_log_exporter|\blogs?\b", re.IGNORECASE)
_ABOUT_METRICS: Final = re.compile(r"metric_exporter|\bmetrics?\b", re.IGNORECASE)


def make_exporter(signal: Signal) -> Any:
    """Make the exporter of the protocol that is asked for. Raises SettingsInvalid."""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := os.environ.get(variable, "").strip().lower():
            break
    else:
        protocol = "http/protobuf"
    if protocol not in _PROTOCOLS:
        raise SettingsInvalid([f"{variable}={protocol}: one of {', '.join(_PROTOCOLS)}"])
    _hide_headers()
    module, name = _CLASSES[signal]
    # Each takes a tenth of a second to load: only the one that is used.
    loaded = import_module(f"opentelemetry.exporter.otlp.proto.{_PROTOCOLS[protocol]}.{module}")
    try:
        return getattr(loaded, name)()
    except (ValueError, OSError) as error:
        raise SettingsInvalid([f"OTEL_EXPORTER_OTLP_*: {error}"]) from error


def _hide_headers() -> None:
    """Have no line show the tokens that the exporters are given."""
    for variable, text in os.environ.items():
        if variable.startswith("OTEL_EXPORTER_OTLP_") and variable.endswith("HEADERS"):
            for header in text.split(","):
                know(header.partition("=")[2].strip())


def make_resource(service: str, instance: str) -> Resource:
    """Name this process; what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say stands above it."""
    ours = {"service.name": service, "service.version": __version__, "service.instance.id": instance}
    said = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in ours.items() if name not in said})


def speak_for_senders(logger: logging.Logger) -> None:
    """Have the log say what goes wrong with the sending, in our words."""
    for name in _LOUD:
        speak_for(logging.getLogger(name), logger)


def speak_for(theirs: logging.Logger, ours: logging.Logger) -> None:
    """Have `ours` say what `theirs` complains about."""
    theirs.handlers = [_OneLine(ours)]
    theirs.propagate = False


class _OneLine(logging.Handler):
    """Writes others' warnings to our log, without tracebacks."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Say it in our words."""
        text = record.getMessage()
        about = f"{record.name} {text}"
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]}"
        if _ABOUT_METRICS.search(about):
            self._logger.warning("metrics_not_sent", extra={"error": text})
        elif _ABOUT_LOGS.search(about):
            self._logger.warning("logs_not_sent", extra={"error": text})
        else:
            self._logger.warning("spans_not_sent", extra={"error": text})


class _End:
    """When the first signal began to send its last."""

    began_at: float | None = None


def time_left_s(passed_s: float) -> float:
    """Tell how long a signal may take, where the last of those before it took `passed_s` seconds."""
    return max(_LEAST_S, min(_ONE_S, _TOGETHER_S - passed_s))


def finish(shutdown: Callable[[], object], name: str) -> float | None:
    """Have a processor send what is left, for as long as it may; gives the seconds where it was given up."""
    # Its own limit is as long as an export may take, which can't be broken off; its thread is a daemon,
    # and so is ours, so neither holds up the end of the process.
    now = time.monotonic()
    if _End.began_at is None:
        _End.began_at = now
    limit_s = time_left_s(now - _End.began_at)
    finishing = threading.Thread(target=shutdown, name=name, daemon=True)
    finishing.start()
    finishing.join(limit_s)
    return round(limit_s, 3) if finishing.is_alive() else None
