"""Whether traces, logs and metrics are wanted, by OpenTelemetry's standard variables; and their start.

    OTEL_SDK_DISABLED=true                       off, whatever else is set
    OTEL_TRACES_EXPORTER=none                    off
    OTEL_TRACES_EXPORTER=otlp                    on
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or
    OTEL_EXPORTER_OTLP_ENDPOINT is set           on
    none of them                                 off

    OTEL_LOGS_EXPORTER=otlp                      logs are sent as well; off without it, whatever else is set
    OTEL_METRICS_EXPORTER=otlp                   metrics are sent as well; off without it, as logs

The specification has `otlp` as the exporter's default, so that a program traces unless it is told not to.
Here it has to be told where to: without a collector every process would complain about its absence.

Off means that nothing of OpenTelemetry is imported by us. All other OTEL_* variables are the SDK's own.
"""

import logging
import os
from typing import Protocol

from services.runtime.logs.gate import Writer
from services.runtime.settings import SettingsInvalid, Sources
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.spans import Spans


class Sender(Protocol):
    """What sends by itself, until it is closed."""

    def close(self) -> None:
        """Send what is left, within two seconds."""
        ...


def is_wanted(sources: Sources) -> bool:
    """Tell whether traces are switched on. Raises SettingsInvalid for an exporter that we don't have."""
    if _said(sources, "OTEL_SDK_DISABLED") == "true":
        return False
    exporter = _said(sources, "OTEL_TRACES_EXPORTER")
    if exporter not in {"", "otlp", "none"}:
        raise SettingsInvalid([f"OTEL_TRACES_EXPORTER={exporter}: one of otlp, none"])
    if exporter:
        return exporter == "otlp"
    return bool(
        _said(sources, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or _said(sources, "OTEL_EXPORTER_OTLP_ENDPOINT")
    )


def open_spans(service: str, instance: str, sources: Sources, logger: logging.Logger) -> Spans | None:
    """Give where spans go, or None where traces are off; then nothing of OpenTelemetry is loaded.

    `service` and `instance` name the process where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES don't.
    Raises SettingsInvalid.
    """
    if not is_wanted(sources):
        return None
    _show_to_sdk(sources)
    from services.runtime.otlp import tracing  # noqa: PLC0415 - a third of a second, for those who asked for it

    return tracing.start(service, instance, logger)


def open_log_sender(service: str, instance: str, sources: Sources, logger: logging.Logger) -> Writer | None:
    """Give where log lines go beside standard output, or None; nothing of OpenTelemetry is loaded then.

    Raises SettingsInvalid.
    """
    if not _is_asked_for(sources, "OTEL_LOGS_EXPORTER"):
        return None
    _show_to_sdk(sources)
    from services.runtime.otlp import logs  # noqa: PLC0415 - as above

    return logs.start(service, instance, logger)


def open_metric_sender(
    service: str, instance: str, sources: Sources, metrics: Metrics, logger: logging.Logger
) -> Sender | None:
    """Send metrics beside serving them, or None; nothing of OpenTelemetry is loaded then.

    Raises SettingsInvalid.
    """
    if not _is_asked_for(sources, "OTEL_METRICS_EXPORTER"):
        return None
    _show_to_sdk(sources)
    from services.runtime.otlp import metrics as otlp_metrics  # noqa: PLC0415 - as above

    return otlp_metrics.start(service, instance, metrics, logger)


def _is_asked_for(sources: Sources, variable: str) -> bool:
    """Tell whether a signal is switched on that has another way out: an endpoint alone does not."""
    exporter = _said(sources, variable)
    if exporter not in {"", "otlp", "none"}:
        raise SettingsInvalid([f"{variable}={exporter}: one of otlp, none"])
    return exporter == "otlp" and _said(sources, "OTEL_SDK_DISABLED") != "true"


def _show_to_sdk(sources: Sources) -> None:
    """Put what stands in `.env` below the environment, as for ours: the SDK reads nothing else."""
    for name, value in sources.file.items():
        if name.startswith("OTEL_") and not os.environ.get(name):
            os.environ[name] = value


def _said(sources: Sources, name: str) -> str:
    found = sources.find(name)
    return "" if found is None else found[0].strip().lower()
