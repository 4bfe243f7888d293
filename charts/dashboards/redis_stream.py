"""The stream and its group: how full, how far behind, and who reads it."""

from charts.dashboards import shared
from charts.dashboards.boards import Board, Row
from charts.dashboards.panels import Query, figure, lines
from charts.dashboards.shared import PROBLEMS, RATE

_NOW = Row(
    "Now",
    figure(
        "Entries",
        "Entries in the stream, including acknowledged ones that are not trimmed yet.",
        "short",
        Query("max(telemetry_stream_length_entries{group})"),
        area=True,
    ),
    figure(
        "Full",
        "Events in the stream, as a share of STREAM_MAX_LENGTH. At 100 %, producers wait or drop the oldest "
        "(STREAM_FULL).",
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
        "Memory of Redis, as a share of its limit. At 100 % it refuses writes.",
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
        "Consumers that the group knows. Idle ones are removed after CONSUMER_EXPIRY_S.",
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
        "Added, delivered, acknowledged",
        "Entries a second: added to the stream by anybody, delivered to the group (as the server counts them), "
        "acknowledged by consumers, and removed by other programs, which should be 0.",
        "eps",
        Query(f"sum(rate(telemetry_stream_added_entries_total{{group}}[{RATE}]))", "added"),
        Query(f"sum(rate(telemetry_group_read_entries_total{{group}}[{RATE}]))", "delivered"),
        Query(f'sum(rate(telemetry_ack_events_total{{group,result="acked"}}[{RATE}]))', "acknowledged"),
        Query(f"sum(rate(telemetry_stream_removed_by_others_total{{group}}[{RATE}]))", "removed by others"),
    ),
)

_ROOM = Row(
    "Capacity",
    lines(
        "Length against its limit",
        "Events in the stream, and the entries that hold them. At the limit of events, producers wait or drop the "
        "oldest (STREAM_FULL).",
        "short",
        Query("max(telemetry_stream_length_events{group})", "events"),
        Query("max(telemetry_stream_length_entries{group})", "entries"),
        Query("max(telemetry_stream_length_limit_events{group})", "limit"),
        dashed="limit",
    ),
    lines(
        "Memory against its limit",
        "Memory of Redis. If there is no limit, there is no line for it.",
        "bytes",
        Query("max(telemetry_redis_memory_used_bytes{group})", "used"),
        Query("max(telemetry_redis_memory_max_bytes{group} > 0)", "limit"),
        dashed="limit",
    ),
    lines(
        "Trimmed",
        "Acknowledged entries that consumers remove from the stream, a second.",
        "eps",
        Query(f"sum(rate(telemetry_trimmed_entries_total{{group}}[{RATE}]))", "trimmed"),
    ),
)

_WHO = Row(
    "Producers and consumers",
    lines(
        "Consumers",
        "Consumers that the group knows, and consumers that Prometheus scrapes. If the group has more, some have "
        "died. They are removed when none of their entries is pending.",
        "short",
        Query("max(telemetry_group_consumers{group})", "in the group"),
        Query("count(telemetry_sink_up{group})", "scraped"),
    ),
    shared.producers_blocked(),
    lines(
        "Dropped by producers",
        "Events a second that producers dropped from a full stream, the oldest first (STREAM_FULL=drop_oldest).",
        "eps",
        Query(
            f'sum(rate(telemetry_producer_events_total{{group,outcome="dropped"}}[{RATE}])) or vector(0)',
            "dropped",
        ),
        links=PROBLEMS,
    ),
    lines(
        "Redis reached",
        "1 while a process reaches Redis, else 0.",
        "short",
        Query("min by (pod) (telemetry_redis_up{group})", "{{pod}}"),
        maximum=1.1,
        links=PROBLEMS,
    ),
    shared.redis_errors(),
    lines(
        "Observer of the group",
        "The replica that exports the metrics of the whole group. If it changes, the replica before it has ended "
        "or hung.",
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
