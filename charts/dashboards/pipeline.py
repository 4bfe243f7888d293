"""Each stage: its traffic, errors, duration and saturation."""

from charts.dashboards import links
from charts.dashboards.boards import Board, Row
from charts.dashboards.panels import Panel, Query, figure, heat, lines

_PROBLEMS = links.to_logs("Warnings and errors", links.PROBLEMS)
_RATE = "$__rate_interval"


def _quantiles(histogram: str, *, by: str = "", exemplars: bool = False) -> tuple[Query, Query]:
    """Ask for the median and the 99th percentile of a histogram, written with its label matchers."""
    grouped = f"le, {by}" if by else "le"
    told = f"{{{{{by}}}}} " if by else ""
    rate = f"sum by ({grouped}) (rate({histogram}[{_RATE}]))"
    return (
        Query(f"histogram_quantile(0.5, {rate})", f"{told}p50", exemplars=exemplars),
        Query(f"histogram_quantile(0.99, {rate})", f"{told}p99"),
    )


def _duration(title: str, description: str, histogram: str) -> Panel:
    return lines(title, description, "s", *_quantiles(histogram), links=links.to_traces())


_PUBLISH = Row(
    "Publish",
    lines(
        "Published",
        "Events a second of each outcome. «duplicate» was published twice on purpose, «dropped» is the oldest that a full "
        "stream gave up, «unreadable» a line of a file.",
        "eps",
        Query(f"sum by (outcome) (rate(telemetry_producer_events_total{{group}}[{_RATE}]))", "{{outcome}}"),
        links=[*links.to_traces("telemetry-producer"), *links.to_logs()],
    ),
    lines(
        "Time of a round trip",
        "How long the server takes to write a batch and the record of it.",
        "s",
        *_quantiles("telemetry_producer_send_duration_seconds_bucket{group}"),
        links=links.to_traces("telemetry-producer"),
    ),
    lines(
        "Blocked",
        "Share of the time that each producer waits because the stream is full (STREAM_MAX_LENGTH). 100 %: nothing is "
        "published.",
        "percentunit",
        Query(f"sum by (pod) (rate(telemetry_producer_blocked_seconds_total{{group}}[{_RATE}]))", "{{pod}}"),
        maximum=1,
        links=_PROBLEMS,
    ),
    lines(
        "Events in a published batch",
        "Median and 99th percentile.",
        "short",
        *_quantiles("telemetry_producer_batch_size_events_bucket{group}"),
    ),
    lines(
        "Last published",
        "How long ago each producer published something.",
        "s",
        Query(
            "time() - max by (pod) (telemetry_producer_last_publish_timestamp_seconds{group} > 0)", "{{pod}}"
        ),
        links=_PROBLEMS,
    ),
    lines(
        "Errors of Redis",
        "Errors a second, of the server or the connection to it, of producers and consumers.",
        "eps",
        Query(f"sum by (error) (rate(telemetry_redis_errors_total{{group}}[{_RATE}])) > 0", "{{error}}"),
        links=_PROBLEMS,
    ),
)

_RECEIVE = Row(
    "Receive",
    lines(
        "Received",
        "Entries a second: new ones, and those that were delivered before and are received again.",
        "eps",
        Query(
            f"sum by (source) (rate(telemetry_consumer_received_events_total{{consumers}}[{_RATE}]))",
            "{{source}}",
        ),
        stacked=True,
        links=links.to_traces(),
    ),
    lines(
        "Received by each consumer",
        "How the work is shared.",
        "eps",
        Query(
            f"sum by (pod) (rate(telemetry_consumer_received_events_total{{consumers}}[{_RATE}]))", "{{pod}}"
        ),
        stacked=True,
    ),
    lines(
        "Entries in a batch",
        "Median and 99th percentile. A median at BATCH_SIZE: there is more to do than is done.",
        "short",
        *_quantiles("telemetry_consumer_batch_size_events_bucket{consumers}"),
    ),
    lines(
        "Batches",
        "Batches a second of each consumer.",
        "cps",
        Query(
            f"sum by (pod) (rate(telemetry_consumer_batch_size_events_count{{consumers}}[{_RATE}]))",
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
    lines(
        "Taken over, lost, removed",
        "Entries taken over from idle consumers, entries whose content was gone from the stream, idle consumers that were "
        "removed, and consumer groups that had to be made: how many a minute.",
        "short",
        Query(f"sum(rate(telemetry_claimed_events_total{{consumers}}[{_RATE}])) * 60", "entries taken over"),
        Query(
            f"sum(rate(telemetry_lost_entries_total{{consumers}}[{_RATE}])) * 60",
            "entries whose content was gone",
        ),
        Query(
            f"sum(rate(telemetry_consumers_removed_total{{consumers}}[{_RATE}])) * 60", "consumers removed"
        ),
        Query(f"sum(rate(telemetry_group_creations_total{{consumers}}[{_RATE}])) * 60", "groups made"),
        links=_PROBLEMS,
    ),
)

_TIME = Row(
    "Time",
    heat(
        "From publication to commit",
        "How the batches spread over the time from an entry's publication to its commit, for the oldest entry of each. The "
        "dots are exemplars, which lead to their traces.",
        "s",
        Query(
            f"sum by (le) (increase(telemetry_consumer_publish_to_commit_seconds_bucket{{consumers}}[{_RATE}]))",
            exemplars=True,
        ),
        links=links.to_traces(),
    ),
    lines(
        "From publication to commit, median and 99th percentile",
        "For the oldest entry of each batch. The dots are exemplars, which lead to their traces.",
        "s",
        *_quantiles("telemetry_consumer_publish_to_commit_seconds_bucket{consumers}", exemplars=True),
        links=links.to_traces(),
    ),
    _duration(
        "A whole batch",
        "From a batch's receipt to its acknowledgement.",
        "telemetry_consumer_batch_duration_seconds_bucket{consumers}",
    ),
    lines(
        "Each stage, 99th percentile",
        "Time of a batch in each stage.",
        "s",
        Query(
            "histogram_quantile(0.99, sum by (le, stage) (rate(telemetry_consumer_stage_duration_seconds_bucket{consumers}"
            f"[{_RATE}])))",
            "{{stage}}",
        ),
        links=links.to_traces(),
    ),
    lines(
        "What the time goes into",
        "Share of a consumer's time that each stage takes, added over consumers: at 100 % for each consumer there is no "
        "idle time left.",
        "percentunit",
        Query(
            f"sum by (stage) (rate(telemetry_consumer_stage_duration_seconds_sum{{consumers}}[{_RATE}]))",
            "{{stage}}",
        ),
        stacked=True,
    ),
    _duration(
        "Write to the sink",
        "One transaction, durable.",
        "telemetry_sink_commit_duration_seconds_bucket{consumers}",
    ),
)

_OUTCOMES = Row(
    "Outcomes",
    lines(
        "Settled",
        "Entries a second by outcome. Together they are those received; pending ones are received again.",
        "eps",
        Query(
            f"sum by (outcome) (rate(telemetry_consumer_settled_events_total{{consumers}}[{_RATE}]))",
            "{{outcome}}",
        ),
        stacked=True,
        links=links.to_traces(),
    ),
    lines(
        "Dead letters",
        "Events a second that became dead letters, by stage and reason. `telemetry dlq list` shows them.",
        "eps",
        Query(
            f"sum by (stage, reason) (rate(telemetry_consumer_dead_events_total{{consumers}}[{_RATE}])) > 0",
            "{{stage}}: {{reason}}",
        ),
        stacked=True,
        links=[*links.to_failed_traces(), *_PROBLEMS],
    ),
    lines(
        "Above their threshold",
        "Events a second that are stored as degraded, by KPI.",
        "eps",
        Query(
            f"sum by (kpi) (rate(telemetry_consumer_degraded_events_total{{consumers}}[{_RATE}]))", "{{kpi}}"
        ),
        stacked=True,
    ),
    lines(
        "Retries",
        "Writes a second that were tried again, by stage.",
        "cps",
        Query(f"sum by (stage) (rate(telemetry_retries_total{{consumers}}[{_RATE}])) > 0", "{{stage}}"),
        links=[*links.to_failed_traces(), *_PROBLEMS],
    ),
    lines(
        "Failed writes",
        "Writes a second that failed: to the sink, by kind of error, and of dead letters. Nothing of them is "
        "acknowledged.",
        "cps",
        Query(
            f"sum by (error) (rate(telemetry_sink_errors_total{{consumers}}[{_RATE}])) > 0", "sink: {{error}}"
        ),
        Query(f"sum(rate(telemetry_dlq_write_errors_total{{consumers}}[{_RATE}]))", "dead letters"),
        links=[*links.to_failed_traces(), *_PROBLEMS],
    ),
    lines(
        "Acknowledged",
        "Acknowledgements a second. «already_acked» was acknowledged by another consumer before: it was taken over.",
        "eps",
        Query(f"sum by (result) (rate(telemetry_ack_events_total{{consumers}}[{_RATE}]))", "{{result}}"),
        stacked=True,
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
        "Processor time",
        "Processors that each process uses.",
        "short",
        Query(
            f"sum by (pod) (rate(process_cpu_seconds_total{{consumers}}[{_RATE}]) and on (namespace, pod, instance)"
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
    "Each stage: its traffic, errors, duration and saturation.",
    (_PUBLISH, _RECEIVE, _TIME, _OUTCOMES, _ROOM),
)
