"""What the schemas accept, and what they say of the rest."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from chart.rendering import CHART, EXTERNAL, REDIS_CHART, merged, nested, read_values, refusal, render

from services.runtime.settings import ConsumerSettings, ProducerSettings, Settings, declared, variable

pytestmark = pytest.mark.usefixtures("helm")

SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
REDIS_SCHEMA: Final = json.loads((REDIS_CHART / "values.schema.json").read_text(encoding="utf-8"))

MISSPELT: Final = "mispelt"


def _resolved(schema: Any, top: Any) -> Any:
    while "$ref" in schema:
        schema = top["definitions"][schema["$ref"].rpartition("/")[2]]
    return schema


def _maps(schema: Any, top: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give every map that a schema describes, with its path."""
    schema = _resolved(schema, top)
    if "properties" in schema:
        yield path, schema
    for key, inner in schema.get("properties", {}).items():
        yield from _maps(inner, top, (*path, key))


def _shared(name: str) -> Any:
    return SCHEMA["properties"]["settings"]["properties"] if name == "settings" else _settings(name)


def _settings(service: str) -> Any:
    part = SCHEMA["properties"][service]["properties"]
    found = dict(part["settings"]["properties"])
    for mode in ("http", "mqtt") if service == "producer" else ():
        found |= part[mode]["properties"]["settings"]["properties"]
    return found


def test_the_default_values_are_accepted() -> None:
    """And something comes of them."""
    assert len(render().all) > 5


def test_a_misspelt_key_is_refused_by_name_wherever_it_stands() -> None:
    """In every map but those that are Kubernetes' own; one message names all of them."""
    paths = [path for path, schema in _maps(SCHEMA, SCHEMA) if schema["additionalProperties"] is False]
    assert len(paths) > 40
    values = merged(*(nested(".".join((*path, MISSPELT)), "") for path in paths))
    said = refusal(values)
    for path in paths:
        where = "".join(f"/{key}" for key in path)
        assert re.search(rf"at '{where}': additional properties '{MISSPELT}' not allowed", said), where


def test_a_misspelt_key_of_the_subchart_is_refused_by_name() -> None:
    """By the schema of the subchart."""
    paths = [path for path, schema in _maps(REDIS_SCHEMA, REDIS_SCHEMA) if path[:1] != ("global",)]
    assert len(paths) > 10
    said = refusal({"redis": merged(*(nested(".".join((*path, MISSPELT)), "") for path in paths))})
    for path in paths:
        where = "".join(f"/{key}" for key in path)
        assert re.search(rf"at '{where}': additional properties '{MISSPELT}' not allowed", said), where


@pytest.mark.parametrize("chart", [CHART, REDIS_CHART], ids=["parent", "subchart"])
def test_every_default_value_is_described_by_the_schema_and_the_other_way_round(chart: Any) -> None:
    """A key that is only in one of both would be refused, or would have no default."""
    schema = SCHEMA if chart == CHART else REDIS_SCHEMA
    values = read_values(chart / "values.yaml")
    for path, described in _maps(schema, schema):
        node: Any = values
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict) and described["additionalProperties"] is False:
            optional = {"enabled", "global"} if not path else _optional(path)
            assert node.keys() <= described["properties"].keys(), path
            wanted = {key for key, one in described["properties"].items() if not one.get("deprecated")}
            assert wanted - optional <= node.keys(), path


def _optional(path: tuple[str, ...]) -> set[str]:
    """Give what needs no default: the many fields of Kubernetes' own types."""
    kubernetes = {
        "startupProbe",
        "livenessProbe",
        "readinessProbe",
        "strategy",
        "resources",
        "affinity",
        "behavior",
    }
    if path[-1] not in kubernetes:
        return set()
    node = SCHEMA["definitions"]
    by_name = {"startupProbe": "probe", "livenessProbe": "probe", "readinessProbe": "probe"}
    return set(node[by_name.get(path[-1], path[-1])]["properties"])


def test_the_parent_knows_the_defaults_of_the_subchart_that_it_repeats() -> None:
    """What stands under `redis` in the parent is what the subchart has by itself."""
    ours = read_values(CHART / "values.yaml")["redis"]
    own = read_values(REDIS_CHART / "values.yaml")
    assert merged(own, ours) == {**own, "enabled": True}


@pytest.mark.parametrize("service", ["producer", "consumer"])
def test_bounds_of_settings_are_those_of_the_service(service: str) -> None:
    """Least, most and choices are declared once in the service, and repeated by the schema."""
    cls: type[Settings] = ProducerSettings if service == "producer" else ConsumerSettings
    known = {variable(one): one.metadata for one in declared(cls)}
    for key, schema in {**_shared("settings"), **_settings(service)}.items():
        setting = known[_variable(key)]
        bounds = _resolved(schema, SCHEMA)
        least = 1 if key.endswith("MetricsPort") else setting["least"]  # probes need the port
        assert (bounds.get("minimum"), bounds.get("maximum")) == (least, setting["most"]), key
        choices = [one for one in bounds.get("enum", []) if one is not None]
        assert choices == list(setting["choices"]), key


@pytest.mark.parametrize("service", ["producer", "consumer"])
def test_every_key_under_settings_is_a_setting(service: str) -> None:
    """And is of the type that the service reads."""
    cls: type[Settings] = ProducerSettings if service == "producer" else ConsumerSettings
    known = {variable(one): one.type for one in declared(cls)}
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    for key, schema in {**_shared("settings"), **_settings(service)}.items():
        bounds = _resolved(schema, SCHEMA)
        if "enum" not in bounds:
            types = bounds["type"] if isinstance(bounds["type"], list) else [bounds["type"]]
            assert names[known[_variable(key)]] in types, key


def _variable(key: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).upper()


REFUSED: Final = {
    "a typo at the top": ("consumers.replicas", 2, "consumers"),
    "a number of replicas as text": ("consumer.replicas", "2", "/consumer/replicas"),
    "ReadWriteMany": (
        "consumer.persistence.accessMode",
        "ReadWriteMany",
        "'ReadWriteOnce', 'ReadWriteOncePod'",
    ),
    "a mode that is none": ("producer.mode", "generator", "'generate', 'replay', 'http', 'mqtt'"),
    "a broker with its password": ("producer.mqtt.url", "mqtt://me:secret@broker", "/producer/mqtt/url"),
    "two topics as one": ("producer.mqtt.topics", ["a/{device},b/{device}"], "/producer/mqtt/topics/0"),
    "tokens as a map": ("producer.http.tokens", {"gateway-1": "secret"}, "/producer/http/tokens"),
    "an ingress of a URL": ("producer.http.ingress.host", "https://example.com", "/http/ingress/host"),
    "a load balancer for one address": (
        "producer.http.service.loadBalancerSourceRanges", ["203.0.113.7"], "loadBalancerSourceRanges/0",
    ),
    "a request that may take for ever": ("producer.http.settings.httpWaitS", None, "missing property"),
    "a tag that YAML takes for a number": ("redis.image.tag", 8.2, "/image/tag"),
    "a digest without its kind": ("consumer.image.digest", "0123", "/consumer/image/digest"),
    "a registry with a scheme": ("global.imageRegistry", "https://registry.example.com", "imageRegistry"),
    "a registry that ends with a slash": ("producer.image.registry", "registry.example.com/", "registry"),
    "a host with its port": ("externalRedis.host", "redis.example.com/0", "/externalRedis/host"),
    "a database as a URL": ("database.host", "postgresql://pg/telemetry", "/database/host"),
    "TLS that looks half": ("database.sslmode", "allow", "'verify-full'"),
    "no TLS that YAML takes for a boolean": ("database.sslmode", False, "/database/sslmode"),
    "a port out of range": ("externalRedis.port", 70000, "maximum: got 70,000, want 65,535"),
    "a batch that is too large": ("consumer.settings.batchSize", 4001, "maximum: got 4,001, want 4,000"),
    "half an entry": ("producer.settings.batchSize", 1.5, "/producer/settings/batchSize"),
    "a share above one": ("producer.settings.invalidRatio", 1.5, "/producer/settings/invalidRatio"),
    "a service without the port that its probes ask": (
        "consumer.settings.consumerMetricsPort",
        0,
        "/consumer/settings/consumerMetricsPort",
    ),
    "no port at all": ("producer.settings.producerMetricsPort", None, "producerMetricsPort"),
    "a batch of unknown length": ("consumer.settings.maxRetries", None, "missing property 'maxRetries'"),
    "no stream": ("settings.streamName", None, "missing property 'streamName'"),
    "a log level that is none": ("settings.logLevel", "info", "'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
    "a setting of the other service": ("producer.settings.maxRetries", 3, "maxRetries"),
    "a variable that is no text": ("consumer.extraEnv", [{"name": "A", "value": 1}], "/consumer/extraEnv/0"),
    "a variable without a name": ("consumer.extraEnv", [{"value": "1"}], "name"),
    "a label that YAML takes for a boolean": ("commonLabels", {"canary": True}, "/commonLabels/canary"),
    "a no that YAML takes for a boolean": ("redis.appendfsync", False, "'everysec', 'always', 'no'"),
    "memory with a unit of Kubernetes": ("redis.maxmemory", "384Mi", "/maxmemory"),
    "a size without a meaning": ("consumer.persistence.size", "8 GB", "/consumer/persistence/size"),
    "a threshold of a name that can be no KPI": ("thresholds", {"Temperature": 80}, "Temperature"),
    "a peer that is none": ("networkPolicy.metricsFrom", [{"namespace": "monitoring"}], "namespace"),
    "a peer that would be everybody": ("networkPolicy.metricsFrom", [{}], "/networkPolicy/metricsFrom/0"),
    "a probe with a typo": ("consumer.livenessProbe.periodSecond", 1, "periodSecond"),
    "pods that may never be away": ("consumer.podDisruptionBudget.maxUnavailable", 0, "got 0, want 1"),
    "pods that may never be away, as a share": (
        "redis.podDisruptionBudget.maxUnavailable",
        "0%",
        "/podDisruptionBudget/maxUnavailable",
    ),
    "a strategy that is none": ("consumer.strategy.type", "OnDelete", "'Recreate', 'RollingUpdate'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_value_is_refused_by_its_path(case: str) -> None:
    """The message names the value, and what may stand there."""
    path, value, expected = REFUSED[case]
    assert expected in refusal(nested(path, value))


def test_globals_of_other_charts_are_let_be() -> None:
    """A chart that this one is a part of has its own, and switches this one by `enabled`."""
    assert render({"enabled": True, "global": {"domain": "example.com"}}).text


def test_values_of_a_redis_that_is_off_are_no_error() -> None:
    """They may come from a file that another environment shares."""
    assert render(merged(EXTERNAL, {"redis": {"maxmemory": "1gb"}})).text
