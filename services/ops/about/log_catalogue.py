"""Every message of the log: its level, what it has beside the fields of each line, and what it means.

docs/logs.md has it as a table, made by `make docs`; a test compares it with what the code writes.
"""

from typing import Final, Literal, NamedTuple

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Who = Literal["producer", "consumer", "both", "reload"]


class Message(NamedTuple):
    """One message."""

    name: str
    level: Level
    who: Who
    fields: tuple[str, ...]
    """That every line of it has, but for those in brackets."""
    meaning: str


_EVENT: Final = ("event_id", "device_id", "zone", "kpi", "value", "[event_trace_id]", "[held_back]")

CATALOGUE: Final = (
    Message("producer_started", "INFO", "producer", ("run", "source"), "The producer begins to publish"),
    Message(
        "run_reopened",
        "INFO",
        "producer",
        ("run", "last"),
        "A run was silent for days, and an audit has proven all of it; it goes on with its next number",
    ),
    Message("run_opened", "INFO", "producer", ("run", "source"), "A run has its record on the server"),
    Message(
        "run_name_taken",
        "WARNING",
        "producer",
        ("run",),
        "Another run has this name already; the producer takes another name",
    ),
    Message(
        "published",
        "INFO",
        "producer",
        ("run", "batch", "published", "duplicates", "held_back"),
        "A batch is in the stream; at most one line a second. `published` and `duplicates` count since "
        "the start",
    ),
    Message(
        "tokens_read",
        "INFO",
        "producer",
        ("file", "writers"),
        "HTTP_TOKENS_FILE has changed, and is used from now on. `writers`: how many may send",
    ),
    Message(
        "tokens_unusable",
        "ERROR",
        "producer",
        ("file", "error"),
        "HTTP_TOKENS_FILE has changed and can't be used; the tokens of before stay valid",
    ),
    Message(
        "certificate_read",
        "INFO",
        "producer",
        ("file",),
        "HTTP_CERT_FILE, HTTP_KEY_FILE or HTTP_CLIENT_CA_FILE has changed. New connections use the new "
        "files; open connections keep the old ones",
    ),
    Message(
        "certificate_unusable",
        "ERROR",
        "producer",
        ("file", "error"),
        "These files have changed and can't be used; new connections use the old ones",
    ),
    Message(
        "handshake_failed",
        "WARNING",
        "producer",
        ("client", "error"),
        "A client spoke no TLS on the HTTP port, did not trust the certificate, or showed none that is "
        "trusted",
    ),
    Message(
        "request_failed",
        "ERROR",
        "producer",
        ("endpoint", "error", "exc_info"),
        "A request could not be answered because of a bug; the client was told to send it again",
    ),
    Message(
        "mqtt_connected",
        "INFO",
        "producer",
        ("broker", "client_id", "session"),
        "The producer is connected to the MQTT broker, and subscribed. `session`: known, or new; for a "
        "new one the broker has kept no messages",
    ),
    Message(
        "mqtt_unavailable",
        "ERROR",
        "producer",
        ("broker", "error"),
        "The MQTT broker can't be reached, or the connection has ended; the producer tries again",
    ),
    Message(
        "mqtt_refused",
        "ERROR",
        "producer",
        ("broker", "error"),
        "The MQTT broker refuses the connection or the subscription; the producer tries again",
    ),
    Message(
        "mqtt_session_kept",
        "WARNING",
        "producer",
        ("hint",),
        "MQTT_END_SESSION: the producer could not take all messages before it ended, so the broker keeps "
        "the session",
    ),
    Message(
        "message_failed",
        "ERROR",
        "producer",
        ("topic", "error", "exc_info"),
        "A message could not be read because of a bug; it is published as it came, and becomes a dead letter",
    ),
    Message(
        "stream_full",
        "WARNING",
        "producer",
        ("stream", "stream_max_length", "[held_by]", "[held_entries]", "hint"),
        "The stream is full: the producer waits for consumers, or refuses what is sent. `held_by`: the "
        "group because of which the oldest entries can't be trimmed",
    ),
    Message(
        "stream_has_room",
        "INFO",
        "producer",
        ("blocked_s", "length"),
        "The stream has room again, and the producer goes on. `length`: entries in the stream",
    ),
    Message(
        "entries_packed",
        "INFO",
        "producer",
        ("stream", "events_per_entry"),
        "Every consumer can read entries of many events, so the producer writes such entries from now on "
        "(EVENTS_PER_ENTRY)",
    ),
    Message(
        "entries_not_packed",
        "WARNING",
        "producer",
        ("stream", "events_per_entry", "[group]", "[consumer]", "hint"),
        "The producer writes one event into each entry, whatever EVENTS_PER_ENTRY says, because this "
        "consumer may not be able to read other entries. It checks again at each batch, and logs this "
        "once a minute at most",
    ),
    Message(
        "oldest_dropped",
        "WARNING",
        "producer",
        ("events",),
        "STREAM_FULL=drop_oldest: so many old events were removed from the stream",
    ),
    Message(
        "redis_lost_writes",
        "ERROR",
        "producer",
        ("run", "lost_batches", "lost_events", "confirmed_last", "server_last", "hint"),
        "The server has lost writes that it had confirmed; the audit names the missing events",
    ),
    Message(
        "redis_refuses",
        "CRITICAL",
        "producer",
        ("error",),
        "The server refuses a command, and waiting won't help; the process ends with 1",
    ),
    Message(
        "resumed", "INFO", "producer", ("file", "run", "after_line"), "A replay goes on where it stopped"
    ),
    Message("already_published", "INFO", "producer", ("file", "run"), "The whole file was published before"),
    Message(
        "another_file",
        "WARNING",
        "producer",
        ("file",),
        "A different file was published under this path before: this one is published from its beginning",
    ),
    Message(
        "file_rotated",
        "INFO",
        "producer",
        ("file", "how"),
        "A followed file was renamed, emptied or removed: the new file in its place is read",
    ),
    Message(
        "followed_file_gone",
        "WARNING",
        "producer",
        ("file", "after_line"),
        "A followed file is gone: its lines after this one are not published",
    ),
    Message(
        "taken_for_rotated",
        "INFO",
        "producer",
        ("file", "origin"),
        "The name says that this file is the rotated form of one that is published, so it is not read. If "
        "it is another file, name both with `--from`",
    ),
    Message(
        "half_line_waits",
        "WARNING",
        "producer",
        ("file", "line_number"),
        "The last line has no line end yet: it is published when the rest of it is written, or with "
        "--complete",
    ),
    Message(
        "line_unreadable",
        "WARNING",
        "producer",
        ("file", "line_number", "reason"),
        "A line of the file, or a reading in it, is refused. Only the first hundred are logged",
    ),
    Message(
        "more_lines_unreadable",
        "WARNING",
        "producer",
        ("file", "line_number", "reason"),
        "More than a hundred lines are refused; `producer_finished` has their number",
    ),
    Message(
        "columns_not_published",
        "WARNING",
        "producer",
        ("file", "columns"),
        "Columns that are not mapped to a field",
    ),
    Message(
        "source_broken",
        "ERROR",
        "producer",
        ("error",),
        "The file can't be read to its end, or followed; what was read is published. The process ends with 3",
    ),
    Message(
        "refused_lines_not_kept",
        "WARNING",
        "producer",
        ("folder", "error"),
        "DATA_DIR/rejected can't be written. Refused lines are counted, and the first hundred are logged",
    ),
    Message(
        "file_finished",
        "INFO",
        "producer",
        (
            "file",
            "account",
            "unreadable",
            "[unreadable_lines]",
            "[left_out]",
            "[rejected_file]",
            "[times_twice]",
            "[already_published]",
            "after_line",
        ),
        "The result of one file of several; `producer_finished` has the sum",
    ),
    Message(
        "source_unusable",
        "CRITICAL",
        "producer",
        ("error",),
        "The file can't be read; the process ends with 2",
    ),
    Message(
        "producer_finished",
        "INFO",
        "producer",
        (
            "run",
            "published",
            "duplicates",
            "dropped",
            "unreadable",
            "[unreadable_lines]",
            "[left_out]",
            "[rejected_file]",
            "[times_twice]",
            "[file]",
            "[after_line]",
            "[account]",
            "[failures]",
            "[files]",
            "[already_published]",
            "[is_followed]",
        ),
        "The last line: what the whole process has done. With --from it has the account of the lines "
        "(`unreadable`: refused ones), how many values of unmapped columns were not published, and the "
        "reason if it ends with 3",
    ),
    Message(
        "consumer_started",
        "INFO",
        "consumer",
        ("consumer", "steps"),
        "The consumer begins to read. `steps`: how many steps of yours it has",
    ),
    Message(
        "batch_settled",
        "INFO",
        "consumer",
        ("received", "stored", "duplicates", "dead", "degraded", "seconds"),
        "One line for each batch: received = stored + duplicates + dead",
    ),
    Message(
        "event_healthy",
        "DEBUG",
        "consumer",
        _EVENT,
        "An event is stored. At INFO only the last one of a batch is logged, once a second at most. "
        "`held_back`: how many were not logged",
    ),
    Message(
        "event_degraded",
        "DEBUG",
        "consumer",
        _EVENT,
        "The same for an event with a value above its threshold",
    ),
    Message(
        "event_dead_lettered",
        "WARNING",
        "consumer",
        ("entry_id", "stage", "reason", "error", "events", "[event_trace_id]"),
        "So many `events` of a batch became dead letters for this reason; the line names the first. "
        "`telemetry dlq list` has all",
    ),
    Message(
        "large_entry_ended",
        "WARNING",
        "consumer",
        ("entry_id", "bytes", "is_kept", "hint"),
        "An entry is larger than MAX_ENTRY_BYTES, or the server does not send it: it has become a dead "
        "letter. `is_kept`: whether the server keeps the whole entry aside",
    ),
    Message(
        "entry_tried_by_event",
        "WARNING",
        "consumer",
        ("entry_id", "events", "deliveries"),
        "An entry of many events was delivered several times and never acknowledged. Each of its events "
        "is now stored separately, to find the one that kills its consumers",
    ),
    Message(
        "suspect_not_found",
        "ERROR",
        "consumer",
        ("entry_id", "error"),
        "The consumer can't read which events of such an entry are done. It tries again; after three "
        "failures the whole entry becomes one dead letter",
    ),
    Message(
        "entries_claimed",
        "INFO",
        "consumer",
        ("entries", "idle_ms"),
        "The consumer has taken over entries that another one left pending",
    ),
    Message(
        "consumer_name_twice",
        "WARNING",
        "consumer",
        ("consumer", "hint"),
        "Another process uses the same CONSUMER_NAME. Nothing is lost, but entries are delivered twice",
    ),
    Message(
        "consumers_removed",
        "INFO",
        "consumer",
        ("consumers",),
        "Consumers that are gone and had nothing pending were removed from the group",
    ),
    Message(
        "upkeep_refused",
        "ERROR",
        "consumer",
        ("stream", "error", "hint"),
        "The server answers, but refuses to trim the stream or to remove old consumers; all else goes on",
    ),
    Message(
        "pending_entries_trimmed",
        "ERROR",
        "consumer",
        ("entries", "first", "hint"),
        "Another program removed entries that were not acknowledged",
    ),
    Message(
        "group_created",
        "WARNING",
        "consumer",
        ("stream", "group", "hint"),
        "The group was made. This is expected at the first start; later it means that the server has lost "
        "its data",
    ),
    Message(
        "write_gave_up",
        "ERROR",
        "consumer",
        ("events", "error"),
        "MAX_RETRIES are used up, and the store answers: the consumer now looks for the rows that cause "
        "the error",
    ),
    Message(
        "write_unavailable",
        "ERROR",
        "consumer",
        ("part", "error", "kind", "hint"),
        "The store or the dead letters can't be written; the consumer waits",
    ),
    Message(
        "sink_unavailable",
        "ERROR",
        "consumer",
        ("error",),
        "The database can't be opened yet; the consumer waits",
    ),
    Message(
        "database_replaced",
        "WARNING",
        "consumer",
        ("path", "hint"),
        "The database file was removed or replaced; the consumer goes on with the file that is there now",
    ),
    Message(
        "wal_saved",
        "WARNING",
        "consumer",
        ("path",),
        "The database's WAL file was removed; its content was saved into the database",
    ),
    Message(
        "wal_not_saved",
        "ERROR",
        "consumer",
        ("error", "hint"),
        "The same, but at the end of the process, and its content could not be saved",
    ),
    Message(
        "sink_unusable",
        "CRITICAL",
        "consumer",
        ("error",),
        "The database is not one of the pipeline, or it is empty although the pipeline has stored events "
        "before. The process ends with 1, or with 2 if the settings name the wrong database",
    ),
    Message("sink_opened", "INFO", "consumer", ("place",), "Where rows are stored"),
    Message(
        "schema_updated",
        "INFO",
        "consumer",
        ("schema", "step", "place"),
        "A migration has made or changed the tables in PostgreSQL",
    ),
    Message(
        "rows_moved",
        "INFO",
        "consumer",
        ("day", "rows"),
        "A partition was made for a day, and rows were moved into it from PostgreSQL's default partition",
    ),
    Message(
        "audited",
        "INFO",
        "consumer",
        ("published", "stored", "dead", "expired", "missing"),
        "With RETAIN_DAYS: this consumer has made an audit, and recorded it",
    ),
    Message(
        "audit_not_made",
        "WARNING",
        "consumer",
        ("error",),
        "This audit could not be made; the next one is after AUDIT_INTERVAL_S",
    ),
    Message(
        "audit_proves_nothing",
        "WARNING",
        "consumer",
        ("error",),
        "Why this audit is no proof, one line for each reason: no day is dropped meanwhile",
    ),
    Message(
        "days_dropped",
        "INFO",
        "consumer",
        ("days", "rows", "before"),
        "Rows older than RETAIN_DAYS were dropped; all of them are proven. `before`: the first day that "
        "stays",
    ),
    Message(
        "retention_waits",
        "WARNING",
        "consumer",
        ("day", "why"),
        "A day is older than RETAIN_DAYS, but may not be dropped yet (docs/retention.md)",
    ),
    Message(
        "last_readings_not_noted",
        "WARNING",
        "consumer",
        ("error", "devices"),
        "The last readings of devices could not be written, or silent devices not counted "
        "(SILENT_AFTER_S); the consumer tries again",
    ),
    Message(
        "days_not_made",
        "WARNING",
        "consumer",
        ("error", "kind", "hint"),
        "The partitions of PostgreSQL could not be made; the consumer tries again each minute",
    ),
    Message(
        "device_index_not_kept",
        "WARNING",
        "consumer",
        ("error", "kind"),
        "An index by device could not be made or dropped (DATABASE_DEVICE_INDEX); the consumer tries "
        "again each minute",
    ),
    Message(
        "clock_behind",
        "ERROR",
        "consumer",
        ("error", "seconds"),
        "The consumer's clock is behind the clocks of the server and the events: it waits until its clock "
        "is right, and checks no event meanwhile",
    ),
    Message(
        "clock_right_again",
        "INFO",
        "consumer",
        (),
        "The clock is right again; the consumer goes on with the batch in hand",
    ),
    Message(
        "breaker_open",
        "CRITICAL",
        "consumer",
        ("error",),
        "DLQ_BREAKER_RATIO is reached: the consumer reads nothing until it is restarted",
    ),
    Message(
        "consumer_finished",
        "INFO",
        "consumer",
        ("consumer", "stored", "dead"),
        "The last line: what the process has done",
    ),
    Message(
        "disk_not_measured",
        "WARNING",
        "consumer",
        ("error", "hint"),
        "DATA_DIR or a file in it could not be measured for /metrics; its figures are left out",
    ),
    Message(
        "right_lacking",
        "WARNING",
        "consumer",
        ("part", "right", "error", "hint"),
        "The user has no right on the server to observe the group, or to say which entries this consumer "
        "can read. Logged once for each of the two",
    ),
    Message(
        "group_not_observed",
        "WARNING",
        "consumer",
        ("error",),
        "The figures of the group could not be read. They are left out after a while, unless the next "
        "attempt works",
    ),
    Message(
        "group_unreadable",
        "ERROR",
        "consumer",
        ("part", "kind", "error"),
        "The server's answer for a part of the group's figures can't be read, or reading it failed. These "
        "figures are left out, and the next attempt tries again. Logged once for each kind of error",
    ),
    Message(
        "lease_not_given_back",
        "DEBUG",
        "consumer",
        ("expires_after_s",),
        "The server was away at the end; another replica will observe the group when the lease ends",
    ),
    Message(
        "redis_unavailable",
        "ERROR",
        "both",
        ("error",),
        "The server can't be reached or can't work; the process waits",
    ),
    Message("redis_back", "INFO", "both", ("failures",), "The server answers again, after so many failures"),
    Message(
        "stopped_while_waiting",
        "WARNING",
        "both",
        ("hint",),
        "The process was asked to stop while it waited: the entries in hand are not acknowledged",
    ),
    Message(
        "stop_waits",
        "WARNING",
        "both",
        ("where",),
        "The process was asked to stop, but still has a batch in hand. `where`: the calls that it is in, "
        "innermost first. Ctrl-C ends that too",
    ),
    Message(
        "stop_forced",
        "WARNING",
        "both",
        ("where", "hint"),
        "The process was asked to stop while it was in a call that does not return, and was ended by force",
    ),
    Message(
        "settings_unusable",
        "CRITICAL",
        "both",
        ("error",),
        "The settings can't be used: nothing is started, and the process ends with 2. On standard error",
    ),
    Message("health_serving", "INFO", "both", ("port",), "/metrics, /livez and /readyz can be reached"),
    Message(
        "health_port_taken",
        "WARNING",
        "both",
        ("port", "error"),
        "/metrics, /livez and /readyz can't be served at this port; all else goes on",
    ),
    Message(
        "health_client_gone",
        "WARNING",
        "both",
        ("client", "error"),
        "A client of /metrics or a probe went away before the answer, for example because of a timeout or "
        "a network policy",
    ),
    Message(
        "health_crowded",
        "WARNING",
        "both",
        ("connections", "error"),
        "Too many connections are open at the port of /metrics: the oldest are closed. With an error, no "
        "new one is accepted for a second",
    ),
    Message(
        "health_request_failed",
        "ERROR",
        "both",
        ("client", "exc_info"),
        "A request at this port could not be answered because of a bug",
    ),
    Message(
        "spans_not_sent",
        "WARNING",
        "both",
        ("error",),
        "Traces could not be sent; `error` is the exporter's own message",
    ),
    Message(
        "last_spans_given_up",
        "WARNING",
        "both",
        ("waited_s", "hint"),
        "The collector did not answer at the end, so the last spans were not sent",
    ),
    Message(
        "logs_not_sent",
        "WARNING",
        "both",
        ("error",),
        "Log lines could not be sent by OTLP; they are in this log all the same",
    ),
    Message(
        "last_logs_given_up",
        "WARNING",
        "both",
        ("waited_s", "hint"),
        "The collector did not answer at the end, so the last log lines were not sent",
    ),
    Message(
        "metrics_not_sent",
        "WARNING",
        "both",
        ("error",),
        "Metrics could not be sent by OTLP; /metrics has them all the same",
    ),
    Message(
        "last_metrics_given_up",
        "WARNING",
        "both",
        ("waited_s", "hint"),
        "The collector did not answer at the end, so the last metrics were not sent",
    ),
    Message(
        "crashed",
        "CRITICAL",
        "both",
        ("error", "exc_info"),
        "An unexpected error, which is a bug, has ended the process with 1",
    ),
    Message(
        "thread_crashed",
        "ERROR",
        "both",
        ("kind", "of_thread", "error", "exc_info"),
        "An unexpected error, which is a bug, has ended a thread; the process goes on",
    ),
    Message(
        "exception_ignored",
        "ERROR",
        "both",
        ("kind", "where", "error", "[exc_info]"),
        "An unexpected error, which is a bug, at a place where Python can't raise it, such as a destructor",
    ),
    Message(
        "python_warning",
        "WARNING",
        "both",
        ("category", "error", "where"),
        "A warning of a library or of Python",
    ),
    Message(
        "log_line_broken",
        "ERROR",
        "both",
        ("error", "where"),
        "A log line could not be made, because of a bug at this place",
    ),
    Message(
        "log_lines_lost",
        "WARNING",
        "both",
        ("lines",),
        "So many lines before this one could not be written: nobody read them, or the disk was full",
    ),
    Message(
        "code_changed",
        "INFO",
        "reload",
        ("files",),
        "In a development container: the code has changed, and the service starts again",
    ),
)
"""Sorted by who says it, in the order of a process's life."""
