"""Panels that stand on more than one dashboard, and are the same on each."""

from typing import Final

from charts.dashboards import links
from charts.dashboards.panels import Panel, Query, figure, lines

PROBLEMS: Final = links.to_logs("Warnings and errors", links.PROBLEMS)
RATE: Final = "$__rate_interval"
"""The window of rates, which Grafana chooses so that it holds enough scrapes."""
NONE: Final = "none"
"""Name of the line that says that nothing went wrong."""


def quantiles(histogram: str, *, exemplars: bool = False) -> tuple[Query, Query]:
    """Ask for the median and the 99th percentile of a histogram, written with its label matchers."""
    rate = f"sum by (le) (rate({histogram}[{RATE}]))"
    return (
        Query(f"histogram_quantile(0.5, {rate})", "p50", exemplars=exemplars),
        Query(f"histogram_quantile(0.99, {rate})", "p99"),
    )


def publish_to_commit(title: str) -> Panel:
    """Draw how long an event takes through everything."""
    return lines(
        title,
        "Time from an entry's publication to its commit, for the oldest entry of each batch. The dots are "
        "exemplars: each leads to the trace of a batch.",
        "s",
        *quantiles("telemetry_consumer_publish_to_commit_seconds_bucket{consumers}", exemplars=True),
        logarithmic=True,
        links=[*links.to_traces(), *links.to_logs()],
    )


def lag_told_by() -> Panel:
    """Show whether the lag is the server's."""
    return figure(
        "Source of the lag",
        "server: Redis reports the lag. counted: a consumer counts it, up to 100,000, because Redis does not know "
        "it after entries were deleted or trimmed.",
        "short",
        Query("min(telemetry_group_lag_known{group})"),
        texts={0: ("counted", "yellow"), 1: ("server", "green")},
    )


def trimmed_unread() -> Panel:
    """Show whether the group lost entries before it had read them."""
    return figure(
        "Trimmed unread",
        "yes if entries were removed from the stream before the group had read them.",
        "bool_yes_no",
        Query("max(telemetry_stream_trimmed_unread{group})"),
        texts={0: ("no", "green"), 1: ("yes", "red")},
        links=PROBLEMS,
    )


def waiting() -> Panel:
    """Draw how much waits."""
    return lines(
        "Lag and pending",
        "Entries not yet delivered to the group (lag), and entries delivered but not yet acknowledged (pending).",
        "short",
        Query("max(telemetry_group_lag_entries{group})", "lag"),
        Query("max(telemetry_group_pending_entries{group})", "pending"),
        links=links.to_traces(),
    )


def age_of_what_waits() -> Panel:
    """Draw how old it is."""
    return lines(
        "Age of the oldest entries",
        "Age of the oldest unread entry and of the oldest pending one. If a line rises by one second per second, "
        "it is always the same entry. «newest id ahead» is how far the newest id is ahead of the clock: if it is "
        "not 0, somebody has set the id, or a clock is wrong.",
        "s",
        Query("max(telemetry_group_oldest_unread_seconds{group})", "unread"),
        Query("max(telemetry_group_oldest_pending_seconds{group})", "pending"),
        Query("max(telemetry_stream_id_ahead_seconds{group})", "newest id ahead"),
        links=PROBLEMS,
    )


def or_none(text: str, legend: str) -> tuple[Query, Query]:
    """Ask for what goes wrong; where nothing does, draw a 0: «No data» would look as if nobody were asked.

    Where no process of ours is scraped, there is no data.
    """
    return (
        Query(text, legend),
        Query(f"0 * count(telemetry_build_info{{group}}) unless on () ({text})", NONE),
    )


def dead_letters() -> Panel:
    """Draw what is dying, and of what."""
    return lines(
        "Dead letters",
        "Events a second that became dead letters, by stage and reason. `telemetry dlq list` shows them.",
        "eps",
        *or_none(
            f"sum by (stage, reason) (rate(telemetry_consumer_dead_events_total{{consumers}}[{RATE}])) > 0",
            "{{stage}}: {{reason}}",
        ),
        stacked=True,
        links=[*links.to_failed_traces(), *PROBLEMS],
    )


def redis_errors() -> Panel:
    """Draw what goes wrong with the server."""
    return lines(
        "Errors of Redis",
        "Errors a second that producers and consumers get from Redis, or from the connection to it.",
        "eps",
        *or_none(f"sum by (error) (rate(telemetry_redis_errors_total{{group}}[{RATE}])) > 0", "{{error}}"),
        links=PROBLEMS,
    )


def producers_blocked() -> Panel:
    """Draw how long producers wait for room."""
    return lines(
        "Producers blocked",
        "Share of the time in which each producer waits because the stream is full (STREAM_MAX_LENGTH). At 100 % "
        "it publishes nothing.",
        "percentunit",
        Query(
            # What is waited is counted at the end of a pause, and rates are made longer than their samples.
            f"clamp_max(sum by (pod) (rate(telemetry_producer_blocked_seconds_total{{group}}[{RATE}])), 1)",
            "{{pod}}",
        ),
        maximum=1,
        links=PROBLEMS,
    )
