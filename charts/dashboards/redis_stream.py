"""The stream and its group: how full, how far behind, and who reads it."""

from charts.dashboards import shared
from charts.dashboards.boards import Board, Row
from charts.dashboards.panels import Query, figure, lines
from charts.dashboards.shared import PROBLEMS, RATE

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
        "Events in the stream against STREAM_MAX_LENGTH, at which producers wait.",
        "percentunit",
        Query(
            "max(telemetry_stream_length_events{group}) / max(telemetry_stream_length_limit_events{group})"
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
    shared.lag_told_by(),
    shared.trimmed_unread(),
)

_BEHIND = Row(
    "How far behind",
    shared.waiting(),
    shared.age_of_what_waits(),
    lines(
        "Added, given, acknowledged",
        "Entries a second: added to the stream by anybody, given to the group by the server's count, acknowledged by our "
        "consumers, and removed by somebody else than us, which should be none.",
        "eps",
        Query(f"sum(rate(telemetry_stream_added_entries_total{{group}}[{RATE}]))", "added"),
        Query(f"sum(rate(telemetry_group_read_entries_total{{group}}[{RATE}]))", "given"),
        Query(f'sum(rate(telemetry_ack_events_total{{group,result="acked"}}[{RATE}]))', "acknowledged"),
        Query(f"sum(rate(telemetry_stream_removed_by_others_total{{group}}[{RATE}]))", "removed by others"),
    ),
)

_ROOM = Row(
    "Room",
    lines(
        "Length against its limit",
        "Events in the stream, and the entries that they are in. At the limit of events producers wait, or drop the oldest.",
        "short",
        Query("max(telemetry_stream_length_events{group})", "events"),
        Query("max(telemetry_stream_length_entries{group})", "entries"),
        Query("max(telemetry_stream_length_limit_events{group})", "limit"),
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
        Query(f"sum(rate(telemetry_trimmed_entries_total{{group}}[{RATE}]))", "trimmed"),
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
    shared.producers_blocked(),
    lines(
        "Dropped by producers",
        "The oldest events that producers gave up when the stream was full (STREAM_FULL=drop_oldest), a second.",
        "eps",
        Query(
            f'sum(rate(telemetry_producer_events_total{{group,outcome="dropped"}}[{RATE}])) or vector(0)',
            "dropped",
        ),
        links=PROBLEMS,
    ),
    lines(
        "Redis reached",
        "1 while a process reaches the server.",
        "short",
        Query("min by (pod) (telemetry_redis_up{group})", "{{pod}}"),
        maximum=1.1,
        links=PROBLEMS,
    ),
    shared.redis_errors(),
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
