"""Whether traces are wanted, by OpenTelemetry's standard variables; and their start where they are.

    OTEL_SDK_DISABLED=true                       off, whatever else is set
    OTEL_TRACES_EXPORTER=none                    off
    OTEL_TRACES_EXPORTER=otlp                    on
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or
    OTEL_EXPORTER_OTLP_ENDPOINT is set           on
    none of them                                 off

The specification has `otlp` as the exporter's default, so that a program traces unless it is told not to.
Here it has to be told where to: without a collector every process would complain about its absence.

Off means that nothing of OpenTelemetry is imported by us. All other OTEL_* variables are the SDK's own.
"""

import logging
import os

from services.runtime.settings import SettingsInvalid, Sources
from services.runtime.spans import Spans


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
    # The SDK reads the environment and nothing else; what stands in `.env` is below it, as for ours.
    for name, value in sources.file.items():
        if name.startswith("OTEL_") and not os.environ.get(name):
            os.environ[name] = value
    from services.runtime import tracing  # noqa: PLC0415 - a third of a second, for those who asked for it

    return tracing.start(service, instance, logger)


def _said(sources: Sources, name: str) -> str:
    found = sources.find(name)
    return "" if found is None else found[0].strip().lower()
