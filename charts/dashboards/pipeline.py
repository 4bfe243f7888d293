"""Three questions at the top (does it flow, what takes the time, what goes wrong), and each stage in detail."""

from charts.dashboards import links, shared
from charts.dashboards.boards import Board, Row
from charts.dashboards.panels import Panel, Query, figure, heat, lines
from charts.dashboards.shared import PROBLEMS, RATE, quantiles


def _duration(title: str, description: str, histogram: str) -> Panel:
    return lines(title, description, "s", *quantiles(histogram), links=links.to_traces())


_STAGES = f"rate(telemetry_consumer_stage_duration_seconds_sum{{consumers}}[{RATE}])"
_SHARES = (
    f"sum by (stage) ({_STAGES})"
    f" / scalar(clamp_min(sum({_STAGES}), scalar(count(telemetry_consumer_in_flight_events{{consumers}}))))"
)

_FLOW = Row(
    "Does it flow?",
    lines(
        "Published",
        "Events a second of each outcome. «duplicate» was published twice on purpose, «dropped» is the oldest that a full "
        "stream gave up, «unreadable» a line of a file.",
        "eps",
        Query(f"sum by (outcome) (rate(telemetry_producer_events_total{{group}}[{RATE}]))", "{{outcome}}"),
        links=[*links.to_traces("telemetry-producer"), *links.to_logs()],
    ),
    lines(
        "Received",
        "Entries a second: new ones, and those that were delivered before and are received again.",
        "eps",
        Query(
            f"sum by (source) (rate(telemetry_consumer_received_events_total{{consumers}}[{RATE}]))",
            "{{source}}",
        ),
        stacked=True,
        links=links.to_traces(),
    ),
    lines(
        "Settled",
        "Entries a second by outcome. Together they are those received; pending ones are received again.",
        "eps",
        Query(
            f"sum by (outcome) (rate(telemetry_consumer_settled_events_total{{consumers}}[{RATE}]))",
            "{{outcome}}",
        ),
        stacked=True,
        links=links.to_traces(),
    ),
)

_TIME = Row(
    "What takes the time?",
    heat(
        "From publication to commit",
        "How the batches spread over the time from an entry's publication to its commit, for the oldest entry of each. The "
        "dots are exemplars, which lead to their traces.",
        "s",
        Query(
            f"sum by (le) (increase(telemetry_consumer_publish_to_commit_seconds_bucket{{consumers}}[{RATE}]))",
            exemplars=True,
        ),
        links=links.to_traces(),
    ),
    lines(
        "Each stage, 99th percentile",
        "Time of a batch in each stage.",
        "s",
        Query(
            "histogram_quantile(0.99, sum by (le, stage) (rate(telemetry_consumer_stage_duration_seconds_bucket{consumers}"
            f"[{RATE}])))",
            "{{stage}}",
        ),
        links=links.to_traces(),
    ),
    lines(
        "What the time goes into",
        "Share of the consumers' time that each stage takes; what is left to 100 % is idle. A batch is counted when it is "
        "over: one that took longer than the time between two points counts as no more than all of it.",
        "percentunit",
        Query(_SHARES, "{{stage}}"),
        stacked=True,
        maximum=1,
    ),
)

_WRONG = Row(
    "What goes wrong?",
    shared.dead_letters(),
    lines(
        "Failed writes",
        "Writes a second that failed: to the sink, by kind of error, and of dead letters. Nothing of them is "
        "acknowledged.",
        "cps",
        Query(
            f"sum by (error) (rate(telemetry_sink_errors_total{{consumers}}[{RATE}])) > 0", "sink: {{error}}"
        ),
        Query(f"sum(rate(telemetry_dlq_write_errors_total{{consumers}}[{RATE}]))", "dead letters"),
        links=[*links.to_failed_traces(), *PROBLEMS],
    ),
    lines(
        "Retries",
        "Writes a second that were tried again, by stage.",
        "cps",
        Query(f"sum by (stage) (rate(telemetry_retries_total{{consumers}}[{RATE}])) > 0", "{{stage}}"),
        links=[*links.to_failed_traces(), *PROBLEMS],
    ),
    shared.redis_errors(),
    lines(
        "Taken over, lost, removed",
        "Entries taken over from idle consumers, entries whose content was gone from the stream, idle consumers that were "
        "removed, and consumer groups that had to be made: how many a minute.",
        "short",
        Query(f"sum(rate(telemetry_claimed_events_total{{consumers}}[{RATE}])) * 60", "entries taken over"),
        Query(
            f"sum(rate(telemetry_lost_entries_total{{consumers}}[{RATE}])) * 60",
            "entries whose content was gone",
        ),
        Query(f"sum(rate(telemetry_consumers_removed_total{{consumers}}[{RATE}])) * 60", "consumers removed"),
        Query(f"sum(rate(telemetry_group_creations_total{{consumers}}[{RATE}])) * 60", "groups made"),
        links=PROBLEMS,
    ),
    lines(
        "Clock behind",
        "How far the clock of a consumer's machine is behind the server's. It consumes nothing until it is right.",
        "s",
        Query("max by (pod) (telemetry_clock_behind_seconds{consumers})", "{{pod}}"),
        links=PROBLEMS,
    ),
)

_PUBLISH = Row(
    "Publishing",
    lines(
        "Time of a round trip",
        "How long the server takes to write a batch and the record of it.",
        "s",
        *quantiles("telemetry_producer_send_duration_seconds_bucket{group}"),
        links=links.to_traces("telemetry-producer"),
    ),
    shared.producers_blocked(),
    lines(
        "Events in a published batch",
        "Median and 99th percentile.",
        "short",
        *quantiles("telemetry_producer_batch_size_events_bucket{group}"),
    ),
    lines(
        "Last published",
        "How long ago each producer published something.",
        "s",
        Query(
            "time() - max by (pod) (telemetry_producer_last_publish_timestamp_seconds{group} > 0)", "{{pod}}"
        ),
        links=PROBLEMS,
    ),
)

_DOOR = Row(
    "Door (PRODUCER_MODE=http)",
    lines(
        "Requests",
        "Requests a second by how they were answered. 200, 204: all is in the stream; 207, 400: not all of it was good; "
        "429: the stream is full; 503: the broker is away.",
        "cps",
        Query(
            f"sum by (endpoint, code) (rate(telemetry_http_requests_total{{group}}[{RATE}])) > 0",
            "{{endpoint}} {{code}}",
        ),
        links=links.to_logs(),
    ),
    lines(
        "Time from a request to the stream",
        "From the last byte of a request until its events were in the stream. LINGER_MS is a part of it.",
        "s",
        *quantiles("telemetry_http_publish_duration_seconds_bucket{group}"),
    ),
    lines(
        "Refused by the door",
        "Events a second that were refused, by the field at fault; of a body or token, requests a second. Who sent them was "
        "told why.",
        "eps",
        Query(f"sum by (field) (rate(telemetry_http_refused_events_total{{group}}[{RATE}]))", "{{field}}"),
    ),
    lines(
        "Connections of clients",
        "Open now, by pod. At HTTP_CONNECTIONS the oldest without a request makes room.",
        "short",
        Query("sum by (pod) (telemetry_http_connections{group})", "{{pod}}"),
    ),
)

_MQTT = Row(
    "MQTT (PRODUCER_MODE=mqtt)",
    lines(
        "Messages of the broker",
        "Messages a second: new ones, and those that the broker says it sends again.",
        "cps",
        Query(
            f"sum by (delivery) (rate(telemetry_mqtt_received_messages_total{{group}}[{RATE}]))",
            "{{delivery}}",
        ),
        links=links.to_logs(),
    ),
    lines(
        "What became of messages",
        "Messages a second by what became of them. dead, partly: something of them made no event, and is a dead letter.",
        "cps",
        Query(
            f"sum by (outcome) (rate(telemetry_mqtt_settled_messages_total{{group}}[{RATE}]))", "{{outcome}}"
        ),
    ),
    lines(
        "Messages that made no event",
        "Messages a second, by the first field at fault. Each of them is a dead letter that says what is wrong.",
        "cps",
        Query(
            f"sum by (reason) (rate(telemetry_mqtt_refused_messages_total{{group}}[{RATE}]))", "{{reason}}"
        ),
    ),
    lines(
        "Time from a message to the stream",
        "From a message's arrival until its events were in the stream. LINGER_MS is a part of it.",
        "s",
        *quantiles("telemetry_mqtt_publish_duration_seconds_bucket{group}"),
    ),
    lines(
        "Lag of messages",
        "From a message's own time until it came, of messages that say one: what devices and the broker have kept it for. "
        "A clock that is wrong shows here, too.",
        "s",
        *quantiles("telemetry_mqtt_lag_seconds_bucket{group}"),
    ),
    lines(
        "Messages in flight",
        "Received, and not in the stream yet, by pod. It stays at MQTT_MAX_IN_FLIGHT while the stream is full or away.",
        "short",
        Query("sum by (pod) (telemetry_mqtt_in_flight_messages{group})", "{{pod}}"),
    ),
    lines(
        "Connected to the MQTT broker",
        "1 while a pod is connected and subscribed.",
        "short",
        Query("min by (pod) (telemetry_mqtt_connected{group})", "{{pod}}"),
        links=PROBLEMS,
    ),
    lines(
        "Waiting at the MQTT broker",
        "Messages that the broker says it holds, of all its clients; retained ones are not counted. Only brokers with "
        "Mosquitto's $SYS topics say so.",
        "short",
        Query("max(telemetry_mqtt_broker_waiting_messages{group})", "waiting"),
    ),
    lines(
        "Dropped by the MQTT broker",
        "Messages that the broker says it has dropped since its start, of all its clients. Only brokers with Mosquitto's $SYS "
        "topics say so.",
        "short",
        Query("max(telemetry_mqtt_broker_dropped_messages{group})", "dropped"),
    ),
)

_RECEIVE = Row(
    "Receiving",
    lines(
        "Received by each consumer",
        "How the work is shared.",
        "eps",
        Query(
            f"sum by (pod) (rate(telemetry_consumer_received_events_total{{consumers}}[{RATE}]))", "{{pod}}"
        ),
        stacked=True,
    ),
    lines(
        "Entries in a batch",
        "Median and 99th percentile. A median at BATCH_SIZE: there is more to do than is done.",
        "short",
        *quantiles("telemetry_consumer_batch_size_events_bucket{consumers}"),
    ),
    lines(
        "Batches",
        "Batches a second of each consumer.",
        "cps",
        Query(
            f"sum by (pod) (rate(telemetry_consumer_batch_size_events_count{{consumers}}[{RATE}]))",
            "{{pod}}",
        ),
        links=links.to_traces(),
    ),
    lines(
        "In flight",
        "Entries received and not settled yet. Between two batches it is 0.",
        "short",
        Query("max by (pod) (telemetry_consumer_in_flight_events{consumers})", "{{pod}}"),
    ),
)

_STORE = Row(
    "Storing",
    shared.publish_to_commit("From publication to commit, median and 99th percentile"),
    _duration(
        "A whole batch",
        "From a batch's receipt to its acknowledgement.",
        "telemetry_consumer_batch_duration_seconds_bucket{consumers}",
    ),
    _duration(
        "Write to the sink",
        "One transaction, durable.",
        "telemetry_sink_commit_duration_seconds_bucket{consumers}",
    ),
    lines(
        "Above their threshold",
        "Events a second that are stored as degraded, by KPI.",
        "eps",
        Query(
            f"sum by (kpi) (rate(telemetry_consumer_degraded_events_total{{consumers}}[{RATE}]))", "{{kpi}}"
        ),
        stacked=True,
    ),
    lines(
        "Acknowledged",
        "Acknowledgements a second. «already_acked» was acknowledged by another consumer before: it was taken over.",
        "eps",
        Query(f"sum by (result) (rate(telemetry_ack_events_total{{consumers}}[{RATE}]))", "{{result}}"),
        stacked=True,
    ),
    lines(
        "Log lines lost",
        "Lines a second that nobody read, or that the disk had no room for. The work goes on.",
        "cps",
        Query(f"sum by (pod) (rate(telemetry_log_lines_lost_total{{group}}[{RATE}]))", "{{pod}}"),
    ),
)

_ROOM = Row(
    "Room",
    figure(
        "Disk left",
        "Share of the volume with the data that is free, of the consumer with the least.",
        "percentunit",
        Query("min(telemetry_disk_free_bytes{consumers} / telemetry_disk_size_bytes{consumers})"),
        below="red",
        steps=[(0.05, "yellow"), (0.15, "green")],
        height=8,
        decimals=0,
    ),
    figure(
        "Last commit",
        "How long ago any consumer stored a batch.",
        "s",
        Query("time() - max(telemetry_last_commit_timestamp_seconds{consumers} > 0)"),
        steps=[(60, "yellow"), (600, "red")],
        height=8,
        decimals=0,
        no_value="never",
    ),
    lines(
        "Database, write-ahead log, dead letters",
        "Sizes of the files. A log that grows: a reader keeps it from being emptied.",
        "bytes",
        Query("max(telemetry_sink_database_bytes{consumers})", "database"),
        Query("max(telemetry_sink_wal_bytes{consumers})", "write-ahead log"),
        Query("max(telemetry_dlq_bytes{consumers})", "dead letters"),
    ),
    lines(
        "Disk",
        "Size of the volume with the data, and what of it is free.",
        "bytes",
        Query("min(telemetry_disk_free_bytes{consumers})", "free"),
        Query("max(telemetry_disk_size_bytes{consumers})", "size"),
        dashed="size",
    ),
    lines(
        "Days made ahead",
        "PostgreSQL: from today to the newest day that has a partition. It falls while no consumer can make days.",
        "s",
        Query("min(telemetry_sink_partitions_ahead_seconds{consumers})", "made ahead"),
    ),
    lines(
        "Rows without a partition",
        "PostgreSQL: rows of days that have none yet. They are moved once their day is made.",
        "short",
        Query("max(telemetry_sink_unpartitioned_events{consumers})", "rows"),
    ),
    lines(
        "Processor time",
        "Processors that each process uses.",
        "short",
        Query(
            f"sum by (pod) (rate(process_cpu_seconds_total{{consumers}}[{RATE}]) and on (namespace, pod, instance)"
            " telemetry_build_info)",
            "{{pod}}",
        ),
    ),
    lines(
        "Memory",
        "Resident memory of each process.",
        "bytes",
        Query(
            "sum by (pod) (process_resident_memory_bytes{consumers} and on (namespace, pod, instance)"
            " telemetry_build_info)",
            "{{pod}}",
        ),
    ),
    lines(
        "Open files",
        "Open files and connections of each process, and how many it may have.",
        "short",
        Query(
            "sum by (pod) (process_open_fds{consumers} and on (namespace, pod, instance) telemetry_build_info)",
            "{{pod}}",
        ),
    ),
)

PIPELINE = Board(
    "pipeline",
    "Telemetry pipeline / Pipeline",
    "Does it flow, what takes the time, what goes wrong; below, each stage in detail.",
    (_FLOW, _TIME, _WRONG, _PUBLISH, _DOOR, _MQTT, _RECEIVE, _STORE, _ROOM),
)
