"""The stream and its group: how full, how far behind, and who reads it."""

from charts.dashboards import links
from charts.dashboards.boards import Board, Row
from charts.dashboards.panels import Query, figure, lines

_PROBLEMS = links.to_logs("Warnings and errors", links.PROBLEMS)
_RATE = "$__rate_interval"

_NOW = Row(
    "Now",
    figure(
        "Entries",
        "Entries in the stream, acknowledged ones that are not trimmed yet included.",
        "short",
        Query("max(telemetry_stream_length_entries{group})"),
        area=True,
    ),
    figure(
        "Full",
        "Length against STREAM_MAX_LENGTH, at which producers wait.",
        "percentunit",
        Query(
            "max(telemetry_stream_length_entries{group}) / max(telemetry_stream_length_limit_entries{group})"
        ),
        steps=[(0.7, "yellow"), (0.9, "red")],
        no_value="no limit",
        decimals=1,
    ),
    figure(
        "Memory",
        "Redis' memory against its limit, at which it refuses writes.",
        "percentunit",
        Query(
            "max(telemetry_redis_memory_used_bytes{group}) / (max(telemetry_redis_memory_max_bytes{group}) > 0)"
        ),
        steps=[(0.7, "yellow"), (0.9, "red")],
        no_value="no limit",
        decimals=1,
    ),
    figure(
        "Consumers in the group",
        "Those that the group knows, the idle ones too, which are removed after a while.",
        "short",
        Query("max(telemetry_group_consumers{group})"),
        below="red",
        steps=[(1, "green")],
    ),
    figure(
        "Lag told by",
        "Whether the server knows the lag, or it had to be counted: it does not after entries were deleted or trimmed.",
        "short",
        Query("min(telemetry_group_lag_known{group})"),
        texts={0: ("counted", "yellow"), 1: ("server", "green")},
    ),
    figure(
        "Trimmed unread",
        "Whether entries were removed from the stream before the group had read them.",
        "bool_yes_no",
        Query("max(telemetry_stream_trimmed_unread{group})"),
        texts={0: ("no", "green"), 1: ("yes", "red")},
        links=_PROBLEMS,
    ),
)

_BEHIND = Row(
    "How far behind",
    lines(
        "Lag and pending",
        "Entries that the group has not been given, and those that it has not acknowledged.",
        "short",
        Query("max(telemetry_group_lag_entries{group})", "lag"),
        Query("max(telemetry_group_pending_entries{group})", "pending"),
        links=links.to_traces(),
    ),
    lines(
        "Age of what waits",
        "How old the oldest unread and the oldest pending entries are.",
        "s",
        Query("max(telemetry_group_oldest_unread_seconds{group})", "unread"),
        Query("max(telemetry_group_oldest_pending_seconds{group})", "pending"),
        links=_PROBLEMS,
    ),
    lines(
        "Added, given, acknowledged",
        "Entries a second: added to the stream by anybody, given to the group by the server's count, and acknowledged by "
        "our consumers.",
        "eps",
        Query(f"sum(rate(telemetry_stream_added_entries_total{{group}}[{_RATE}]))", "added"),
        Query(f"sum(rate(telemetry_group_read_entries_total{{group}}[{_RATE}]))", "given"),
        Query(f'sum(rate(telemetry_ack_events_total{{group,result="acked"}}[{_RATE}]))', "acknowledged"),
    ),
)

_ROOM = Row(
    "Room",
    lines(
        "Length against its limit",
        "Entries in the stream. At the limit producers wait, or drop the oldest.",
        "short",
        Query("max(telemetry_stream_length_entries{group})", "length"),
        Query("max(telemetry_stream_length_limit_entries{group})", "limit"),
        dashed="limit",
    ),
    lines(
        "Memory against its limit",
        "Redis' memory. There is no line for the limit where there is none.",
        "bytes",
        Query("max(telemetry_redis_memory_used_bytes{group})", "used"),
        Query("max(telemetry_redis_memory_max_bytes{group} > 0)", "limit"),
        dashed="limit",
    ),
    lines(
        "Trimmed",
        "Acknowledged entries that consumers removed from the stream, a second.",
        "eps",
        Query(f"sum(rate(telemetry_trimmed_entries_total{{group}}[{_RATE}]))", "trimmed"),
    ),
)

_WHO = Row(
    "Who",
    lines(
        "Consumers",
        "Consumers that the group knows, and those that Prometheus sees. More in the group: some have died, and are "
        "removed once nothing of theirs is pending.",
        "short",
        Query("max(telemetry_group_consumers{group})", "in the group"),
        Query("count(telemetry_sink_up{group})", "seen"),
    ),
    lines(
        "Producers blocked",
        "Share of the time that producers wait since the stream is full.",
        "percentunit",
        Query(f"sum by (pod) (rate(telemetry_producer_blocked_seconds_total{{group}}[{_RATE}]))", "{{pod}}"),
        maximum=1,
    ),
    lines(
        "Dropped by producers",
        "The oldest events that producers gave up when the stream was full (STREAM_FULL=drop_oldest), a second.",
        "eps",
        Query(
            f'sum(rate(telemetry_producer_events_total{{group,outcome="dropped"}}[{_RATE}])) or vector(0)',
            "dropped",
        ),
        links=_PROBLEMS,
    ),
    lines(
        "Redis reached",
        "1 while a process reaches the server.",
        "short",
        Query("min by (pod) (telemetry_redis_up{group})", "{{pod}}"),
        maximum=1.1,
        links=_PROBLEMS,
    ),
    lines(
        "Errors of Redis",
        "Errors a second, of the server or the connection to it.",
        "eps",
        Query(f"sum by (error) (rate(telemetry_redis_errors_total{{group}}[{_RATE}])) > 0", "{{error}}"),
        links=_PROBLEMS,
    ),
    lines(
        "Who looks after the group's figures",
        "The replica that exports what is told once for the group. A change means that the one before has ended or hung.",
        "short",
        Query("max by (pod) (telemetry_group_observer{group})", "{{pod}}"),
        maximum=1.1,
    ),
)

REDIS_STREAM = Board(
    "redis-stream",
    "Telemetry pipeline / Redis stream",
    "The stream and its group: how full, how far behind, and who reads it.",
    (_NOW, _BEHIND, _ROOM, _WHO),
)
