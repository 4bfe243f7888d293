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
        "The law: received = stored + duplicate + dead + pending + in flight, for every consumer and at every scrape. "
        "Anything but 0 is an event whose fate nobody recorded. The worst of the time range.",
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
        "Published events that the last `telemetry audit --record` found in no place: not stored, not dead, not waiting. "
        "The audit's own output names them.",
        "short",
        Query("max(telemetry_audit_missing_events{group})", "missing"),
        Query("max(telemetry_audit_published_events{group})", "of"),
        uncoloured="B",
        steps=[(1, "red")],
        no_value="never audited",
    ),
    figure(
        "Last audit",
        "How long ago the last audit was recorded. A missing event is noticed no sooner than this.",
        "s",
        Query("time() - max(telemetry_audit_last_run_timestamp_seconds{group})"),
        steps=[(2 * 3600, "yellow"), (24 * 3600, "orange")],
        no_value="never audited",
        decimals=0,
    ),
    figure(
        "Content gone while pending",
        "Entries of the time range that were delivered, not settled, and then no longer in the stream: somebody trimmed "
        "or deleted them.",
        "short",
        Query("sum(increase(telemetry_lost_entries_total{consumers}[$__range]))"),
        steps=[(1, "red")],
        decimals=0,
        links=shared.PROBLEMS,
    ),
    shared.trimmed_unread(),
    figure(
        "Given up by producers",
        "Events of the time range that a producer could not publish: the oldest, dropped from a full stream "
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
        "The law for the stream as a whole: published = stored + dead + conflicts + purged + pending + undelivered "
        "+ expired + accepted + missing. A conflict is another content under the id of a stored event; accepted is a "
        "loss that a person has closed with telemetry audit --accept.",
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
        "How long a day has been too old that the last audit could not drop: something is missing of it, or not proven. "
        "Nothing is lost by that, and the store grows.",
        "s",
        Query("max(telemetry_retention_waiting_seconds{group})"),
        steps=[(6 * 3600, "orange")],
        no_value="keeps all",
        decimals=0,
    ),
)

_HEALTHY = Row(
    "Is it healthy?",
    figure(
        "Alerts firing",
        "How many of this pipeline's alerts fire now. The list is below.",
        "short",
        Query('count(ALERTS{group,alertname=~"Telemetry.*",alertstate="firing"}) or vector(0)'),
        steps=[(1, "red")],
    ),
    figure(
        "Consumers",
        "Consumers that Prometheus sees.",
        "short",
        Query("count(telemetry_sink_up{consumers}) or vector(0)"),
        steps=[(1, "green")],
        below="red",
        width=3,
    ),
    figure(
        "Producers",
        "Producers that Prometheus sees. None is right where events come from elsewhere.",
        "short",
        Query("count(telemetry_producer_last_publish_timestamp_seconds{group}) or vector(0)"),
        steps=[(1, "green")],
        below="yellow",
        width=3,
    ),
    figure(
        "Redis",
        "Down when any process does not reach it.",
        "short",
        Query("min(telemetry_redis_up{group})"),
        texts=_UP_DOWN,
        links=shared.PROBLEMS,
        width=3,
    ),
    figure(
        "Sink",
        "Down when the sink of any consumer takes no writes. Nothing is read meanwhile, and nothing lost.",
        "short",
        Query("min(telemetry_sink_up{consumers})"),
        texts=_UP_DOWN,
        links=shared.PROBLEMS,
        width=3,
    ),
    figure(
        "Breaker",
        "Open when a consumer has stopped, since so many events of a batch were invalid that a bad deployment is likelier "
        "(DLQ_BREAKER_RATIO).",
        "short",
        Query("max(telemetry_breaker_open{consumers})"),
        texts={0: ("closed", "green"), 1: ("open", "red")},
        links=links.to_failed_traces(),
    ),
    figure(
        "Silent devices",
        "Devices that used to send, and of which nothing was stored for SILENT_AFTER_S. `telemetry events --silent` names "
        "them.",
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
        "Entries that the group has not been given yet.",
        "short",
        Query("max(telemetry_group_lag_entries{group})"),
        steps=[(10_000, "yellow"), (100_000, "red")],
        area=True,
    ),
    shared.lag_told_by(),
    figure(
        "Pending",
        "Entries that are delivered and not acknowledged.",
        "short",
        Query("max(telemetry_group_pending_entries{group})"),
        steps=[(10_000, "yellow"), (100_000, "red")],
        area=True,
    ),
    figure(
        "Oldest unread",
        "Age of the oldest entry that the group has not been given.",
        "s",
        Query("max(telemetry_group_oldest_unread_seconds{group})"),
        steps=[(10, "yellow"), (60, "red")],
        decimals=1,
        area=True,
    ),
    figure(
        "Oldest pending",
        "Age of the oldest entry that is not acknowledged.",
        "s",
        Query("max(telemetry_group_oldest_pending_seconds{group})"),
        steps=[(60, "yellow"), (300, "red")],
        decimals=1,
        area=True,
    ),
    figure(
        "Drained in",
        "How long until nothing waits, if the rates stay as they are: infinite where it grows, 0 where nothing waits. "
        "From the recording rules.",
        "s",
        Query("max(namespace_release:telemetry_group_drain_seconds:rate5m{group})"),
        steps=[(300, "yellow"), (1800, "red")],
        no_value="no recording rules",
        decimals=0,
    ),
    shared.publish_to_commit("From publication to commit"),
    shared.waiting(),
    shared.age_of_what_waits(),
)

_FLOW = Row(
    "What flows",
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
        "What became of the events received",
        "The law in numbers, over the time range: received = stored + duplicate + dead + pending + in flight. "
        "Pending are those that a consumer left, to be received again.",
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
        "This pipeline's alerts that fire, or would after a while. Each has a runbook.",
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
