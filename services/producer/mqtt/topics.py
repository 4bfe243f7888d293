"""Topics as templates: what is subscribed to, and what a message's topic says of its events. Pure.

plant/{zone}/{device}/{kpi}     a level that says a field of the event; it is subscribed to as +
plant/+/raw/#                   MQTT's wildcards: a level that says nothing, and all levels behind
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from services.producer.rows.problem import shown

_FIELDS: Final[Mapping[str, str]] = {
    "{zone}": "zone",
    "{device}": "device_id",
    "{device_id}": "device_id",
    "{kpi}": "kpi",
}
_ONE: Final = "+"
_REST: Final = "#"
_LONGEST: Final = 65_535
"""Bytes of a topic."""


@dataclass(frozen=True, slots=True)
class Template:
    """One template; `text` as it was written."""

    text: str

    @property
    def topic_filter(self) -> str:
        """What is subscribed to."""
        return "/".join(_ONE if level in _FIELDS else level for level in self.text.split("/"))

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of an event that a topic says."""
        return tuple(_FIELDS[level] for level in self.text.split("/") if level in _FIELDS)

    def read(self, topic: str) -> dict[str, str] | None:
        """Give what a topic says; None where it is none of these."""
        said: dict[str, str] = {}
        levels, given = self.text.split("/"), topic.split("/")
        if levels[-1] == _REST:
            levels = levels[:-1]
            given = given[: len(levels)]
        if len(levels) != len(given) or (topic.startswith("$") and not self.text.startswith("$")):
            return None
        for level, one in zip(levels, given, strict=True):
            if level in _FIELDS:
                said[_FIELDS[level]] = one
            elif level not in {_ONE, one}:
                return None
        return said


def read_templates(text: str, errors: list[str]) -> tuple[Template, ...]:
    """Read MQTT_TOPICS; what is wrong with it goes into `errors`."""
    templates = [Template(one.strip()) for one in text.split(",") if one.strip()]
    if not templates:
        errors.append("MQTT_TOPICS: say which topics are taken, such as plant/{zone}/{device}/{kpi}")
    faults = [
        f"MQTT_TOPICS: {shown(one.text, 200)}: {wrong}" for one in templates if (wrong := _wrong_with(one))
    ]
    errors += faults
    if not faults:
        errors += [
            f"MQTT_TOPICS: {one.text} and {other.text}: a message can be of both, and could be taken twice; "
            "write them so that it can't"
            for one, other in combinations(templates, 2)
            if _share_topics(one.topic_filter.split("/"), other.topic_filter.split("/"))
        ]
    return tuple(templates)


def _wrong_with(template: Template) -> str:
    levels = template.text.split("/")
    if levels[0] == "$share":
        return "name the group in MQTT_SHARE, and leave $share/... out"
    if len(template.text.encode(errors="replace")) > _LONGEST:
        return f"longer than {_LONGEST} bytes"
    if _REST in levels[:-1]:
        return "# can only be the last level"
    for level in levels:
        if level in _FIELDS or level in {_ONE, _REST}:
            continue
        if "{" in level or "}" in level:
            return f"{shown(level, 40)}: a whole level is {', '.join(_FIELDS)}"
        if _ONE in level or _REST in level:
            return f"{shown(level, 40)}: + and # are whole levels"
    if len(set(template.fields)) != len(template.fields):
        return "it says a field twice"
    return ""


def _share_topics(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether there is a topic that both filters match."""
    if not one or not other:
        return (list(one) or list(other) or [_REST]) == [_REST]
    if _REST in {one[0], other[0]}:
        return True
    if one[0] != other[0] and _ONE not in {one[0], other[0]}:
        return False
    return _share_topics(one[1:], other[1:])
