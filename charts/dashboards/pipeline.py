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
        "Events a second, by outcome. duplicate: published twice on purpose. dropped: the oldest events of a full "
        "stream. unreadable: lines of a file that can't be read.",
        "eps",
        Query(f"sum by (outcome) (rate(telemetry_producer_events_total{{group}}[{RATE}]))", "{{outcome}}"),
        links=[*links.to_traces("telemetry-producer"), *links.to_logs()],
    ),
    lines(
        "Received",
        "Entries a second. new: received for the first time. recovered: delivered before, and received again.",
        "eps",
        Query(
            f"sum by (source) (rate(telemetry_consumer_received_events_total{{consumers}}[{RATE}]))",
            "{{source}}",
        ),
        stacked=True,
        links=links.to_traces(),
    ),
    lines(
        "Outcomes",
        "Entries a second, by outcome. Together they are the entries received. Pending entries are received again.",
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
        "Time from an entry's publication to its commit, for the oldest entry of each batch. The colour shows how "
        "many batches took so long. The dots are exemplars: each leads to the trace of a batch.",
        "s",
        Query(
            f"sum by (le) (increase(telemetry_consumer_publish_to_commit_seconds_bucket{{consumers}}[{RATE}]))",
            exemplars=True,
        ),
        links=links.to_traces(),
    ),
    lines(
        "Time of each stage, 99th percentile",
        "How long a batch takes in each stage.",
        "s",
        Query(
            "histogram_quantile(0.99, sum by (le, stage) (rate(telemetry_consumer_stage_duration_seconds_bucket{consumers}"
            f"[{RATE}])))",
            "{{stage}}",
        ),
        links=links.to_traces(),
    ),
    lines(
        "Share of time by stage",
        "Share of the consumers' time that each stage takes; the rest, up to 100 %, is idle. A batch is counted "
        "when it ends. If it took longer than the time between two points, it counts as 100 % of that time.",
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
        "Failed writes a second: to the sink, by kind of error, and of dead letters. Their entries are not "
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
        *shared.or_none(
            f"sum by (stage) (rate(telemetry_retries_total{{consumers}}[{RATE}])) > 0", "{{stage}}"
        ),
        links=[*links.to_failed_traces(), *PROBLEMS],
    ),
    shared.redis_errors(),
    lines(
        "Taken over, lost, removed",
        "How many a minute: entries taken over from idle consumers, entries whose content was gone from the "
        "stream, idle consumers removed from the group, and consumer groups made.",
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
        "How far the clock of a consumer's machine is behind the server's. The consumer consumes nothing until "
        "the clock is right.",
        "s",
        Query("max by (pod) (telemetry_clock_behind_seconds{consumers})", "{{pod}}"),
        links=PROBLEMS,
    ),
)

_PUBLISH = Row(
    "Publishing",
    lines(
        "Time of a round trip",
        "From sending a batch until the server has written it, with the run's record.",
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
        "Time since each producer last published something.",
        "s",
        Query(
            "time() - max by (pod) (telemetry_producer_last_publish_timestamp_seconds{group} > 0)", "{{pod}}"
        ),
        links=PROBLEMS,
    ),
)

_DOOR = Row(
    "HTTP (PRODUCER_MODE=http)",
    lines(
        "Requests",
        "Requests a second, by endpoint and status code. 200, 204: all events are in the stream. 207, 400: some "
        "or all of them were refused. 429: the stream is full. 503: the broker is away or has not confirmed the "
        "events in time.",
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
        "Refused events",
        "Events a second that were refused, by the wrong field. body, token: the whole request was refused, and "
        "counts once. The answer tells the sender why.",
        "eps",
        Query(f"sum by (field) (rate(telemetry_http_refused_events_total{{group}}[{RATE}]))", "{{field}}"),
    ),
    lines(
        "Connections of clients",
        "Open connections, by pod. If there are more than HTTP_CONNECTIONS, the oldest idle one is closed.",
        "short",
        Query("sum by (pod) (telemetry_http_connections{group})", "{{pod}}"),
    ),
)

_MQTT = Row(
    "MQTT (PRODUCER_MODE=mqtt)",
    lines(
        "Messages received",
        "Messages a second. new: received for the first time. redelivered: the broker says that it has sent them "
        "before.",
        "cps",
        Query(
            f"sum by (delivery) (rate(telemetry_mqtt_received_messages_total{{group}}[{RATE}]))",
            "{{delivery}}",
        ),
        links=links.to_logs(),
    ),
    lines(
        "Messages by outcome",
        "Messages a second, by outcome. events: all of it became events. dead: it becomes a dead letter. partly: "
        "both. without_reading: it says itself that it has no reading. retained: an old message that came with "
        "the subscription. repeated: sent again while the first was still in work.",
        "cps",
        Query(
            f"sum by (outcome) (rate(telemetry_mqtt_settled_messages_total{{group}}[{RATE}]))", "{{outcome}}"
        ),
    ),
    lines(
        "Refused messages",
        "Messages a second that were refused as a whole or in part, by the first wrong field. Each becomes a dead "
        "letter that says what is wrong.",
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
        "From the time in a message to its arrival, for messages that have a time: how long the device and the "
        "broker kept it. A device's wrong clock shows here too.",
        "s",
        *quantiles("telemetry_mqtt_lag_seconds_bucket{group}"),
    ),
    lines(
        "Messages in flight",
        "Messages received and not yet in the stream, by pod. The number stays at MQTT_MAX_IN_FLIGHT while the "
        "stream is full or the server is away.",
        "short",
        Query("sum by (pod) (telemetry_mqtt_in_flight_messages{group})", "{{pod}}"),
    ),
    lines(
        "Connected to the MQTT broker",
        "1 while a pod is connected and subscribed, else 0.",
        "short",
        Query("min by (pod) (telemetry_mqtt_connected{group})", "{{pod}}"),
        links=PROBLEMS,
    ),
    lines(
        "Waiting at the MQTT broker",
        "Messages that the broker holds for all its clients, without retained ones. Only brokers with Mosquitto's "
        "$SYS topics report this.",
        "short",
        Query("max(telemetry_mqtt_broker_waiting_messages{group})", "waiting"),
    ),
    lines(
        "Dropped by the MQTT broker",
        "Messages that the broker has dropped since its start, for all its clients. Only brokers with Mosquitto's "
        "$SYS topics report this.",
        "short",
        Query("max(telemetry_mqtt_broker_dropped_messages{group})", "dropped"),
    ),
)

_RECEIVE = Row(
    "Receiving",
    lines(
        "Received by each consumer",
        "Entries a second, by consumer: how evenly the work is shared.",
        "eps",
        Query(
            f"sum by (pod) (rate(telemetry_consumer_received_events_total{{consumers}}[{RATE}]))", "{{pod}}"
        ),
        stacked=True,
    ),
    lines(
        "Entries in a batch",
        "Median and 99th percentile. If the median is BATCH_SIZE, more entries wait than one batch can take.",
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
        "Entries that each consumer has received, and whose outcome is still open. Between two batches it is 0.",
        "short",
        Query("max by (pod) (telemetry_consumer_in_flight_events{consumers})", "{{pod}}"),
    ),
)

_STORE = Row(
    "Storing",
    shared.publish_to_commit("From publication to commit, median and 99th percentile"),
    _duration(
        "A whole batch",
        "From the receipt of a batch to its acknowledgement.",
        "telemetry_consumer_batch_duration_seconds_bucket{consumers}",
    ),
    _duration(
        "Write to the sink",
        "Time of one transaction, until it is durable.",
        "telemetry_sink_commit_duration_seconds_bucket{consumers}",
    ),
    lines(
        "Degraded events",
        "Events a second that are above their threshold, by KPI.",
        "eps",
        Query(
            f"sum by (kpi) (rate(telemetry_consumer_degraded_events_total{{consumers}}[{RATE}]))", "{{kpi}}"
        ),
        stacked=True,
    ),
    lines(
        "Acknowledged",
        "Entries acknowledged a second. already_acked: another consumer had taken the entry over, and "
        "acknowledged it before.",
        "eps",
        Query(f"sum by (result) (rate(telemetry_ack_events_total{{consumers}}[{RATE}]))", "{{result}}"),
        stacked=True,
    ),
    lines(
        "Log lines lost",
        "Log lines a second that could not be written: nobody read them, or the disk was full. The work goes on.",
        "cps",
        Query(f"sum by (pod) (rate(telemetry_log_lines_lost_total{{group}}[{RATE}]))", "{{pod}}"),
    ),
)

_ROOM = Row(
    "Resources",
    figure(
        "Disk left",
        "Free share of the volume with the data, for the consumer with the least free space.",
        "percentunit",
        Query("min(telemetry_disk_free_bytes{consumers} / telemetry_disk_size_bytes{consumers})"),
        below="red",
        steps=[(0.05, "yellow"), (0.15, "green")],
        height=8,
        decimals=0,
    ),
    figure(
        "Last commit",
        "Time since any consumer last stored a batch.",
        "s",
        Query("time() - max(telemetry_last_commit_timestamp_seconds{consumers} > 0)"),
        steps=[(60, "yellow"), (600, "red")],
        height=8,
        decimals=0,
        no_value="never",
    ),
    lines(
        "Database, write-ahead log, dead letters",
        "Sizes of the files. If the write-ahead log grows, a reader keeps it from being emptied.",
        "bytes",
        Query("max(telemetry_sink_database_bytes{consumers})", "database"),
        Query("max(telemetry_sink_wal_bytes{consumers})", "write-ahead log"),
        Query("max(telemetry_dlq_bytes{consumers})", "dead letters"),
    ),
    lines(
        "Disk",
        "Size of the volume with the data, and its free space.",
        "bytes",
        Query("min(telemetry_disk_free_bytes{consumers})", "free"),
        Query("max(telemetry_disk_size_bytes{consumers})", "size"),
        dashed="size",
    ),
    lines(
        "Partitions made ahead",
        "PostgreSQL: from today to the newest day that has a partition. It falls while no consumer can make "
        "partitions.",
        "s",
        Query("min(telemetry_sink_partitions_ahead_seconds{consumers})", "made ahead"),
    ),
    lines(
        "Rows without a partition",
        "PostgreSQL: rows of days that have no partition yet. They are moved once the partition is made.",
        "short",
        Query("max(telemetry_sink_unpartitioned_events{consumers})", "rows"),
    ),
    lines(
        "Processor time",
        "Processors that each process uses: 1 is one whole processor.",
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
        "Open files and connections of each process.",
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
