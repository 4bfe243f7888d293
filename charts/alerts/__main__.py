"""Writes docs/alerts.md: every alert of the chart, from the rules themselves. `make docs` runs it.

It runs in the repository (`python -m charts.alerts`): the rules are files of the chart.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

_RULES: Final = Path("charts/telemetry-pipeline/files/rules/alerts.yaml")

_CAUSES: Final = "RedisDown|SinkDown|ConsumersAbsent|BreakerOpen|DeadLetterWriteFailing|MqttDisconnected"
_CONSEQUENCES: Final = (
    "ConsumersStalled|BacklogNotDraining|OldestPendingTooOld|ProducersBlocked|NothingPublished|DevicesSilent"
)

_HEAD: Final = f"""# Alerts

These are all alerts for Prometheus. Click a name for its runbook: what the alert means, how to see it, and
what to do.

An alert of severity `critical` should wake somebody: events are lost or late, or none are taken in. A
`warning` can wait until the next morning.

To use them on a cluster, set `prometheusRule.enabled=true` in the chart; `make observe` uses them on a
laptop. Elsewhere, name both files of `charts/telemetry-pipeline/files/rules` under `rule_files` of
Prometheus. `prometheusRule.disabled` leaves alerts out. `prometheusRule.runbookUrl` is the address at which
your people find the runbooks.

Load the rules once into each Prometheus, however many releases it scrapes: they tell pipelines apart by the
labels `namespace` and `release`. The chart's ServiceMonitor and PodMonitor set both labels. Series without
these labels count as one pipeline.

This configuration of the Alertmanager routes alerts by severity. It also suppresses an alert while one of
its causes fires:

```yaml
route:
  receiver: morning
  group_by: [namespace, release]
  routes:
    - {{matchers: [severity="critical"], receiver: wake}}
inhibit_rules:
  - source_matchers: [alertname=~"Telemetry({_CAUSES})"]
    target_matchers: [alertname=~"Telemetry({_CONSEQUENCES})"]
    equal: [namespace, release]
receivers: [{{name: wake}}, {{name: morning}}]
```
"""


_FOOT: Final = """
This page is made from charts/telemetry-pipeline/files/rules/alerts.yaml by `make docs`.
"""


def page(rules: str) -> str:
    """Write the page of a file of rules."""
    return _HEAD + "".join(line + "\n" for line in _tables(yaml.safe_load(rules))) + _FOOT


def _tables(document: dict[str, Any]) -> Iterator[str]:
    for group in document["groups"]:
        yield ""
        yield f"## {group['name'].removeprefix('telemetry-').capitalize()}"
        yield ""
        yield "| alert | severity | for | what it says |"
        yield "| --- | --- | --- | --- |"
        for rule in group["rules"]:
            name = rule["alert"]
            severity, summary = rule["labels"]["severity"], rule["annotations"]["summary"]
            yield f"| [{name}](runbooks/{name}.md) | {severity} | {rule['for']} | {summary} |"


if __name__ == "__main__":
    sys.stdout.write(page(_RULES.read_text(encoding="utf-8")))
