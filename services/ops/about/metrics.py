"""`telemetry metrics`: the catalogue of metrics, for people and as docs/metrics.md."""

from typing import Annotated, Final

import typer

from services.ops.output.output import AsJson, Wide, answer, show_records
from services.ops.output.parts import Column
from services.runtime.telemetry.metrics import CATALOGUE, Metric

_HEAD: Final = """# Metrics

What `/metrics` of a producer and a consumer gives, made from services/runtime/telemetry/catalogue.py by `make
docs`. Units are in the names: seconds, bytes, events, entries; where there is none, the value is 0 or 1.

- **Scope.** A metric of scope `process` is of each process by itself: add them up over replicas. One of
  scope `group` is of the stream and its group as a whole, and exactly one replica exports it, the one
  that holds a lease at the broker ([decision 12](decisions/0012-one-replica-observes-the-group.md)): never
  add those up, and take `max` where two scrapes may overlap a change of the replica. They are absent for at
  most 20 s after the death of that replica.
- **Labels** have the values that are named here and no others, and each series is there from the start,
  at 0. What is none of them counts as `other`. So no input adds a series: 10,000 devices make none.
- **The law** holds at every scrape, and not only in the end: received = stored + duplicate + dead +
  pending + in flight.
- **Formats.** Prometheus text, or OpenMetrics for whoever asks for it (`Accept:
  application/openmetrics-text`), which has the exemplars.
- **OTLP.** `OTEL_METRICS_EXPORTER=otlp` sends the same numbers to a collector as well, under the same
  names and labels, every `OTEL_METRIC_EXPORT_INTERVAL` milliseconds (60000) and at the end; units as UCUM
  has them, sums and histograms cumulative, without exemplars. `OTEL_EXPORTER_OTLP_*` and the protocols are
  those of [the traces](tracing.md). An endpoint alone does not switch it on: who scrapes would have all
  twice. A collector that is away costs a line in the log (`metrics_not_sent`) and at most 2 s at the end.
- A value that can't be found out (the disk is gone, the server lacks a right) is left out, and the log
  says why.
- Beside these there are `process_*` (processor time, memory, file descriptors, start) and `python_info`,
  as every program with prometheus-client has them.

| metric | kind | scope | of | labels | meaning |
| --- | --- | --- | --- | --- | --- |
"""

_DETAILS: Final = tuple(Column(name, optional=True) for name in ("kind", "scope", "service"))


def metrics_command(
    as_json: AsJson = False,
    _wide: Wide = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Write docs/metrics.md.")] = False,
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
