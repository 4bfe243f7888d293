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
    Message("producer_started", "INFO", "producer", ("run", "source"), "It begins to publish"),
    Message(
        "run_reopened",
        "INFO",
        "producer",
        ("run", "last"),
        "A run was silent for days, and an audit has proven all of it; it goes on with the next number",
    ),
    Message("run_opened", "INFO", "producer", ("run", "source"), "A run has its record on the server"),
    Message(
        "run_name_taken", "WARNING", "producer", ("run",), "Another run has that name; the next is drawn"
    ),
    Message(
        "published",
        "INFO",
        "producer",
        ("run", "batch", "published", "duplicates", "held_back"),
        "A batch is on the stream; at most once a second. `published`, `duplicates`: since the start",
    ),
    Message(
        "tokens_read",
        "INFO",
        "producer",
        ("file", "writers"),
        "HTTP_TOKENS_FILE has changed, and holds from now on. `writers`: how many may send",
    ),
    Message(
        "tokens_unusable",
        "ERROR",
        "producer",
        ("file", "error"),
        "HTTP_TOKENS_FILE has changed and can't be used; who could send before still can",
    ),
    Message(
        "certificate_read",
        "INFO",
        "producer",
        ("file",),
        "HTTP_CERT_FILE, HTTP_KEY_FILE or HTTP_CLIENT_CA_FILE has changed: new connections have what it says "
        "now, and those that are open go on",
    ),
    Message(
        "certificate_unusable",
        "ERROR",
        "producer",
        ("file", "error"),
        "They have changed and can't be used; new connections have what was there before",
    ),
    Message(
        "handshake_failed",
        "WARNING",
        "producer",
        ("client", "error"),
        "A client spoke no TLS on the HTTP port, trusts no such certificate, or showed none that is trusted",
    ),
    Message(
        "request_failed",
        "ERROR",
        "producer",
        ("endpoint", "error", "exc_info"),
        "A request could not be answered, for a mistake of ours; its client was told to send it again",
    ),
    Message(
        "mqtt_connected",
        "INFO",
        "producer",
        ("broker", "client_id", "session"),
        "It is connected to the MQTT broker, and subscribed. `session`: known, or new, and then the broker "
        "has kept nothing for it from before",
    ),
    Message(
        "mqtt_unavailable",
        "ERROR",
        "producer",
        ("broker", "error"),
        "The MQTT broker can't be reached, or the connection has ended; it is tried again",
    ),
    Message(
        "mqtt_refused",
        "ERROR",
        "producer",
        ("broker", "error"),
        "The MQTT broker lets it not in, or grants no subscription; it is tried again",
    ),
    Message(
        "mqtt_session_kept",
        "WARNING",
        "producer",
        ("hint",),
        "MQTT_END_SESSION: the session could not be emptied before the end, so the broker still has it",
    ),
    Message(
        "message_failed",
        "ERROR",
        "producer",
        ("topic", "error", "exc_info"),
        "A message could not be read, for a mistake of ours; it is published as it came, and becomes a dead "
        "letter",
    ),
    Message(
        "stream_full",
        "WARNING",
        "producer",
        ("stream", "stream_max_length", "[held_by]", "[held_entries]", "hint"),
        "It waits for consumers, or refuses what is sent. `held_by`: the group that keeps the oldest entries "
        "from being trimmed",
    ),
    Message(
        "stream_has_room",
        "INFO",
        "producer",
        ("blocked_s", "length"),
        "It goes on after such a wait. `length`: entries",
    ),
    Message(
        "entries_packed",
        "INFO",
        "producer",
        ("stream", "events_per_entry"),
        "Each consumer reads entries of many events, and it writes them from now on (EVENTS_PER_ENTRY)",
    ),
    Message(
        "entries_not_packed",
        "WARNING",
        "producer",
        ("stream", "events_per_entry", "[group]", "[consumer]", "hint"),
        "It writes each event in an entry of its own, whatever EVENTS_PER_ENTRY says, as this consumer may "
        "read no other; it looks again at each batch, and tells of it once a minute at most",
    ),
    Message(
        "oldest_dropped",
        "WARNING",
        "producer",
        ("events",),
        "STREAM_FULL=drop_oldest gave up so many events",
    ),
    Message(
        "redis_lost_writes",
        "ERROR",
        "producer",
        ("run", "lost_batches", "lost_events", "confirmed_last", "server_last", "hint"),
        "The server forgot what it had confirmed; the audit names what is missing",
    ),
    Message(
        "redis_refuses",
        "CRITICAL",
        "producer",
        ("error",),
        "The server will never do this; the process ends with 1",
    ),
    Message(
        "resumed", "INFO", "producer", ("file", "run", "after_line"), "A replay goes on where it stopped"
    ),
    Message(
        "already_published", "INFO", "producer", ("file", "run"), "A replay finds the whole file published"
    ),
    Message(
        "another_file",
        "WARNING",
        "producer",
        ("file",),
        "What was published under this path was another file: this one is published from its beginning",
    ),
    Message(
        "file_rotated",
        "INFO",
        "producer",
        ("file", "how"),
        "A file that is followed was renamed, emptied or removed: what is begun in its place is read",
    ),
    Message(
        "followed_file_gone",
        "WARNING",
        "producer",
        ("file", "after_line"),
        "The file that was followed is not there any more: what it had behind this line is not published",
    ),
    Message(
        "taken_for_rotated",
        "INFO",
        "producer",
        ("file", "origin"),
        "By its name a file is what another one was, which is published: it is not read by itself. If it is "
        "another one, name both by `--from`",
    ),
    Message(
        "half_line_waits",
        "WARNING",
        "producer",
        ("file", "line_number"),
        "The last line has no end yet: it is published when its rest is there, or with --complete",
    ),
    Message(
        "line_unreadable",
        "WARNING",
        "producer",
        ("file", "line_number", "reason"),
        "A line of the file, or a reading of it, is refused: each of the first hundred has its line",
    ),
    Message(
        "more_lines_unreadable",
        "WARNING",
        "producer",
        ("file", "line_number", "reason"),
        "More than a hundred; `producer_finished` has their number",
    ),
    Message(
        "columns_not_published",
        "WARNING",
        "producer",
        ("file", "columns"),
        "Columns that no field is mapped to",
    ),
    Message(
        "source_broken",
        "ERROR",
        "producer",
        ("error",),
        "The file can't be read to its end, or followed; what was read of it is published. It ends with 3",
    ),
    Message(
        "refused_lines_not_kept",
        "WARNING",
        "producer",
        ("folder", "error"),
        "DATA_DIR/rejected can't be written; refused lines are counted, and logged as far as they are",
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
        "Of several files, what came of one: `producer_finished` has the sum",
    ),
    Message("source_unusable", "CRITICAL", "producer", ("error",), "The file can't be read; it ends with 2"),
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
        "Its last line: what the whole process has done. Of a file: the account of its lines (`unreadable`: "
        "what was refused), of columns that are not published how many values, and why it ends with 3, if so",
    ),
    Message(
        "consumer_started",
        "INFO",
        "consumer",
        ("consumer", "steps"),
        "It begins to read; how many steps of yours it has",
    ),
    Message(
        "batch_settled",
        "INFO",
        "consumer",
        ("received", "stored", "duplicates", "dead", "degraded", "seconds"),
        "One line a batch: received = stored + duplicates + dead",
    ),
    Message(
        "event_healthy",
        "DEBUG",
        "consumer",
        _EVENT,
        "An event is stored. At INFO: the last of a batch, once a second, with how many had no line",
    ),
    Message("event_degraded", "DEBUG", "consumer", _EVENT, "The same, of a value above its threshold"),
    Message(
        "event_dead_lettered",
        "WARNING",
        "consumer",
        ("entry_id", "stage", "reason", "error", "events", "[event_trace_id]"),
        "So many `events` of a batch died of it; the first is named. `telemetry dlq list` has all",
    ),
    Message(
        "large_entry_ended",
        "WARNING",
        "consumer",
        ("entry_id", "bytes", "is_kept", "hint"),
        "An entry above MAX_ENTRY_BYTES, or one that the server does not send, has its letter; `is_kept` "
        "says whether the server keeps all of it aside",
    ),
    Message(
        "entry_tried_by_event",
        "WARNING",
        "consumer",
        ("entry_id", "events", "deliveries"),
        "An entry of many events was delivered again and again and never settled: each event is stored by "
        "itself now, to find the one that ends its consumers",
    ),
    Message(
        "suspect_not_found",
        "ERROR",
        "consumer",
        ("entry_id", "error"),
        "Which events of such an entry are settled can't be read. They are tried once more; when that "
        "fails three times, the entry becomes one dead letter with all of them",
    ),
    Message(
        "entries_claimed",
        "INFO",
        "consumer",
        ("entries", "idle_ms"),
        "It took over what another one left pending",
    ),
    Message(
        "consumer_name_twice",
        "WARNING",
        "consumer",
        ("consumer", "hint"),
        "Another process reads under the same CONSUMER_NAME. Nothing is lost; entries are delivered twice",
    ),
    Message(
        "consumers_removed",
        "INFO",
        "consumer",
        ("consumers",),
        "Consumers that are gone, with nothing pending",
    ),
    Message(
        "upkeep_refused",
        "ERROR",
        "consumer",
        ("stream", "error", "hint"),
        "The server is there and refuses to trim, or to remove the long gone; all else goes on",
    ),
    Message(
        "pending_entries_trimmed",
        "ERROR",
        "consumer",
        ("entries", "first", "hint"),
        "Somebody trimmed what was not acknowledged",
    ),
    Message(
        "group_created",
        "WARNING",
        "consumer",
        ("stream", "group", "hint"),
        "Expected once; later the server has lost its data",
    ),
    Message(
        "write_gave_up",
        "ERROR",
        "consumer",
        ("events", "error"),
        "MAX_RETRIES are used up and the sink answers: the rows at fault are sought",
    ),
    Message(
        "write_unavailable",
        "ERROR",
        "consumer",
        ("part", "error", "kind", "hint"),
        "The sink, or the dead letters, can't be written; it waits",
    ),
    Message(
        "sink_unavailable", "ERROR", "consumer", ("error",), "The database can't be opened yet; it waits"
    ),
    Message(
        "database_replaced",
        "WARNING",
        "consumer",
        ("path", "hint"),
        "The database was removed or replaced; it goes on with what stands there now",
    ),
    Message(
        "wal_saved",
        "WARNING",
        "consumer",
        ("path",),
        "The database's WAL was removed; what was in it is in the database now",
    ),
    Message(
        "wal_not_saved",
        "ERROR",
        "consumer",
        ("error", "hint"),
        "The same, at the end of the process, which could not save it",
    ),
    Message(
        "sink_unusable",
        "CRITICAL",
        "consumer",
        ("error",),
        "The database is none of ours, or has nothing of a pipeline that has stored events before; the "
        "process ends with 1, or with 2 where the settings lead astray",
    ),
    Message("sink_opened", "INFO", "consumer", ("place",), "Where it stores rows"),
    Message(
        "schema_updated",
        "INFO",
        "consumer",
        ("schema", "step", "place"),
        "The tables in PostgreSQL were made, or brought up to date, by one step",
    ),
    Message(
        "rows_moved",
        "INFO",
        "consumer",
        ("day", "rows"),
        "A day was made of rows that lay in PostgreSQL's DEFAULT partition",
    ),
    Message(
        "audited",
        "INFO",
        "consumer",
        ("published", "stored", "dead", "expired", "missing"),
        "Where days are dropped: an audit that this consumer has made, and recorded",
    ),
    Message(
        "audit_not_made",
        "WARNING",
        "consumer",
        ("error",),
        "Such an audit could not be made; the next one is after AUDIT_INTERVAL_S",
    ),
    Message(
        "audit_proves_nothing",
        "WARNING",
        "consumer",
        ("error",),
        "Why such an audit is no proof, a line for each reason: nothing is dropped meanwhile",
    ),
    Message(
        "days_dropped",
        "INFO",
        "consumer",
        ("days", "rows", "before"),
        "Rows older than RETAIN_DAYS, all of them proven, were dropped. `before`: the first day that stays",
    ),
    Message(
        "retention_waits",
        "WARNING",
        "consumer",
        ("day", "why"),
        "A day is older than RETAIN_DAYS, and may not be dropped yet (docs/retention.md)",
    ),
    Message(
        "last_readings_not_noted",
        "WARNING",
        "consumer",
        ("error", "devices"),
        "Who has sent was not noted, or who is silent not counted (SILENT_AFTER_S); it is tried again",
    ),
    Message(
        "days_not_made",
        "WARNING",
        "consumer",
        ("error", "kind", "hint"),
        "The partitions of PostgreSQL could not be looked after; it is tried again each minute",
    ),
    Message(
        "device_index_not_kept",
        "WARNING",
        "consumer",
        ("error", "kind"),
        "An index by device was not made or dropped (DATABASE_DEVICE_INDEX); it is tried again each minute",
    ),
    Message(
        "clock_behind",
        "ERROR",
        "consumer",
        ("error", "seconds"),
        "Its clock is behind the server's and the events': it waits for the right time, and judges nothing",
    ),
    Message("clock_right_again", "INFO", "consumer", (), "It goes on with the batch that it had in hand"),
    Message(
        "breaker_open",
        "CRITICAL",
        "consumer",
        ("error",),
        "DLQ_BREAKER_RATIO is reached: nothing is read until a restart",
    ),
    Message(
        "consumer_finished",
        "INFO",
        "consumer",
        ("consumer", "stored", "dead"),
        "Its last line: what the process has done",
    ),
    Message(
        "disk_not_measured",
        "WARNING",
        "consumer",
        ("error", "hint"),
        "A scrape could not look at DATA_DIR or a file in it; the gauges of it are left out",
    ),
    Message(
        "right_lacking",
        "WARNING",
        "consumer",
        ("part", "right", "error", "hint"),
        "The server keeps it from observing the group, or from saying which entries it reads; said once for "
        "each part of it",
    ),
    Message(
        "group_not_observed",
        "WARNING",
        "consumer",
        ("error",),
        "A look at the group failed; its figures end with the lease, unless the next look works",
    ),
    Message(
        "group_unreadable",
        "ERROR",
        "consumer",
        ("part", "kind", "error"),
        "What the server answered for a part of the group's figures can't be read, or reading it failed: "
        "those figures are left out, and the next look tries again; said once for each kind of error",
    ),
    Message(
        "lease_not_given_back",
        "DEBUG",
        "consumer",
        ("expires_after_s",),
        "The server was away at the end; another replica observes the group when the lease is over",
    ),
    Message(
        "redis_unavailable",
        "ERROR",
        "both",
        ("error",),
        "The server can't be reached or can't serve; it waits",
    ),
    Message("redis_back", "INFO", "both", ("failures",), "The server answers again, after so many failures"),
    Message(
        "stopped_while_waiting",
        "WARNING",
        "both",
        ("hint",),
        "Asked to stop in a wait: what it held is not settled",
    ),
    Message(
        "stop_waits",
        "WARNING",
        "both",
        ("where",),
        "Asked to stop, it is still there, innermost call first, with a batch in hand; Ctrl-C ends that too",
    ),
    Message(
        "stop_forced",
        "WARNING",
        "both",
        ("where", "hint"),
        "Asked to stop, it was in a call that does not return, and was ended from outside of it",
    ),
    Message(
        "settings_unusable",
        "CRITICAL",
        "both",
        ("error",),
        "Nothing is started; it ends with 2. On standard error",
    ),
    Message("health_serving", "INFO", "both", ("port",), "/metrics, /livez and /readyz are there"),
    Message("health_port_taken", "WARNING", "both", ("port", "error"), "They are not, and all else goes on"),
    Message(
        "health_client_gone",
        "WARNING",
        "both",
        ("client", "error"),
        "Who asked went away before the answer: a scraper's timeout, a policy",
    ),
    Message(
        "health_crowded",
        "WARNING",
        "both",
        ("connections", "error"),
        "More are open at the port of /metrics than are served: the oldest are closed. With an error, none "
        "is taken for a second",
    ),
    Message(
        "health_request_failed", "ERROR", "both", ("client", "exc_info"), "An answer could not be made: a bug"
    ),
    Message("spans_not_sent", "WARNING", "both", ("error",), "The exporter's own words about traces"),
    Message(
        "last_spans_given_up",
        "WARNING",
        "both",
        ("waited_s", "hint"),
        "The collector did not answer at the end",
    ),
    Message(
        "logs_not_sent",
        "WARNING",
        "both",
        ("error",),
        "The exporter's own words about OTLP logs; the lines are here all the same",
    ),
    Message(
        "last_logs_given_up",
        "WARNING",
        "both",
        ("waited_s", "hint"),
        "The collector did not answer at the end",
    ),
    Message(
        "metrics_not_sent",
        "WARNING",
        "both",
        ("error",),
        "The exporter's own words about OTLP metrics; /metrics has them all the same",
    ),
    Message(
        "last_metrics_given_up",
        "WARNING",
        "both",
        ("waited_s", "hint"),
        "The collector did not answer at the end",
    ),
    Message(
        "crashed",
        "CRITICAL",
        "both",
        ("error", "exc_info"),
        "An error that nobody caught: a bug. The exit code is Python's",
    ),
    Message(
        "thread_crashed",
        "ERROR",
        "both",
        ("kind", "of_thread", "error", "exc_info"),
        "The same in a thread; the process goes on",
    ),
    Message(
        "exception_ignored",
        "ERROR",
        "both",
        ("kind", "where", "error", "[exc_info]"),
        "The same where none can be raised, as in a destructor",
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
        "A line that could not be made: a bug at that place",
    ),
    Message(
        "log_lines_lost",
        "WARNING",
        "both",
        ("lines",),
        "So many lines before it could not be written: nobody read them, or the disk was full",
    ),
    Message(
        "code_changed", "INFO", "reload", ("files",), "In a development container the service starts again"
    ),
)
"""Sorted by who says it, in the order of a process's life."""
