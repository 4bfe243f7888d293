"""`telemetry metrics`: the catalogue of metrics, for people and as docs/metrics.md."""

from typing import Annotated, Final

import typer

from services.ops.output import AsJson, Column, show_records
from services.runtime.metrics import CATALOGUE, Metric

_HEAD: Final = """# Metrics

What `/metrics` of a producer and a consumer gives, made from services/runtime/metrics.py by `make docs`.
Units are in the names: seconds, bytes, events, entries. Counters are added up over replicas; gauges of the
stream are the same on every replica.

| metric | kind | of | labels | meaning |
| --- | --- | --- | --- | --- |
"""


def metrics_command(
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Write docs/metrics.md.")] = False,
) -> None:
    """Show every metric: name, kind, service, labels, meaning."""
    if as_markdown:
        typer.echo(markdown(), nl=False)
        return
    columns = [Column(name) for name in ("name", "kind", "service", "labels", "meaning")]
    show_records((_record(one) for one in CATALOGUE), columns, as_json=as_json)


def markdown() -> str:
    """Write the catalogue as a page."""
    rows = (
        f"| `{one.name}` | {one.kind} | {one.service} | {', '.join(one.labels)} | {one.meaning} |"
        for one in CATALOGUE
    )
    return _HEAD + "\n".join(rows) + "\n"


def _record(one: Metric) -> dict[str, str]:
    return {
        "name": one.name,
        "kind": one.kind,
        "service": one.service,
        "labels": ", ".join(one.labels),
        "meaning": one.meaning,
    }
