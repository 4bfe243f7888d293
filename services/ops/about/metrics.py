"""`telemetry metrics`: the catalogue of metrics, for people and as docs/metrics.md."""

from typing import Annotated, Final

import typer

from services.ops.output.output import AsJson, Wide, answer, show_records
from services.ops.output.parts import Column
from services.runtime.telemetry.metrics import CATALOGUE, Metric

_HEAD: Final = """# Metrics

The metrics at `/metrics` of a producer and a consumer. `make docs` writes this page from
services/runtime/telemetry/catalogue.py. Each name ends with its unit: seconds, bytes, events or entries
(before `_total`). A metric without a unit is a number of things, or 0 or 1.

- **Scope.** Each process has its own metrics of scope `process`: add them up over replicas. A metric of
  scope `group` is about the stream and its group as a whole. Exactly one replica exports it: the one that
  holds a lease at the broker ([decision 12](decisions/0012-one-replica-observes-the-group.md)). Never add
  these up; take `max`, since two scrapes may overlap when the replica changes. If that replica dies, they
  are absent for at most 20 s.
- **Labels** have only the values that this page lists, and each series exists from the start, with 0. Any
  other value counts as `other`, so no input adds a series: 10,000 devices add none.
- **The law** holds at every scrape: received = stored + duplicate + dead + pending + in flight.
- **Formats.** Prometheus text; or OpenMetrics, with exemplars, if the request has the header `Accept:
  application/openmetrics-text`.
- **OTLP.** `OTEL_METRICS_EXPORTER=otlp` also sends the same numbers to a collector, with the same names
  and labels, every `OTEL_METRIC_EXPORT_INTERVAL` milliseconds (60000) and at the end. Units are those of
  UCUM, sums and histograms are cumulative, and there are no exemplars. `OTEL_EXPORTER_OTLP_*` and the
  protocols are as for [traces](tracing.md). An endpoint alone does not switch this on: otherwise, those
  who scrape would have everything twice. If the collector is away, the log has a line
  (`metrics_not_sent`), and the end takes at most 2 s longer.
- **Absent values.** A value that can't be found out is left out, and the log says why: for example the
  disk is gone, or the server does not give the right to ask.
- There are also `process_*` (processor time, memory, file descriptors, start) and `python_info`, as in
  every program with prometheus-client.

| metric | kind | scope | of | labels | meaning |
| --- | --- | --- | --- | --- | --- |
"""

_DETAILS: Final = tuple(Column(name, optional=True) for name in ("kind", "scope", "service"))


def metrics_command(
    as_json: AsJson = False,
    _wide: Wide = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/metrics.md.")] = False,
) -> None:
    """Show every metric: name, kind, scope, service, labels, meaning."""
    if as_markdown:
        answer(*markdown().splitlines())
        return
    columns = [Column("name"), *_DETAILS, Column("labels", wraps=True), Column("meaning", wraps=True)]
    show_records((_record(one) for one in CATALOGUE), columns, as_json=as_json)


def markdown() -> str:
    """Write the catalogue as a page."""
    rows = (
        f"| `{one.name}` | {one.kind} | {one.scope} | {one.service} | {_labels(one)} | {one.meaning} |"
        for one in CATALOGUE
    )
    return _HEAD + "\n".join(rows) + "\n"


def _record(one: Metric) -> dict[str, str]:
    return {
        "name": one.name,
        "kind": one.kind,
        "scope": one.scope,
        "service": one.service,
        "labels": ", ".join(label.name for label in one.labels),
        "meaning": one.meaning,
    }


def _labels(one: Metric) -> str:
    return "; ".join(f"`{label.name}`: {label.given or ', '.join(label.values)}" for label in one.labels)
