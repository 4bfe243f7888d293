"""Log lines to a collector, beside standard output, where OTEL_LOGS_EXPORTER=otlp asks for it.

The level is the severity, the message the body, the fields are attributes. Loaded by switch.py alone.
The SDK has logs in modules that are not yet stable (`_logs`): what we need of them is all here.
"""

import logging
from typing import Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from services import __version__
from services.runtime.logs.fields import Fields
from services.runtime.otlp.sdk import finish, make_exporter, make_resource, speak_for_senders

_SEVERITIES: Final = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}
# What the data model has fields of its own for, or the resource.
_ELSEWHERE: Final = {"asctime", "name", "levelname", "message", "trace_id", "span_id", "service", "version"}
_NAMES: Final = {"exc_info": "exception.stacktrace", "pod": "k8s.pod.name"}


class OTelLogs:
    """Sends lines through an exporter, in the background; what does not fit into its queue is dropped."""

    def __init__(self, exporter: LogRecordExporter, resource: Resource, logger: logging.Logger) -> None:
        self._logger = logger
        self._processor = BatchLogRecordProcessor(exporter)
        self._provider = LoggerProvider(resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(self._processor)
        self._scope = self._provider.get_logger("telemetry-pipeline", __version__)

    def write(self, record: logging.LogRecord, fields: Fields) -> None:
        """Take a line."""
        if record.msg == "logs_not_sent":  # it would only be one more that is not sent
            return
        self._scope.emit(
            LogRecord(
                timestamp=int(record.created * 1_000_000) * 1000,
                context=_context(fields),
                severity_text=record.levelname,
                severity_number=_SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
                body=fields["message"],
                attributes=_attributes(record, fields),
            )
        )

    def close(self) -> None:
        """Send what is left, within two seconds together with spans; says so when that was not enough."""
        waited_s = finish(self._processor.shutdown, "last-logs")
        if waited_s is not None:
            self._logger.warning(
                "last_logs_given_up", extra={"waited_s": waited_s, "hint": "the collector did not answer"}
            )


def start(service: str, instance: str, logger: logging.Logger) -> OTelLogs:
    """Start sending, as the OTEL_* variables of the environment say. Raises SettingsInvalid."""
    exporter = make_exporter("logs")
    speak_for_senders(logger)
    return OTelLogs(exporter, make_resource(service, instance), logger)


def _attributes(record: logging.LogRecord, fields: Fields) -> dict[str, Any]:
    kept = {_NAMES.get(name, name): value for name, value in fields.items() if name not in _ELSEWHERE}
    return {**kept, "logger.name": record.name}


def _context(fields: Fields) -> Context:
    if "trace_id" not in fields:
        return Context()
    span = SpanContext(
        int(fields["trace_id"], 16), int(fields["span_id"], 16), False, TraceFlags(TraceFlags.SAMPLED)
    )
    return set_span_in_context(NonRecordingSpan(span), Context())
