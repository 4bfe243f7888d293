"""What an upgrade restarts: the pods whose configuration changed, and no others."""

from typing import Final

import pytest
from chart.rendering import EXTERNAL, POSTGRES, SETS, Rendered, Values, merged, nested, render, template_anew

pytestmark = pytest.mark.usefixtures("helm")

# With passwords that are there already: made-up ones are others at each rendering without a cluster.
BASE: Final[Values] = {"redis": {"auth": {"existingSecret": "passwords"}}}

RESTARTED: Final[dict[str, tuple[Values, set[str]]]] = {
    "nothing": ({}, set()),
    "a setting of the producer": (nested("producer.settings.rate", 5), {"producer"}),
    "a setting of the consumers": (nested("consumer.settings.batchSize", 5), {"consumer"}),
    "a setting of both": (nested("settings.groupName", "readers"), {"producer", "consumer"}),
    "the stream": (
        {"settings": {"streamName": "a"}, "redis": {"auth": {"stream": "a"}}},
        {"producer", "consumer", "redis"},
    ),
    "a threshold": (nested("thresholds.temperature", 75), {"consumer"}),
    "the KPI file": (nested("kpis", SETS["kpis"]["kpis"]), {"producer", "consumer"}),
    "a line of redis.conf": (nested("redis.extraConfig", "hz 20"), {"redis"}),
    "memory of Redis": (nested("redis.maxmemory", "400mb"), {"redis"}),
    "the number of consumers": (nested("consumer.replicas", 4), set()),
    "the number of producers": (nested("producer.replicas", 4), set()),
    "an autoscaler": (nested("consumer.keda.enabled", True), set()),
    "monitoring": ({"serviceMonitor": {"enabled": True}, "dashboards": {"enabled": True}}, set()),
    "policies of the network": (nested("networkPolicy.enabled", False), set()),
    "a budget": (nested("consumer.podDisruptionBudget.enabled", False), set()),
    "what helm test does": (nested("tests.timeoutSeconds", 5), set()),
    "the database": (POSTGRES, {"consumer"}),
    "where the database is for policies": (nested("networkPolicy.databaseTo", []), set()),
    "an image": (nested("consumer.image.tag", "2"), {"consumer"}),
}


def _restarted(before: Rendered, after: Rendered) -> set[str]:
    """Name the components whose pods are replaced."""
    names = ("producer", "consumer", "redis")
    return {name for name in names if before.pod(name).identity() != after.pod(name).identity()}


@pytest.mark.parametrize("case", RESTARTED)
def test_pods_are_replaced_where_their_configuration_changed(case: str) -> None:
    """And left alone where it did not."""
    values, expected = RESTARTED[case]
    restarted = _restarted(render(BASE), render(merged(BASE, values)))
    if case == "a threshold":
        assert restarted >= expected  # the producer's generator knows them as well
        assert "redis" not in restarted
    else:
        assert restarted == expected


@pytest.mark.parametrize(
    "values", [BASE, EXTERNAL, SETS["production"]], ids=["own", "external", "production"]
)
def test_two_renderings_are_the_same(values: Values) -> None:
    """Byte for byte, so what renders without a cluster sees no change where there is none."""
    assert template_anew(values) == template_anew(values)


def test_made_up_passwords_replace_no_pod() -> None:
    """Where they are looked up they stay the same; where nobody can look, only the Secret differs."""
    one, two = (Rendered(template_anew({})) for _ in range(2))
    assert one.one("Secret")["data"] != two.one("Secret")["data"]
    assert _restarted(one, two) == set()


def test_a_new_version_of_the_chart_alone_replaces_no_pod(rendered: Rendered) -> None:
    """It is told by a label, which pods do not have."""
    for pod in rendered.lasting_pods:
        assert "helm.sh/chart" not in pod.labels
        assert "helm.sh/chart" in pod.owner["metadata"]["labels"]


def test_configuration_is_told_by_a_checksum() -> None:
    """The service reads it once, at its start."""
    for component, values in (("consumer", SETS["kpis"]), ("redis", BASE)):
        annotations = render(values).pod(component).annotations
        assert any(name.startswith("checksum/") for name in annotations), component
