"""The catalogue of every metric: name, kind, service, scope, labels with all their values, meaning.

From it the registry (metrics.py) and docs/metrics.md are made. Prometheus conventions: base units, `_total`
on counters and only there, labels whose values are bounded by construction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from services import __version__
from services.contract.event import Reason
from services.contract.event import Stage as DeadStage

Service = Literal["producer", "consumer", "both"]
Kind = Literal["counter", "gauge", "histogram"]
Scope = Literal["process", "group"]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000)
_WAITS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""From publication to commit: behind an outage that is half an hour."""

OTHER: Final = "other"
"""Stands for a label's value that is none of the declared ones, so no input can add a series."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label, and all the values that it can have; another one is counted as `other`."""

    name: str
    values: tuple[str, ...] = ()
    """Empty: they are given at the start, such as the KPIs of the file."""
    given: str = ""
    """What gives them then, for the page."""

    def bounded(self, value: str) -> str:
        """Give a declared value: this one, the one it is a kind of (SQLITE_IOERR_WRITE), or `other`."""
        if value in self.values:
            return value
        return next((one for one in self.values if value.startswith(f"{one}_")), OTHER)


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the catalogue."""

    name: str
    kind: Kind
    service: Service
    meaning: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = _SECONDS
    scope: Scope = "process"
    """`group`: only the one replica that observes the group has it (brokers/redis/consuming/observer.py)."""
    is_asked: bool = False
    """Whether its value is found out at a scrape, and may be absent where that fails."""
    is_late: bool = False
    """Whether it is absent until it is known: a state that is 0 beforehand would be a trouble that isn't."""
    combinations: tuple[tuple[str, ...], ...] = ()
    """Which of its labels' values occur together; empty: all of them."""

    @property
    def unit(self) -> str:
        """The unit, as the name has it; empty for a state, 0 or 1."""
        last = self.name.removesuffix("_total").rpartition("_")[2]
        return last if last in UNITS else ""


UNITS: Final = ("seconds", "bytes", "events", "entries")

_DEAD: Final[Mapping[DeadStage, tuple[Reason, ...]]] = {
    "receive": ("deliveries_exhausted", "entry_too_large"),
    "decode": (
        "not_utf8",
        "missing_field",
        "unknown_field",
        "duplicate_field",
        "pack_truncated",
        "pack_invalid",
    ),
    "validate": (
        "event_id_invalid",
        "device_id_invalid",
        "zone_invalid",
        "ts_invalid",
        "ts_in_future",
        "kpi_unknown",
        "value_invalid",
        "value_negative",
        "value_out_of_range",
        "attributes_invalid",
    ),
    "process": ("rejected_by_step", "step_failed"),
    "sink": ("conflict", "refused_by_sink", "retries_exhausted"),
}
"""Each reason comes from one stage."""

_SINK_ERRORS: Final = (
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_READONLY",
    "SQLITE_CANTOPEN",
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
    "SQLITE_CONSTRAINT",
    "SQLITE_TOOBIG",
    "binding",
    "replaced",
    "foreign_database",
    "newer_schema",
    "directory",
    # PostgreSQL's; the message of each has its code.
    "locked",
    "full",
    "read_only",
    "away",
    OTHER,
)
_REDIS_ERRORS: Final = (
    "ConnectionError",
    "TimeoutError",
    "AuthenticationError",
    "noauth",
    "noperm",
    "wrongpass",
    "loading",
    "readonly",
    "masterdown",
    "unblocked",
    "moved",
    "clusterdown",
    "tryagain",
    "noreplicas",
    "misconf",
    "busy",
    "oom",
    "nogroup",
    "wrongtype",
    OTHER,
)

_HTTP_CODES: Final[Mapping[str, tuple[str, ...]]] = {
    "events": ("200", "207", "400", "401", "403", "408", "413", "415", "429", "503"),
    "influx": ("204", "400", "401", "403", "408", "413", "415", "429", "503"),
    "other": ("200", "204", "404", "405", "408", "431", "503"),
}
_ALL_CODES: Final = tuple(dict.fromkeys(code for codes in _HTTP_CODES.values() for code in codes))
_HTTP_FIELDS: Final = (
    "device_id",
    "zone",
    "ts",
    "kpi",
    "value",
    "attributes",
    "event_id",
    "form",
    "body",
    "token",
)

_MQTT_REASONS: Final = (
    "device_id",
    "zone",
    "ts",
    "kpi",
    "value",
    "attributes",
    "event_id",
    "form",
    "topic",
    "size",
    "failed",
)

CATALOGUE: Final = (
    Metric(
        "telemetry_producer_events_total",
        "counter",
        "producer",
        "Events by outcome. published; duplicate: published twice on purpose; unreadable: a line of a "
        "file that can't be read; dropped: the oldest events, removed from the stream at "
        "STREAM_MAX_LENGTH",
        (Label("outcome", ("published", "duplicate", "unreadable", "dropped")),),
    ),
    Metric(
        "telemetry_producer_batch_size_events",
        "histogram",
        "producer",
        "Events in a published batch",
        buckets=_SIZES,
    ),
    Metric(
        "telemetry_producer_send_duration_seconds",
        "histogram",
        "producer",
        "Time from sending a batch until the server had it, including any waiting",
    ),
    Metric(
        "telemetry_producer_blocked_seconds_total",
        "counter",
        "producer",
        "Time spent waiting because the stream was full",
    ),
    Metric(
        "telemetry_producer_last_publish_timestamp_seconds",
        "gauge",
        "producer",
        "When a batch was last published, Unix time; 0 before the first",
    ),
    Metric(
        "telemetry_http_requests_total",
        "counter",
        "producer",
        "Requests by endpoint and status code. events: /v1/events; influx: /write and /api/v2/write; "
        "other: everything else, also what is not a valid request",
        (Label("endpoint", tuple(_HTTP_CODES)), Label("code", _ALL_CODES)),
        combinations=tuple((endpoint, code) for endpoint, codes in _HTTP_CODES.items() for code in codes),
    ),
    Metric(
        "telemetry_http_refused_events_total",
        "counter",
        "producer",
        "Refused events, by the wrong field. form: it could not be read as an event. If the body or "
        "the token is wrong, the whole request is refused, and counts once",
        (Label("field", _HTTP_FIELDS),),
    ),
    Metric(
        "telemetry_http_publish_duration_seconds",
        "histogram",
        "producer",
        "Time from the last byte of a request until its events were in the stream",
    ),
    Metric(
        "telemetry_http_connections",
        "gauge",
        "producer",
        "Open connections of clients",
    ),
    Metric(
        "telemetry_mqtt_received_messages_total",
        "counter",
        "producer",
        "Messages received from the MQTT broker. redelivered: the broker says that it has sent them before",
        (Label("delivery", ("new", "redelivered")),),
    ),
    Metric(
        "telemetry_mqtt_settled_messages_total",
        "counter",
        "producer",
        "Messages by outcome. events: all of it became events in the stream; dead: it is in the stream "
        "as it came, to become a dead letter; partly: both; without_reading: it says itself that it has "
        "no reading; retained: an old message that came with the subscription, and was skipped; "
        "repeated: redelivered while the first was still in work",
        (Label("outcome", ("events", "dead", "partly", "without_reading", "retained", "repeated")),),
    ),
    Metric(
        "telemetry_mqtt_refused_messages_total",
        "counter",
        "producer",
        "Messages that were refused as a whole or in part, by the first wrong field. form: it could not "
        "be read as an event; topic: it fits none of MQTT_TOPICS; size: it is too large; failed: an "
        "error of the producer itself",
        (Label("reason", _MQTT_REASONS),),
    ),
    Metric(
        "telemetry_mqtt_publish_duration_seconds",
        "histogram",
        "producer",
        "Time from a message's arrival until its events were in the stream",
    ),
    Metric(
        "telemetry_mqtt_lag_seconds",
        "histogram",
        "producer",
        "Time from the newest event of a message to the message's arrival, for messages that have a "
        "time. It includes how long the device and the broker kept the message, and the error of the "
        "device's clock",
        buckets=_WAITS,
    ),
    Metric(
        "telemetry_mqtt_in_flight_messages",
        "gauge",
        "producer",
        "Messages received and not yet in the stream",
    ),
    Metric(
        "telemetry_mqtt_connected",
        "gauge",
        "producer",
        "1 while it is connected to the MQTT broker and subscribed, else 0",
        is_late=True,
    ),
    Metric(
        "telemetry_mqtt_broker_dropped_messages",
        "gauge",
        "producer",
        "Messages that the broker has dropped since its start, for all its clients, as it says "
        "($SYS/broker/publish/messages/dropped, which Mosquitto has)",
        is_late=True,
    ),
    Metric(
        "telemetry_mqtt_broker_waiting_messages",
        "gauge",
        "producer",
        "Messages that the broker holds for all its clients, as it says: those that it stores, without "
        "the retained ones ($SYS/broker/store/messages/count and retained messages/count, which "
        "Mosquitto has)",
        is_late=True,
    ),
    Metric(
        "telemetry_consumer_received_events_total",
        "counter",
        "consumer",
        "Entries received. new: for the first time; recovered: delivered before",
        (Label("source", ("new", "recovered")),),
    ),
    Metric(
        "telemetry_consumer_settled_events_total",
        "counter",
        "consumer",
        "Entries by outcome: stored, duplicate, dead, pending. Together with those in flight they are the "
        "entries received, at every scrape",
        (Label("outcome", ("stored", "duplicate", "dead", "pending")),),
    ),
    Metric(
        "telemetry_consumer_in_flight_events",
        "gauge",
        "consumer",
        "Entries received whose outcome is still open; 0 between two batches",
    ),
    Metric(
        "telemetry_consumer_dead_events_total",
        "counter",
        "consumer",
        "Dead letters, by stage and reason",
        (Label("stage", get_args(DeadStage)), Label("reason", get_args(Reason))),
        combinations=tuple((stage, reason) for stage, reasons in _DEAD.items() for reason in reasons),
    ),
    Metric(
        "telemetry_consumer_degraded_events_total",
        "counter",
        "consumer",
        "Events above their threshold",
        (Label("kpi", given="the KPIs of KPIS_FILE"),),
    ),
    Metric(
        "telemetry_consumer_batch_size_events",
        "histogram",
        "consumer",
        "Entries in a batch",
        buckets=_SIZES,
    ),
    Metric(
        "telemetry_consumer_batch_duration_seconds",
        "histogram",
        "consumer",
        "Time from the receipt of a batch to its acknowledgement",
    ),
    Metric(
        "telemetry_consumer_stage_duration_seconds",
        "histogram",
        "consumer",
        "Time of one stage of a batch, including retries; steps and dead_letter only if the batch has any",
        (Label("stage", ("decode", "steps", "validate", "process", "store", "dead_letter", "ack")),),
    ),
    Metric(
        "telemetry_consumer_publish_to_commit_seconds",
        "histogram",
        "consumer",
        "Time from an entry's publication to its commit, for the oldest entry of each batch that stored "
        "any. Its exemplars have the trace_id of batches that have a span",
        buckets=_WAITS,
    ),
    Metric(
        "telemetry_sink_commit_duration_seconds",
        "histogram",
        "consumer",
        "Time of one write to the sink",
    ),
    Metric(
        "telemetry_sink_errors_total",
        "counter",
        "consumer",
        "Failed writes to the sink",
        (Label("error", _SINK_ERRORS),),
    ),
    Metric(
        "telemetry_sink_up",
        "gauge",
        "consumer",
        "1 while the sink takes writes, else 0; absent until the first try to open it has ended",
        is_late=True,
    ),
    Metric(
        "telemetry_sink_database_bytes",
        "gauge",
        "consumer",
        "Size of the database file, without its write-ahead log; with PostgreSQL, size of the events and "
        "their indexes",
        is_asked=True,
    ),
    Metric(
        "telemetry_sink_wal_bytes",
        "gauge",
        "consumer",
        "Size of the write-ahead log of the database; 0 if there is none, absent with PostgreSQL",
        is_asked=True,
    ),
    Metric(
        "telemetry_sink_unpartitioned_events",
        "gauge",
        "consumer",
        "PostgreSQL: rows of days that have no partition yet; they are moved once the partition is made",
        is_asked=True,
    ),
    Metric(
        "telemetry_sink_partitions_ahead_seconds",
        "gauge",
        "consumer",
        "PostgreSQL: time from today to the newest day that has a partition",
        is_asked=True,
    ),
    Metric(
        "telemetry_dlq_bytes",
        "gauge",
        "consumer",
        "Size of dlq.jsonl; absent if dead letters are in a stream or a database",
        is_asked=True,
    ),
    Metric(
        "telemetry_disk_free_bytes",
        "gauge",
        "consumer",
        "Free space for this process on the volume of DATA_DIR; absent if nothing of this consumer is there",
        is_asked=True,
    ),
    Metric(
        "telemetry_disk_size_bytes",
        "gauge",
        "consumer",
        "Size of the volume of DATA_DIR",
        is_asked=True,
    ),
    Metric(
        "telemetry_dlq_write_errors_total",
        "counter",
        "consumer",
        "Failed writes of dead letters",
    ),
    Metric(
        "telemetry_retries_total",
        "counter",
        "consumer",
        "Writes tried again",
        (Label("stage", ("sink",)),),
    ),
    Metric(
        "telemetry_ack_events_total",
        "counter",
        "consumer",
        "Entries by result: acked, or already_acked (by another consumer). An entry with many events "
        "counts once",
        (Label("result", ("acked", "already_acked")),),
    ),
    Metric(
        "telemetry_claimed_events_total",
        "counter",
        "consumer",
        "Entries taken over from idle consumers. An entry with many events counts once",
    ),
    Metric(
        "telemetry_lost_entries_total",
        "counter",
        "consumer",
        "Pending entries whose content was gone from the stream when a consumer recovered them",
    ),
    Metric(
        "telemetry_trimmed_entries_total",
        "counter",
        "consumer",
        "Acknowledged entries removed from the stream",
    ),
    Metric(
        "telemetry_consumers_removed_total",
        "counter",
        "consumer",
        "Idle consumers removed from the group",
    ),
    Metric(
        "telemetry_group_creations_total",
        "counter",
        "consumer",
        "How often the consumer group had to be made",
    ),
    Metric(
        "telemetry_clock_behind_seconds",
        "gauge",
        "consumer",
        "How far this machine's clock is behind that of the server and of the events; meanwhile the "
        "consumer consumes nothing",
    ),
    Metric(
        "telemetry_breaker_open",
        "gauge",
        "consumer",
        "1 while DLQ_BREAKER_RATIO has stopped consuming, else 0",
    ),
    Metric(
        "telemetry_last_commit_timestamp_seconds",
        "gauge",
        "consumer",
        "When a batch was last stored, Unix time; 0 before the first",
    ),
    Metric(
        "telemetry_group_observer",
        "gauge",
        "consumer",
        "1 on the replica that observes the group",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_stream_length_entries",
        "gauge",
        "consumer",
        "Entries in the stream; an entry with many events counts once",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_stream_length_events",
        "gauge",
        "consumer",
        "Events in the stream, which STREAM_MAX_LENGTH limits. Never too few, but at times a batch too "
        "many; the number of entries if the server does not let the consumer count events",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_stream_length_limit_events",
        "gauge",
        "consumer",
        "STREAM_MAX_LENGTH; absent if there is no limit",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_stream_added_entries_total",
        "counter",
        "consumer",
        "Entries ever added to the stream",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_stream_id_ahead_seconds",
        "gauge",
        "consumer",
        "How far the stream's newest id is ahead of the clock. If it is not 0, somebody has set the id, "
        "or a clock is wrong",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_stream_trimmed_unread",
        "gauge",
        "consumer",
        "1 while entries are gone that the group had not read. Entries trimmed between two checks are "
        "found by the audit",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_stream_removed_by_others_total",
        "counter",
        "consumer",
        "Entries that other programs have removed from the stream, read or not, by XTRIM, XDEL, or XADD "
        "with MAXLEN; absent before the first trim by a consumer",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_group_read_entries_total",
        "counter",
        "consumer",
        "Entries that the group has read, as the server counts them; absent if the server does not know",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_group_lag_entries",
        "gauge",
        "consumer",
        "Entries not yet delivered to the group; if the server does not know, a consumer counts them, up "
        "to 100,000",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_group_lag_known",
        "gauge",
        "consumer",
        "1 if the server knows the lag, 0 if a consumer counts it",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_group_pending_entries",
        "gauge",
        "consumer",
        "Entries delivered and not yet acknowledged",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_group_oldest_pending_seconds",
        "gauge",
        "consumer",
        "Age of the oldest entry that is delivered and not yet acknowledged; 0 if there is none",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_group_oldest_unread_seconds",
        "gauge",
        "consumer",
        "Age of the oldest entry that is not yet delivered; 0 if there is none",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_group_consumers",
        "gauge",
        "consumer",
        "Consumers that the group knows, including dead ones until they are removed",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_redis_memory_used_bytes",
        "gauge",
        "consumer",
        "Memory that the server uses",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_redis_memory_max_bytes",
        "gauge",
        "consumer",
        "maxmemory of the server; 0: no limit",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_missing_events",
        "gauge",
        "consumer",
        "Missing events that the last `telemetry audit --record` found; absent before the first",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_published_events",
        "gauge",
        "consumer",
        "Published events that the last audit looked for: those of the next metrics, and the missing ones",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_stored_events",
        "gauge",
        "consumer",
        "Of them, those that are rows",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_dead_events",
        "gauge",
        "consumer",
        "Of them, dead letters with another reason than `conflict`",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_conflicts_events",
        "gauge",
        "consumer",
        "Of them, dead letters with the reason `conflict`: another content under the id of a stored event",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_purged_events",
        "gauge",
        "consumer",
        "Of them, dead letters that an operator has purged",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_pending_events",
        "gauge",
        "consumer",
        "Of them, delivered and not yet acknowledged",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_undelivered_events",
        "gauge",
        "consumer",
        "Of them, in the stream and not yet delivered",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_expired_events",
        "gauge",
        "consumer",
        "Of them, proven, and then dropped because they were older than RETAIN_DAYS",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_accepted_events",
        "gauge",
        "consumer",
        "Of them, lost, and the loss was accepted by a person",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_audit_last_run_timestamp_seconds",
        "gauge",
        "consumer",
        "When the last audit ended, Unix time",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_retention_waiting_seconds",
        "gauge",
        "consumer",
        "How long the oldest day that the last audit could not drop has been older than RETAIN_DAYS; 0: "
        "there is none",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_silent_devices",
        "gauge",
        "consumer",
        "Devices that used to send, but of which nothing was stored for SILENT_AFTER_S; absent if that is 0",
        scope="group",
        is_asked=True,
    ),
    Metric(
        "telemetry_redis_up",
        "gauge",
        "both",
        "1 while the server answers, else 0; absent until it was asked",
        is_late=True,
    ),
    Metric(
        "telemetry_redis_errors_total",
        "counter",
        "both",
        "Errors of the server, or of the connection to it",
        (Label("error", _REDIS_ERRORS),),
    ),
    Metric(
        "telemetry_log_lines_lost_total",
        "counter",
        "both",
        "Log lines that could not be written: nobody read them, or the disk was full",
        is_asked=True,
    ),
    Metric(
        "telemetry_build_info",
        "gauge",
        "both",
        "Always 1; the version is its label",
        (Label("version", (__version__,)),),
    ),
)
