"""The chart's Redis gets the users that tests/integration and tests/acceptance try on real servers."""

import pytest
from chart.rendering import Values, merged, nested, render
from guarded import DEFAULT, USERS

from charts.users import rules

pytestmark = pytest.mark.usefixtures("helm")


@pytest.mark.parametrize(
    ("values", "stream", "drops_oldest"),
    [
        ({}, "telemetry_stream", False),
        (
            merged(
                nested("settings.streamName", "my.readings-1"), nested("redis.auth.stream", "my.readings-1")
            ),
            "my.readings-1",
            False,
        ),
        (
            merged(nested("settings.streamName", "plant{7}"), nested("redis.auth.stream", "plant{7}")),
            "plant{7}",
            False,
        ),
        (
            merged(
                nested("producer.settings.streamFull", "drop_oldest"),
                nested("redis.auth.streamFull", "drop_oldest"),
            ),
            "telemetry_stream",
            True,
        ),
    ],
    ids=["as shipped", "another stream", "a hash tag", "drop_oldest"],
)
def test_the_users_of_the_chart_are_those_that_are_tested(
    values: Values, stream: str, drops_oldest: bool
) -> None:
    """Helm and Python read the same file to the same rules."""
    config = render(values).named("ConfigMap", "demo-redis")["data"]
    rendered = dict(line.split(" ", 1) for line in config["users"].splitlines())
    assert rendered == rules(stream, drops_oldest=drops_oldest)
    assert tuple(rendered) == USERS
    assert f'echo "{DEFAULT}"' in config["start.sh"]
