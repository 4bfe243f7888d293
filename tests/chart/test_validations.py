"""Values that are right alone and contradict each other: each is refused, with what to write."""

from typing import Final

import pytest
from chart.rendering import EXTERNAL, POSTGRES, SETS, Values, merged, nested, refusal, render

pytestmark = pytest.mark.usefixtures("helm")

REPLAY: Final[Values] = {"producer": {"mode": "replay", "replay": {"file": "events.csv"}}}

REFUSED: Final[dict[str, tuple[Values, tuple[str, ...]]]] = {
    "two Redis": ({"externalRedis": {"host": "redis.example.com"}}, ("redis.enabled", "externalRedis.host")),
    "a port in the name of a host": (
        {"redis": {"enabled": False}, "externalRedis": {"host": "redis.example.com:6380"}},
        ("externalRedis.host", "externalRedis.port"),
    ),
    "a port behind an address": (
        {"redis": {"enabled": False}, "externalRedis": {"host": "[fd00::1]:6380"}},
        ("externalRedis.host", "externalRedis.port"),
    ),
    "an authority without TLS": (
        merged(EXTERNAL, {"externalRedis": {"tls": {"caSecret": "ca"}}}),
        ("externalRedis.tls.caSecret", "externalRedis.tls.enabled"),
    ),
    "a certificate without TLS": (
        merged(EXTERNAL, {"externalRedis": {"tls": {"certSecret": "ours"}}}),
        ("externalRedis.tls.certSecret", "externalRedis.tls.enabled"),
    ),
    "no Redis": ({"redis": {"enabled": False}}, ("redis.enabled", "externalRedis.host")),
    "a producer that drops the oldest, and may not": (
        nested("producer.settings.streamFull", "drop_oldest"),
        ("redis.auth.streamFull", "producer.settings.streamFull", "drop_oldest"),
    ),
    "two autoscalers": (
        {"consumer": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}},
        ("consumer.autoscaling", "consumer.keda"),
    ),
    "metrics that are sent nowhere": (nested("otlp.metrics", True), ("otlp.endpoint",)),
    "log lines that are sent nowhere": (nested("otlp.logs", True), ("otlp.endpoint",)),
    "two endpoints": (
        merged(
            nested("otlp.endpoint", "http://collector:4318"),
            nested("consumer.extraEnv", [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://other"}]),
        ),
        ("consumer.extraEnv", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ),
    "a dashboard of a database that there is not": (
        nested("dashboards", {"enabled": True, "databaseUid": "telemetry"}),
        ("dashboards.databaseUid", "database.host", "database.existingSecret"),
    ),
    "a dashboard where none is made": (
        merged(POSTGRES, nested("dashboards.databaseUid", "telemetry")),
        ("dashboards.databaseUid", "dashboards.enabled"),
    ),
    "two monitors": (
        {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
        ("serviceMonitor", "podMonitor"),
    ),
    "a grace period shorter than a batch": (
        {"consumer": {"terminationGracePeriodSeconds": 10}},
        ("consumer.terminationGracePeriodSeconds", "28"),
    ),
    "retries that make a batch longer than the grace period": (
        {"consumer": {"settings": {"maxRetries": 9, "claimIdleMs": 600000}}},
        ("consumer.terminationGracePeriodSeconds",),
    ),
    "an idle time shorter than two batches": (
        {"consumer": {"settings": {"claimIdleMs": 55999}}},
        ("consumer.settings.claimIdleMs", "56000"),
    ),
    "a variable twice": (
        {"consumer": {"extraEnv": [{"name": "TZ", "value": "UTC"}, {"name": "TZ", "value": "CET"}]}},
        ("consumer.extraEnv", "TZ"),
    ),
    "a variable of the producer twice": (
        {"producer": {"extraEnv": [{"name": "TZ", "value": "UTC"}, {"name": "TZ", "value": "CET"}]}},
        ("producer.extraEnv", "TZ"),
    ),
    "a variable that the chart sets": (
        {"consumer": {"extraEnv": [{"name": "REDIS_HOST", "value": "elsewhere"}]}},
        ("consumer.extraEnv", "REDIS_HOST"),
    ),
    "a variable of the producer that the chart sets": (
        {"producer": {"extraEnv": [{"name": "REDIS_USERNAME", "value": "root"}]}},
        ("producer.extraEnv", "REDIS_USERNAME"),
    ),
    "a folder that is not the volume": (
        {"consumer": {"extraEnv": [{"name": "DATA_DIR", "value": "/tmp"}]}},  # noqa: S108 - refused
        ("consumer.extraEnv", "DATA_DIR"),
    ),
    "a replay without a file": (
        {"producer": {"mode": "replay", "replay": {"configMap": "readings"}}},
        ("producer.replay.file",),
    ),
    "a replay from nowhere": (REPLAY, ("producer.replay", "configMap", "existingClaim")),
    "a replay from two places": (
        merged(REPLAY, {"producer": {"replay": {"configMap": "a", "existingClaim": "b"}}}),
        ("producer.replay", "configMap", "existingClaim"),
    ),
    "two mappings of a replay": (
        merged(
            REPLAY, {"producer": {"replay": {"configMap": "a", "mapping": "x = 1", "mappingConfigMap": "b"}}}
        ),
        ("producer.replay", "mapping", "mappingConfigMap"),
    ),
    "devices that nobody knows": ({"producer": {"mode": "http"}}, ("producer.http.tokens", "anonymous")),
    "tokens in two places": (
        merged(SETS["http"], nested("producer.http.tokensSecret", "tokens")),
        ("producer.http", "tokens and tokensSecret"),
    ),
    "tokens for anybody": (
        merged(SETS["http"], nested("producer.http.anonymous", True)),
        ("producer.http", "tokens and anonymous"),
    ),
    "certificates of clients without TLS": (
        merged(SETS["http"], nested("producer.http.clientCaSecret", "authority")),
        ("producer.http.clientCaSecret", "producer.http.tlsSecret"),
    ),
    "two mappings of what is sent": (
        merged(SETS["http"], nested("producer.http.mappingConfigMap", "mappings")),
        ("producer.http", "mapping", "mappingConfigMap"),
    ),
    "two mappings of line protocol": (
        merged(SETS["http"], nested("producer.http.influxMappingConfigMap", "mappings")),
        ("producer.http", "influxMapping", "influxMappingConfigMap"),
    ),
    "events where the metrics are": (
        merged(SETS["http"], nested("producer.http.settings.httpPort", 8001)),
        ("producer.http.settings.httpPort", "producer.settings.producerMetricsPort"),
    ),
    "an ingress for any host": (
        merged(SETS["http"], nested("producer.http.ingress.enabled", True)),
        ("producer.http.ingress.host",),
    ),
    "bounds of producers that cross": (
        merged(SETS["http"], nested("producer.http.autoscaling", {"enabled": True, "minReplicas": 7})),
        ("producer.http.autoscaling.minReplicas", "maxReplicas"),
    ),
    "an end that is shorter than a request": (
        merged(SETS["http"], nested("producer.terminationGracePeriodSeconds", 27)),
        ("producer.terminationGracePeriodSeconds", "28"),
    ),
    "a mode that the chart does not know of": (
        {"producer": {"extraEnv": [{"name": "PRODUCER_MODE", "value": "http"}]}},
        ("producer.extraEnv", "PRODUCER_MODE"),
    ),
    "MQTT without a broker": (nested("producer.mode", "mqtt"), ("producer.mqtt.url",)),
    "MQTT without topics": (
        {"producer": {"mode": "mqtt", "mqtt": {"url": "mqtt://broker"}}},
        ("producer.mqtt.topics", "{zone}"),
    ),
    "an authority of a broker without TLS": (
        merged(SETS["mqtt"], nested("producer.mqtt.url", "mqtt://broker")),
        ("producer.mqtt.caSecret", "producer.mqtt.url"),
    ),
    "two mappings of messages": (
        merged(SETS["mqtt"], nested("producer.mqtt.mappingConfigMap", "mappings")),
        ("producer.mqtt", "mapping", "mappingConfigMap"),
    ),
    "several producers that each take all": (
        merged(SETS["mqtt"], nested("producer.mqtt.shared", False)),
        ("producer.mqtt.shared", "producer.replicas"),
    ),
    "a session that ends with its only producer": (
        merged(SETS["mqtt"], nested("producer.replicas", 1)),
        ("producer.mqtt.settings.mqttEndSession", "producer.replicas"),
    ),
    "three pods on a volume for one": (
        {"consumer": {"replicas": 3, "persistence": {"accessMode": "ReadWriteOncePod"}}},
        ("consumer.persistence.accessMode", "ReadWriteOncePod"),
    ),
    "an autoscaler on a volume for one": (
        {"consumer": {"autoscaling": {"enabled": True}, "persistence": {"accessMode": "ReadWriteOncePod"}}},
        ("ReadWriteOncePod",),
    ),
    "KEDA on a volume for one": (
        {"consumer": {"keda": {"enabled": True}, "persistence": {"accessMode": "ReadWriteOncePod"}}},
        ("ReadWriteOncePod",),
    ),
    "a volume beside PostgreSQL": (
        merged(POSTGRES, nested("consumer.persistence.existingClaim", "data")),
        ("database", "consumer.persistence.existingClaim", "never in both"),
    ),
    "a port in the name of the database's host": (
        merged(POSTGRES, nested("database.host", "pg.example.com:5433")),
        ("database.host", "database.port"),
    ),
    "a host without a user": (
        nested("database", {"host": "pg", "name": "telemetry"}),
        ("database.user", "database.existingSecret"),
    ),
    "a host without a database": (
        nested("database", {"host": "pg", "user": "telemetry"}),
        ("database.name", "database.existingSecret"),
    ),
    "a user of no database": (nested("database.user", "telemetry"), ("database.user", "database.host")),
    "a name of a database nowhere": (nested("database.name", "telemetry"), ("database.name",)),
    "an authority of no database": (nested("database.caSecret", "ca"), ("database.caSecret",)),
    "a certificate for no database": (nested("database.certSecret", "c"), ("database.certSecret",)),
    "TLS to no database": (nested("database.sslmode", "require"), ("database.sslmode",)),
    "an authority that nobody asks": (
        merged(POSTGRES, nested("database", {"caSecret": "ca", "sslmode": "require"})),
        ("database.caSecret", "database.sslmode", "verify-full"),
    ),
    "a certificate that no authority vouches for": (
        merged(POSTGRES, nested("database.sslmode", "verify-ca")),
        ("database.caSecret", "verify-ca"),
    ),
    "our certificate without TLS": (
        merged(POSTGRES, nested("database", {"certSecret": "c", "sslmode": "disable"})),
        ("database.certSecret", "database.sslmode"),
    ),
    "dead letters in a file without a volume": (
        merged(POSTGRES, nested("consumer.settings.deadLetters", "file")),
        ("consumer.settings.deadLetters", "database or stream"),
    ),
    "dead letters in a database that is none": (
        nested("consumer.settings.deadLetters", "database"),
        ("consumer.settings.deadLetters", "file or stream"),
    ),
    "a database beside the values": (
        nested("consumer.extraEnv", [{"name": "DATABASE_URL", "value": "postgresql://pg/telemetry"}]),
        ("consumer.extraEnv", "DATABASE_URL"),
    ),
    "a host of the database beside the values": (
        merged(POSTGRES, nested("consumer.extraEnv", [{"name": "PGHOST", "value": "elsewhere"}])),
        ("consumer.extraEnv", "PGHOST"),
    ),
    "fewer replicas at most than at least": (
        {"consumer": {"keda": {"enabled": True, "minReplicas": 5}}},
        ("consumer.keda.minReplicas", "maxReplicas"),
    ),
    "fewer replicas at most than at least, by CPU": (
        {"consumer": {"autoscaling": {"enabled": True, "minReplicas": 5}}},
        ("consumer.autoscaling.minReplicas", "maxReplicas"),
    ),
    "a stream that the users of Redis may not use": (
        nested("settings.streamName", "readings"),
        ("settings.streamName", "redis.auth.stream"),
    ),
    "a port of metrics that probes do not know of": (
        {"consumer": {"extraEnv": [{"name": "CONSUMER_METRICS_PORT", "value": "9000"}]}},
        ("consumer.extraEnv", "CONSUMER_METRICS_PORT"),
    ),
    "consumers of which one stays on a node that is drained": (
        {"consumer": {"replicas": 3, "podDisruptionBudget": {"maxUnavailable": 2}}},
        ("consumer.podDisruptionBudget.maxUnavailable",),
    ),
    "consumers of which half stay on a node that is drained": (
        {"consumer": {"replicas": 4, "podDisruptionBudget": {"maxUnavailable": "50%"}}},
        ("consumer.podDisruptionBudget.maxUnavailable",),
    ),
    "consumers that an autoscaler makes more than may be away": (
        {"consumer": {"keda": {"enabled": True}, "podDisruptionBudget": {"maxUnavailable": 1}}},
        ("consumer.podDisruptionBudget.maxUnavailable",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_contradict_each_other_are_refused(case: str) -> None:
    """The message names them."""
    values, expected = REFUSED[case]
    said = refusal(values)
    assert "schema" not in said
    for word in expected:
        assert word in said, said


ACCEPTED: Final[dict[str, Values]] = {
    "one pod on a volume for one": {"consumer": {"persistence": {"accessMode": "ReadWriteOncePod"}}},
    "one consumer that may be away": {"consumer": {"podDisruptionBudget": {"maxUnavailable": 1}}},
    "a budget that is off": {
        "consumer": {"replicas": 3, "podDisruptionBudget": {"enabled": False, "maxUnavailable": 1}}
    },
    "an idle time of two batches": {"consumer": {"settings": {"claimIdleMs": 56000}}},
    "a grace period of one batch": {"consumer": {"terminationGracePeriodSeconds": 57}},
    "shorter batches with a shorter grace period": {
        "consumer": {
            "terminationGracePeriodSeconds": 20,
            "settings": {"maxRetries": 0, "sqliteBusyTimeoutMs": 1000, "claimIdleMs": 12000},
        }
    },
    "a replay that is not done": {"producer": {"replay": {"file": "events.csv"}}},
    "devices that are not let in yet": {"producer": {"http": {"ingress": {"enabled": True}}}},
    "a variable that stands above a setting": {
        "consumer": {"extraEnv": [{"name": "MAX_RETRIES", "value": "2"}]}
    },
    "no consumer for now": {"consumer": {"replicas": 0}},
    "no producer for now": {"producer": {"replicas": 0}},
    "an external Redis": EXTERNAL,
    "PostgreSQL without a password": nested("database", {"host": "pg", "name": "t", "user": "t"}),
    "a mode of access that nothing is made with": merged(
        POSTGRES, {"consumer": {"replicas": 4, "persistence": {"accessMode": "ReadWriteOncePod"}}}
    ),
    "one of four on PostgreSQL that may be away": merged(
        POSTGRES, {"consumer": {"replicas": 4, "podDisruptionBudget": {"maxUnavailable": 1}}}
    ),
    "a database by its address": nested("database", {"host": "[fd00::1]", "name": "t", "user": "t"}),
    "a variable of libpq that the chart does not set": merged(
        POSTGRES, nested("consumer.extraEnv", [{"name": "PGAPPNAME", "value": "north"}])
    ),
    "one by its address in brackets": merged(EXTERNAL, {"externalRedis": {"host": "[fd00::1]"}}),
    "one by its address": merged(EXTERNAL, {"externalRedis": {"host": "fd00::1"}}),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_values_that_go_together_are_accepted(case: str) -> None:
    """What is close to being refused is not."""
    assert render(ACCEPTED[case]).all
