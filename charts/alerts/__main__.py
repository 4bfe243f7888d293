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

Made from charts/telemetry-pipeline/files/rules by `make docs`. Severity `critical` wakes somebody: events are
lost, late or not taken in now. `warning` is for the next morning. Each name leads to its runbook: what it
means, how to see it, what to do.

Both files of rules load as they are, by `rule_files` of a Prometheus on a laptop and by the chart's
PrometheusRule (`prometheusRule.enabled`). They tell pipelines apart by the labels `namespace` and `release`.
The chart's ServiceMonitor and PodMonitor set both; where series have neither, all of them are one pipeline.
So one Prometheus needs the rules once, however many releases it scrapes. `prometheusRule.runbookUrl` is where
your people find the runbooks; `prometheusRule.disabled` leaves alerts out.

For a receiver that wakes somebody, route by severity, and let a cause silence what follows from it:

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


def page(rules: str) -> str:
    """Write the page of a file of rules."""
    return _HEAD + "".join(line + "\n" for line in _tables(yaml.safe_load(rules)))


def _tables(document: dict[str, Any]) -> Iterator[str]:
    for group in document["groups"]:
        yield ""
        yield f"## {group['name'].removeprefix('telemetry-').capitalize()}"
        yield ""
        yield "| alert | severity | for | tells |"
        yield "| --- | --- | --- | --- |"
        for rule in group["rules"]:
            name = rule["alert"]
            severity, summary = rule["labels"]["severity"], rule["annotations"]["summary"]
            yield f"| [{name}](runbooks/{name}.md) | {severity} | {rule['for']} | {summary} |"


if __name__ == "__main__":
    sys.stdout.write(page(_RULES.read_text(encoding="utf-8")))
