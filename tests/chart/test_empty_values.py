"""Every key of values.yaml left empty, by `key:` and by `key: ""`: it has its default, or is refused by name.

Many keys are tried in one rendering, since each is a process: all that are accepted together have to come to
what is rendered without them, and a refusal names all that it refuses.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
import yaml
from chart.rendering import (
    CHART,
    REDIS_CHART,
    SETS,
    Rendered,
    Values,
    merged,
    nested,
    read_values,
    refusal,
    render,
    template,
)

from charts.defaults.__main__ import page

pytestmark = pytest.mark.usefixtures("helm")

Path = tuple[str, ...]

_SUBCHART: Final = read_values(REDIS_CHART / "values.yaml")
_DEFAULTS: Final = merged(read_values(CHART / "values.yaml"), {"redis": {}})
VALUES: Final = merged(_DEFAULTS, {"redis": merged(_SUBCHART, _DEFAULTS["redis"])})

_THEIRS: Final = {"resources", "strategy", "podSecurityContext", "securityContext", "labels"}
"""Maps whose keys are Kubernetes' own, where null leaves one out."""
_NONE: Final = {"startupProbe", "livenessProbe", "readinessProbe", "fallback"}
"""What there is none of where it is null."""
_REQUIRED: Final = {
    ("settings", "streamName"),
    ("settings", "groupName"),
    ("settings", "redisTimeoutS"),
    ("producer", "settings", "producerMetricsPort"),
    *(
        ("producer", "http", "settings", key)
        for key in ("httpHost", "httpPort", "httpReadTimeoutS", "httpWaitS")
    ),
    *(
        ("consumer", "settings", key)
        for key in (
            "consumerMetricsPort",
            "maxRetries",
            "retryBackoffS",
            "sqliteBusyTimeoutMs",
            "databaseTimeoutS",
            "claimIdleMs",
        )
    ),
}
"""Settings that the chart itself counts on."""


def _paths(values: Values, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Give every key with its value: sections and what is in them, but for maps of Kubernetes' own."""
    for key, value in values.items():
        here = (*path, key)
        yield here, value
        if isinstance(value, Mapping) and key not in _THEIRS | _NONE:
            yield from _paths(value, here)


PATHS: Final = dict(_paths(VALUES))
SECTIONS: Final = [path for path, value in PATHS.items() if isinstance(value, Mapping) and value]
LEAVES: Final = [path for path, value in PATHS.items() if not (isinstance(value, Mapping) and value)]
SETTINGS: Final = [path for path in LEAVES if "settings" in path]


def _is_left_out(path: Path) -> bool:
    """Tell whether null has a meaning of its own there: it is left out."""
    return path in SETTINGS or path[-1] in _NONE


def _all(paths: list[Path], value: Any, base: Values) -> Values:
    """Give the base with this value at every path that it says nothing of."""
    told = {
        path
        for path, value in _paths(base)
        if not isinstance(value, Mapping) or path[-1] in _THEIRS | _NONE or path not in SECTIONS
    }
    free = (
        path for path in paths if not any(path[: len(one)] == one or one[: len(path)] == path for one in told)
    )
    return merged(base, *(nested(".".join(path), value) for path in free))


def _rendered(values: Values) -> list[Any]:
    """Give what values come to, but for passwords that are made up."""
    found = []
    for one in render(values).all:
        without = (
            {key: value for key, value in one.items() if key != "data"} if one["kind"] == "Secret" else one
        )
        found.append(without)
    return found


def _assert_whole(rendered: Rendered) -> None:
    """See that nothing is in it that was no value."""
    assert not re.search(r"%!|<nil>|<no value>", rendered.text)
    assert [path for one in rendered.all for path in _nulls(one)] == []


def _refused(said: str, paths: list[Path]) -> set[Path]:
    """Give those of the paths that a message of Helm names, chart by chart."""
    refused: set[Path] = set()
    prefix: Path = ()
    for line in said.splitlines():
        if found := re.match(r" *- at '/([^']*)'", line):
            refused.add((*prefix, *found[1].split("/")))
        elif line.rstrip() in {"redis:", f"{CHART.name}:"}:
            prefix = ("redis",) if line.startswith("redis:") else ()
    return refused & set(paths)


def _accepted(paths: list[Path], value: Any, base: Values) -> list[Path]:
    """Give the paths at which a value is accepted; the others are refused by their names, all at once."""
    done = template(_all(paths, value, base))
    refused = _refused(done.stderr, paths)
    assert (done.returncode != 0) == bool(refused), done.stderr
    return [path for path in paths if path not in refused]


def _nulls(node: Any, path: str = "") -> Iterator[str]:
    if node is None:
        yield path
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _nulls(value, f"{path}/{key}")
    elif isinstance(node, list):
        for value in node:
            yield from _nulls(value, f"{path}[]")


def test_all_keys_are_tried() -> None:
    """Those of the parent, and those of the subchart."""
    assert len(LEAVES) > 200
    assert {path[:2] for path in PATHS if path[0] == "redis"} >= {("redis", key) for key in _SUBCHART}


def test_the_defaults_are_those_of_values_yaml() -> None:
    """Otherwise: make chart-docs."""
    file = CHART / "files" / "defaults.yaml"
    assert file.read_text(encoding="utf-8") == page(CHART)
    kept = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {path for path, value in _paths(kept)} == {
        path for path, value in PATHS.items() if value is not None
    }


@pytest.mark.parametrize("name", SETS)
def test_a_key_without_a_value_has_its_default(name: str) -> None:
    """All at once, beside each set of values: the same comes of it as without them."""
    base: Values = SETS.get(name, {})
    empty = [path for path in LEAVES if not _is_left_out(path)]
    accepted = _accepted(empty, None, base)
    assert {*empty} - {*accepted} <= {("redis", "enabled")}
    values = _all(accepted, None, base)
    assert _rendered(values) == _rendered(base)


@pytest.mark.parametrize("depth", sorted({len(path) for path in SECTIONS}))
def test_a_section_without_a_value_has_its_defaults(depth: int) -> None:
    """A heading with nothing below it."""
    paths = [path for path in SECTIONS if len(path) == depth and not _is_left_out(path)]
    values = _all(paths, None, {})
    assert _rendered(values) == _rendered({})


@pytest.mark.parametrize("section", [path for path in SECTIONS if len(path) == 1], ids=".".join)
def test_one_empty_section_alone_has_its_defaults(section: Path) -> None:
    """As people leave one."""
    assert _rendered({section[0]: None}) == _rendered({})


def test_a_setting_without_a_value_is_left_to_the_service() -> None:
    """But for those that the chart counts on: they are refused, each by its name."""
    said = refusal(_all(SETTINGS, None, {}))
    for path in _REQUIRED:
        assert re.search(rf"at '/{'/'.join(path[:-1])}': missing propert[^\n]*'{path[-1]}'", said), path
    free = [path for path in SETTINGS if path not in _REQUIRED]
    rendered = render(_all(free, None, {}))
    _assert_whole(rendered)
    for component in ("producer", "consumer"):
        found = rendered.environment(component)
        for path in free:
            variable = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path[-1]).upper()
            assert variable not in found, path


def test_a_probe_without_a_value_is_none() -> None:
    """And so is KEDA's fallback."""
    paths = [path for path in SECTIONS if path[-1] in _NONE and path[0] != "redis"]
    assert len(paths) == 7
    rendered = render(_all(paths, None, nested("consumer.keda.enabled", True)))
    _assert_whole(rendered)
    for pod in (rendered.pod("producer"), rendered.pod("consumer")):
        assert [key for key in pod.main if key.endswith("Probe")] == []
    assert "fallback" not in rendered.one("ScaledObject")["spec"]


@pytest.mark.parametrize("part", ["producer", "consumer", "redis", "audit"])
def test_a_key_of_ones_own_without_a_value_is_left_out(part: str) -> None:
    """A limit that is null would be one of 0, and a label that is null is none that Kubernetes takes."""
    mine: dict[str, Any] = {"resources": {"limits": {"cpu": None}}, "podLabels": {"mine": None}}
    if part != "audit":
        mine |= {"nodeSelector": {"mine": None}, "podSecurityContext": {"mine": None}}
        mine |= {"securityContext": {"mine": None}, "podAnnotations": {"mine": None}}
    values = {part: mine, "commonLabels": {"mine": None}, "commonAnnotations": {"mine": None}}
    assert _rendered(values) == _rendered({})


@pytest.mark.parametrize("part", ["producer", "consumer", "redis", "audit"])
def test_what_is_kubernetes_own_is_left_out_where_it_has_no_value(part: str) -> None:
    """Key by key: limits without requests, and a pod without a user of its own."""
    values: Values = {}
    for name in sorted(_THEIRS & VALUES[part].keys()):
        for key in VALUES[part][name]:
            if (name, key) != ("strategy", "type"):
                values = merged(values, nested(f"{part}.{name}.{key}", None))
    rendered = render(values)
    _assert_whole(rendered)
    if part in {"producer", "consumer"}:  # which have none at first: what it is depends on mode and store
        assert f"/{part}/strategy/type" in refusal(nested(f"{part}.strategy.type", None))
        assert "'type'" in refusal(nested(f"{part}.strategy.rollingUpdate", {"maxSurge": 1}))


@pytest.mark.parametrize(
    "name", ["default", "keda", "audit", "replay-configmap", "external-redis-tls", "postgres", "http"]
)
def test_an_empty_text_is_refused_by_name_or_is_the_default(name: str) -> None:
    """All at once; those that the message does not name are then rendered."""
    base: Values = SETS.get(name, {})
    # The values of a Redis that is off are not looked at.
    has_subchart = base.get("redis", {}).get("enabled", True)
    leaves = [path for path in LEAVES if path[0] != "redis" or has_subchart]
    accepted = _accepted(leaves, "", base)
    assert 0 < len(accepted) < len(leaves) / 2
    values = _all(accepted, "", base)
    _assert_whole(render(values))
    # An empty seed is the same as none; the variable is there, and says so.
    without_seed = merged(values, {"producer": {"settings": {"seed": None}}})
    assert _rendered(without_seed) == _rendered(merged(base, {"producer": {"settings": {"seed": None}}}))


@pytest.mark.parametrize("section", SECTIONS, ids=".".join)
def test_a_text_in_place_of_a_section_is_refused_by_name(section: Path) -> None:
    """Each alone: it hides what is in it."""
    said = refusal(nested(".".join(section), ""))
    assert _refused(said, [section]) or f"type mismatch on {section[-1]}" in said, said
