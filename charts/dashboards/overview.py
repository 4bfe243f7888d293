"""The first dashboard to look at: is it healthy, is it late, is anything lost."""

from collections.abc import Mapping

from charts.dashboards import links, shared
from charts.dashboards.boards import Board, Row
from charts.dashboards.panels import Colour, Query, figure, lines, rows

_UP_DOWN: Mapping[float, tuple[str, Colour]] = {0: ("down", "red"), 1: ("up", "green")}

_LOST = Row(
    "Is anything lost?",
    figure(
        "Unaccounted for",
        "Checks the law for each consumer at every scrape: received = stored + duplicate + dead + pending + in "
        "flight. Any number but 0 means that a consumer lost count of an event. The largest difference in the "
        "time range.",
        "short",
        Query(
            "max(max_over_time(abs(sum by (namespace, release, pod) (telemetry_consumer_received_events_total{consumers})"
            " - sum by (namespace, release, pod) (telemetry_consumer_settled_events_total{consumers})"
            " - sum by (namespace, release, pod) (telemetry_consumer_in_flight_events{consumers}))[$__range:]))"
        ),
        steps=[(1, "red")],
        links=links.to_logs(),
    ),
    figure(
        "Missing at the last audit",
        "Published events that the last `telemetry audit --record` did not find anywhere: not stored, not dead, "
        "not waiting. The output of the audit names them.",
        "short",
        Query("max(telemetry_audit_missing_events{group})", "missing"),
        Query("max(telemetry_audit_published_events{group})", "of"),
        uncoloured="B",
        steps=[(1, "red")],
        no_value="never audited",
    ),
    figure(
        "Last audit",
        "Time since the last recorded audit. Events that went missing since then are not noticed yet.",
        "s",
        Query("time() - max(telemetry_audit_last_run_timestamp_seconds{group})"),
        steps=[(2 * 3600, "yellow"), (24 * 3600, "orange")],
        no_value="never audited",
        decimals=0,
    ),
    figure(
        "Content gone while pending",
        "Entries in the time range that were delivered but not acknowledged, and then were no longer in the "
        "stream: somebody trimmed or deleted them.",
        "short",
        Query("sum(increase(telemetry_lost_entries_total{consumers}[$__range]))"),
        steps=[(1, "red")],
        decimals=0,
        links=shared.PROBLEMS,
    ),
    shared.trimmed_unread(),
    figure(
        "Given up by producers",
        "Events in the time range that producers gave up: the oldest ones, dropped from a full stream "
        "(STREAM_FULL=drop_oldest), and lines of a file that can't be read.",
        "short",
        Query(
            'sum(increase(telemetry_producer_events_total{group,outcome=~"dropped|unreadable"}[$__range])) or vector(0)'
        ),
        steps=[(1, "orange")],
        decimals=0,
    ),
    figure(
        "Where the published events were at the last audit",
        "The law for the whole stream: published = stored + dead + conflicts + purged + pending + undelivered + "
        "expired + accepted + missing. A conflict has the id of a stored event, but another content. Purged: a "
        "person removed the dead letter. Expired: proven, then dropped with its day. Accepted: lost, and a person "
        "closed the loss with `telemetry audit --accept`.",
        "short",
        *(
            Query(f"max(telemetry_audit_{where}_events{{group}})", where)
            for where in (
                "published",
                "stored",
                "dead",
                "conflicts",
                "purged",
                "pending",
                "undelivered",
                "expired",
                "accepted",
            )
        ),
        no_value="never audited",
        width=20,
    ),
    figure(
        "Retention waits",
        "How long the oldest day has been older than RETAIN_DAYS without being dropped: the last audit found that some of it is "
        "missing or not proven. Nothing is lost, but the store grows. 0 if no such day waits, or if RETAIN_DAYS is 0.",
        "s",
        Query("max(telemetry_retention_waiting_seconds{group})"),
        steps=[(6 * 3600, "orange")],
        no_value="never audited",
        decimals=0,
    ),
)

_HEALTHY = Row(
    "Is it healthy?",
    figure(
        "Alerts firing",
        "Number of alerts of this pipeline that fire now. The table below lists them.",
        "short",
        Query('count(ALERTS{group,alertname=~"Telemetry.*",alertstate="firing"}) or vector(0)'),
        steps=[(1, "red")],
    ),
    figure(
        "Consumers",
        "Number of consumers that Prometheus scrapes.",
        "short",
        Query("count(telemetry_sink_up{consumers}) or vector(0)"),
        steps=[(1, "green")],
        below="red",
        width=3,
    ),
    figure(
        "Producers",
        "Number of producers that Prometheus scrapes. 0 is right if events come from elsewhere.",
        "short",
        Query("count(telemetry_producer_last_publish_timestamp_seconds{group}) or vector(0)"),
        steps=[(1, "green")],
        below="yellow",
        width=3,
    ),
    figure(
        "Redis",
        "Down if any process can't reach it.",
        "short",
        Query("min(telemetry_redis_up{group})"),
        texts=_UP_DOWN,
        links=shared.PROBLEMS,
        width=3,
    ),
    figure(
        "Sink",
        "Down if the sink of any consumer takes no writes. That consumer reads nothing meanwhile, and nothing is "
        "lost.",
        "short",
        Query("min(telemetry_sink_up{consumers})"),
        texts=_UP_DOWN,
        links=shared.PROBLEMS,
        width=3,
    ),
    figure(
        "Breaker",
        "Open if a consumer has stopped because too many of the latest entries were invalid (DLQ_BREAKER_RATIO). "
        "A bad deployment is the likely cause.",
        "short",
        Query("max(telemetry_breaker_open{consumers})"),
        texts={0: ("closed", "green"), 1: ("open", "red")},
        links=links.to_failed_traces(),
    ),
    figure(
        "Silent devices",
        "Devices that used to send, but of which nothing was stored for SILENT_AFTER_S seconds. `telemetry events "
        "--silent` lists them.",
        "short",
        Query("max(telemetry_silent_devices{group})"),
        steps=[(1, "yellow")],
        no_value="not counted",
        links=shared.PROBLEMS,
    ),
)

_LATE = Row(
    "Is it late?",
    figure(
        "Lag",
        "Entries not yet delivered to the group.",
        "short",
        Query("max(telemetry_group_lag_entries{group})"),
        steps=[(10_000, "yellow"), (100_000, "red")],
        area=True,
    ),
    shared.lag_told_by(),
    figure(
        "Pending",
        "Entries delivered and not yet acknowledged.",
        "short",
        Query("max(telemetry_group_pending_entries{group})"),
        steps=[(10_000, "yellow"), (100_000, "red")],
        area=True,
    ),
    figure(
        "Oldest unread",
        "Age of the oldest entry that is not yet delivered to the group.",
        "s",
        Query("max(telemetry_group_oldest_unread_seconds{group})"),
        steps=[(10, "yellow"), (60, "red")],
        decimals=1,
        area=True,
    ),
    figure(
        "Oldest pending",
        "Age of the oldest entry that is delivered and not yet acknowledged.",
        "s",
        Query("max(telemetry_group_oldest_pending_seconds{group})"),
        steps=[(60, "yellow"), (300, "red")],
        decimals=1,
        area=True,
    ),
    figure(
        "Drained in",
        "How long until the backlog is gone, if the rates stay as they are. Infinite if it does not shrink; 0 if "
        "it is less than a minute of work. From the recording rules.",
        "s",
        # What consumers have in hand is always there: as the alert, this takes no less than a minute of work for a backlog.
        Query(
            "max(namespace_release:telemetry_group_drain_seconds:rate5m{group} and on (namespace, release)"
            " namespace_release:telemetry_group_backlog_entries:sum{group}"
            " > namespace_release:telemetry_acknowledged_entries:rate5m{group} * 60)"
            " or clamp_max(max(namespace_release:telemetry_group_drain_seconds:rate5m{group}), 0)"
        ),
        steps=[(300, "yellow"), (1800, "red")],
        no_value="no recording rules",
        decimals=0,
    ),
    shared.publish_to_commit("From publication to commit"),
    shared.waiting(),
    shared.age_of_what_waits(),
)

_FLOW = Row(
    "How much flows?",
    lines(
        "In and out",
        "Events a second: published by our producers, added to the stream by anybody, and stored.",
        "eps",
        Query(
            'sum(rate(telemetry_producer_events_total{group,outcome="published"}[$__rate_interval]))',
            "published",
        ),
        Query(
            "sum(rate(telemetry_stream_added_entries_total{group}[$__rate_interval]))", "added to the stream"
        ),
        Query(
            'sum(rate(telemetry_consumer_settled_events_total{consumers,outcome="stored"}[$__rate_interval]))',
            "stored",
        ),
        links=[*links.to_traces(), *links.to_traces("telemetry-producer")],
    ),
    shared.dead_letters(),
    figure(
        "Received events by outcome",
        "The law in numbers, for the time range: received = stored + duplicate + dead + pending + in flight. "
        "Pending events were left by a consumer, and are received again.",
        "short",
        Query("sum(increase(telemetry_consumer_received_events_total{consumers}[$__range]))", "received"),
        Query(
            "sum by (outcome) (increase(telemetry_consumer_settled_events_total{consumers}[$__range]))",
            "{{outcome}}",
        ),
        Query("sum(telemetry_consumer_in_flight_events{consumers})", "in flight"),
        width=8,
        height=8,
        decimals=0,
    ),
    rows(
        "Alerts",
        "Alerts of this pipeline that are firing or pending. Each has a runbook.",
        "short",
        Query(
            'group by (alertname, severity, alertstate, namespace, release) (ALERTS{group,alertname=~"Telemetry.*"})'
        ),
        columns={
            "alertstate": "State",
            "severity": "Severity",
            "alertname": "Alert",
            "namespace": "Namespace",
            "release": "Release",
        },
        no_value="no alert",
    ),
)

OVERVIEW = Board(
    "overview",
    "Telemetry pipeline / Overview",
    "Is it healthy, is it late, is anything lost.",
    (_LOST, _HEALTHY, _LATE, _FLOW),
)
