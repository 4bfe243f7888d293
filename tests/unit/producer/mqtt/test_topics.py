"""Templates of topics: what is subscribed to, what a topic says, and what is no template."""

import pytest

from services.producer.mqtt.topics import Template, read_templates


def faults(text: str) -> list[str]:
    errors: list[str] = []
    read_templates(text, errors)
    return errors


@pytest.mark.parametrize(
    ("template", "topic", "said"),
    [
        ("plant/{zone}/{device}/{kpi}", "plant/hall/d1/temperature",
         {"zone": "hall", "device_id": "d1", "kpi": "temperature"}),
        ("plant/{zone}/{device}/{kpi}", "plant/hall/d1", None),
        ("plant/{zone}/{device}/{kpi}", "plant/hall/d1/temperature/x", None),
        ("plant/{zone}/{device}/{kpi}", "Plant/hall/d1/temperature", None),
        ("plant//{device_id}", "plant//d1", {"device_id": "d1"}),
        ("{device}/#", "d1", {"device_id": "d1"}),
        ("{device}/#", "d1/a/b", {"device_id": "d1"}),
        ("{device}/+/x", "d1/a/x", {"device_id": "d1"}),
        ("{device}/+/x", "d1/a/y", None),
        ("#", "$SYS/broker", None),
        ("$SYS/{device}", "$SYS/broker", {"device_id": "broker"}),
        ("{device}", "", {"device_id": ""}),
    ],
)  # fmt: skip
def test_a_topic_says_what_stands_at_its_levels(
    template: str, topic: str, said: dict[str, str] | None
) -> None:
    """Or it is none of these."""
    assert Template(template).read(topic) == said


def test_what_is_subscribed_to_has_wildcards_for_fields() -> None:
    """And blanks around a template are none of it."""
    found = read_templates(" plant/{zone}/{device}/{kpi} , lab/+/{device}/# ", [])
    assert [one.topic_filter for one in found] == ["plant/+/+/+", "lab/+/+/#"]
    assert [one.fields for one in found] == [("zone", "device_id", "kpi"), ("device_id",)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "say which topics"),
        (" , ", "say which topics"),
        ("a/#/b", "# can only be the last level"),
        ("a/x-{device}", "a whole level is {zone}, {device}, {device_id}, {kpi}"),
        ("a/{room}", "a whole level is"),
        ("a/b+", "+ and # are whole levels"),
        ("{device}/{device_id}", "it says a field twice"),
        ("$share/g/a/{device}", "MQTT_SHARE"),
        (f"{'x' * 70_000}/{{device}}", "longer than"),
    ],
)
def test_what_is_no_template_is_told(text: str, error: str) -> None:
    """With what to write."""
    (only,) = faults(text)
    assert error in only
    assert len(only) < 400


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("a/{zone}/x,a/{zone}/y", False),
        ("a/{zone}/x,a/+/{device}", True),
        ("a/#,a", True),
        ("a/#,b/#", False),
        ("#,b", True),
        ("a/{zone},a/{zone}/{device}", False),
        ("a/{zone}/#,a/{zone}", True),
        ("a,a", True),
    ],
)
def test_no_message_may_be_of_two_templates(text: str, is_refused: bool) -> None:
    """A broker would send it twice."""
    assert ["can be of both" in one for one in faults(text)] == [True] * is_refused
