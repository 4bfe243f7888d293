"""Every switch, on and off: what is made, and what is not."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from chart.rendering import (
    CHART,
    EXTERNAL,
    POSTGRES,
    SETS,
    Pod,
    Rendered,
    Values,
    annotations_of,
    labels_of,
    load_yaml,
    merged,
    nested,
    render,
)

from services.producer.files.ending import NOT_ALL
from services.producer.mapping.keys import build
from services.producer.mapping.mapping_file import read_mapping

pytestmark = pytest.mark.usefixtures("helm")

COMPONENT: Final = "app.kubernetes.io/component"
KEEP: Final = ("helm.sh/resource-policy", "keep")


def _made(rendered: Rendered) -> list[tuple[str, str]]:
    """Give kind and component of everything that is no hook, sorted."""
    return sorted(
        (one["kind"], labels_of(one).get(COMPONENT, ""))
        for one in rendered.all
        if "helm.sh/hook" not in annotations_of(one)
    )


def _difference(
    values: Values, base: Values | None = None
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Give what values add, and what they take away."""
    before, after = _made(render(base)), _made(render(merged(base or {}, values)))
    return set(after) - set(before), set(before) - set(after)


def test_by_default_there_is_a_whole_pipeline() -> None:
    """Producer, consumers, Redis, and what they need; nothing that a plain cluster has no kind for."""
    made = _made(render())
    assert {one for one in made if one[0] in {"Deployment", "StatefulSet", "PersistentVolumeClaim"}} == {
        ("Deployment", "producer"),
        ("Deployment", "consumer"),
        ("StatefulSet", "redis"),
        ("PersistentVolumeClaim", "consumer"),
    }
    kinds = {kind for kind, _ in made}
    assert kinds >= {
        "ServiceAccount",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Secret",
        "ConfigMap",
    }
    assert kinds.isdisjoint(
        {"HorizontalPodAutoscaler", "ScaledObject", "ServiceMonitor", "PodMonitor", "Job"}
    )


def test_helm_test_has_a_pod_and_leaves_nothing() -> None:
    """As a hook, which is removed when it has passed. It publishes nothing, and has no password for that."""
    (pod,) = (pod for pod in render().pods if pod.kind == "Pod")
    assert [one["command"][:2] for one in pod.containers] == [["telemetry", "status"], ["telemetry", "audit"]]
    assert all("telemetry-consumer" in one["image"] for one in pod.containers)
    assert "producer-password" not in str(pod.spec)
    (pod,) = (pod for pod in render(SETS["no-producer"]).pods if pod.kind == "Pod")
    assert [one["command"][:2] for one in pod.containers] == [["telemetry", "status"]]
    hooks = [one for one in render().all if annotations_of(one).get("helm.sh/hook") == "test"]
    assert {one["kind"] for one in hooks} & {"Pod", "Job"}
    for one in hooks:
        policies = annotations_of(one)["helm.sh/hook-delete-policy"].split(",")
        assert {"before-hook-creation", "hook-succeeded"} <= set(policies)


def test_without_the_producer_nothing_of_it_is_left() -> None:
    """And the rest stays."""
    added, gone = _difference(nested("producer.enabled", False))
    assert added == set()
    assert ("Deployment", "producer") in gone
    assert {component for _, component in gone} == {"producer"}
    assert not [one for one in _made(render(SETS["no-producer"])) if one[1] == "producer"]


def test_a_replay_is_a_job_in_place_of_a_deployment() -> None:
    """It goes on after a failure, and nothing starts it again when it is done."""
    rendered = render(SETS["replay-configmap"])
    assert rendered.of("Deployment", "producer") == []
    job = rendered.one("Job", "producer")["spec"]
    assert (job["backoffLimit"], job["ttlSecondsAfterFinished"]) == (6, 600)
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # a failure policy asks for it
    # The first that fits holds: a producer that a drained node stops may end with 3 as well.
    drained, unusable = job["podFailurePolicy"]["rules"]
    assert (unusable["action"], unusable["onExitCodes"]["values"]) == ("FailJob", [2, NOT_ALL])
    assert unusable["onExitCodes"]["containerName"] == rendered.pod("producer").main["name"]
    assert (drained["action"], drained["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])
    assert "ttlSecondsAfterFinished" not in render(SETS["replay-volume"]).one("Job", "producer")["spec"]
    assert render(SETS["replay-volume"]).one("Job", "producer")["spec"]["backoffLimit"] == 0
    assert rendered.of("PodDisruptionBudget", "producer") == []


def test_a_replay_reads_its_file_from_where_it_is() -> None:
    """A ConfigMap, or a claim."""
    for name, key, expected in (
        ("replay-configmap", "configMap", {"name": "readings"}),
        ("replay-volume", "persistentVolumeClaim", {"claimName": "readings"}),
    ):
        volumes = render(SETS[name]).pod("producer").spec["volumes"]
        (found,) = (one[key] for one in volumes if expected.items() <= (one.get(key) or {}).items())
        assert found.get("readOnly", True) is True


def test_a_replay_reads_a_mapping_from_the_values_or_a_config_map() -> None:
    """Of the values the chart makes one, and another text is another Job; without a replay there is none."""
    values = SETS["replay-mapping"]
    rendered = render(values)
    arguments = rendered.pod("producer").main["args"]
    text = rendered.file("producer", arguments[arguments.index("--mapping") + 1])
    assert text is not None
    errors: list[str] = []
    said = read_mapping(text, "mapping", errors)
    assert build(said, errors).times.zone == "Europe/Berlin"
    assert errors == []
    assert arguments[-2:] == ["--max-rejected", "20"]
    name = rendered.one("Job", "producer")["metadata"]["name"]
    assert render(values).one("Job", "producer")["metadata"]["name"] == name
    other = nested("producer.replay.mapping", "decimal = '.'\n")
    assert render(merged(values, other)).one("Job", "producer")["metadata"]["name"] != name
    assert "replay-mapping" not in render(nested("producer.replay.mapping", "decimal = '.'\n")).text

    named = {"mapping": "", "mappingConfigMap": "{{ .Release.Name }}-m", "mappingKey": "a.toml"}
    rendered = render(merged(values, {"producer": {"replay": named}}))
    assert [one for one in rendered.of("ConfigMap", "producer") if "mapping" in one["metadata"]["name"]] == []
    volumes = rendered.pod("producer").spec["volumes"]
    (volume,) = (one["configMap"] for one in volumes if one["name"] == "mapping")
    assert (volume["name"], volume["items"]) == ("demo-m", [{"key": "a.toml", "path": "mapping.toml"}])
    assert "--mapping" not in render(SETS["replay-volume"]).pod("producer").main["args"]
    assert "--max-rejected" not in render(SETS["replay-volume"]).pod("producer").main["args"]


def test_a_replay_takes_several_files_in_their_order() -> None:
    """The one of `file` first; each is below the top of what is mounted."""
    several = nested("producer.replay.files", ["2026/*.csv", "."])
    arguments = render(merged(SETS["replay-volume"], several)).pod("producer").main["args"]
    names = ["/replay/2026/november.jsonl", "/replay/2026/*.csv", "/replay/."]
    assert arguments == [*(part for name in names for part in ("--from", name)), "--resume"]
    alone = merged(SETS["replay-volume"], several, nested("producer.replay.file", ""))
    arguments = render(alone).pod("producer").main["args"]
    assert arguments[:4] == ["--from", "/replay/2026/*.csv", "--from", "/replay/."]


def test_an_external_redis_stands_for_the_subchart() -> None:
    """Nothing of the subchart is left."""
    added, gone = _difference(EXTERNAL)
    assert added == set()
    assert {component for _, component in gone} == {"redis"}
    assert ("StatefulSet", "redis") in gone


def test_passwords_that_are_there_are_not_made() -> None:
    """And are read by the names of their keys."""
    rendered = render(SETS["existing-secret"])
    assert rendered.of("Secret", "redis") == []
    assert "telemetry-redis" in rendered.text
    assert rendered.text.count("consumer-password") == 0


def test_a_password_is_made_for_each_user() -> None:
    """Long, and no two alike."""
    secret = render().one("Secret")
    data = {**(secret.get("data") or {}), **(secret.get("stringData") or {})}
    assert data.keys() == {f"{user}-password" for user in ("producer", "consumer", "operator", "observer")}
    assert len(set(data.values())) == 4
    assert all(len(text) >= 24 for text in data.values())


@pytest.mark.parametrize("mode", ["hpa", "keda"])
def test_replicas_are_left_to_an_autoscaler(mode: str) -> None:
    """An upgrade would otherwise set them back."""
    number = merged(SETS[mode], {"consumer": {"replicas": 3}})
    for values in (SETS[mode], number):
        assert "replicas" not in render(values).one("Deployment", "consumer")["spec"]


def test_replicas_are_left_to_kubectl_scale_unless_a_value_says_how_many() -> None:
    """Helm 4 would refuse to change what `kubectl scale` has set, and Helm 3 would undo it."""
    for component in ("producer", "consumer"):
        assert "replicas" not in render().one("Deployment", component)["spec"]
        three = render(nested(f"{component}.replicas", 3))
        assert three.one("Deployment", component)["spec"]["replicas"] == 3


def test_no_replicas_is_a_number_of_replicas() -> None:
    """Zero is not left out."""
    rendered = render({"consumer": {"replicas": 0}, "producer": {"replicas": 0}})
    assert [one["spec"]["replicas"] for one in rendered.of("Deployment")] == [0, 0]


def test_an_autoscaler_by_cpu_scales_the_consumers() -> None:
    """Between its bounds, at its aim."""
    assert _difference(nested("consumer.autoscaling.enabled", True))[0] == {
        ("HorizontalPodAutoscaler", "consumer")
    }
    rendered = render(SETS["hpa"])
    spec = rendered.one("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": rendered.one("Deployment", "consumer")["metadata"]["name"],
    }
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 6)
    (metric,) = spec["metrics"]
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    assert spec["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 60}}


def test_keda_scales_on_what_waits_and_on_what_is_pending() -> None:
    """By two triggers: one with lagCount does not look at what is pending."""
    rendered = render(SETS["keda"])
    spec = rendered.one("ScaledObject")["spec"]
    assert spec["scaleTargetRef"]["name"] == rendered.one("Deployment", "consumer")["metadata"]["name"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 6)
    lag, pending = (one["metadata"] for one in spec["triggers"])
    assert {one["type"] for one in spec["triggers"]} == {"redis-streams"}
    assert (lag["lagCount"], "pendingEntriesCount" in lag) == ("1000", False)
    assert (pending["pendingEntriesCount"], "lagCount" in pending) == ("2000", False)
    packed = render({**SETS["keda"], "producer": {"settings": {"eventsPerEntry": 100}}}).one("ScaledObject")[
        "spec"
    ]
    lag_packed, pending_packed = (one["metadata"] for one in packed["triggers"])
    assert (lag_packed["lagCount"], pending_packed["pendingEntriesCount"]) == ("10", "20")
    for one in (lag, pending):
        assert (one["stream"], one["consumerGroup"]) == ("telemetry_stream", "telemetry_consumers")
        assert all(isinstance(text, str) for text in one.values())
        assert one.get("enableTLS", "false") == "false"
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 1}
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == {
        "scaleUp": {"stabilizationWindowSeconds": 0}
    }


@pytest.mark.parametrize("name", ["keda", "external-redis-tls", "existing-secret"])
def test_keda_logs_in_as_the_observer(name: str) -> None:
    """By a TriggerAuthentication, with the password from the Secret that has it."""
    rendered = render(SETS[name])
    authentication = rendered.one("TriggerAuthentication")
    for trigger in rendered.one("ScaledObject")["spec"]["triggers"]:
        assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
        assert trigger["metadata"].keys().isdisjoint({"username", "password"})
    targets = {one["parameter"]: one for one in authentication["spec"]["secretTargetRef"]}
    assert targets["password"]["key"] == ("observer-password" if name == "keda" else "v")
    secret = rendered.named("Secret", targets["username"]["name"])
    assert secret["stringData"][targets["username"]["key"]] == "observer"


def test_keda_is_told_of_an_authority_without_a_password() -> None:
    """And of no user where there is no password."""
    tls = {"enabled": True, "caSecret": "ca"}
    rendered = render(
        merged(EXTERNAL, {"externalRedis": {"tls": tls}}, nested("consumer.keda.enabled", True))
    )
    (target,) = rendered.one("TriggerAuthentication")["spec"]["secretTargetRef"]
    assert target == {"parameter": "ca", "name": "ca", "key": "ca.crt"}
    assert all("authenticationRef" in one for one in rendered.one("ScaledObject")["spec"]["triggers"])
    assert rendered.of("Secret") == []


def test_a_certificate_of_ours_is_a_file_of_each_pod_and_told_to_keda() -> None:
    """With its key, for a Redis that asks for one."""
    tls = {"enabled": True, "certSecret": "ours", "certKey": "c.pem"}
    rendered = render(
        merged(EXTERNAL, {"externalRedis": {"tls": tls}}, nested("consumer.keda.enabled", True))
    )
    for pod in rendered.lasting_pods:
        (volume,) = (one for one in pod.spec["volumes"] if one["name"] == "redis-cert")
        files = {one["key"]: one["path"] for one in volume["secret"]["items"]}
        assert (volume["secret"]["secretName"], files) == ("ours", {"c.pem": "tls.crt", "tls.key": "tls.key"})
        environment = rendered.environment(pod.labels["app.kubernetes.io/component"])
        (mount,) = (one for one in pod.spec["containers"][0]["volumeMounts"] if one["name"] == "redis-cert")
        assert environment["REDIS_CERT_FILE"] == f"{mount['mountPath']}/tls.crt"
        assert environment["REDIS_KEY_FILE"] == f"{mount['mountPath']}/tls.key"
    targets = rendered.one("TriggerAuthentication")["spec"]["secretTargetRef"]
    assert {(one["parameter"], one["name"], one["key"]) for one in targets} == {
        ("cert", "ours", "c.pem"),
        ("key", "ours", "tls.key"),
    }


def test_keda_asks_the_server_by_its_whole_name() -> None:
    """It runs in another namespace."""
    metadata = render(SETS["keda"]).one("ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert metadata["address"].startswith("demo-redis.telemetry")
    assert metadata["address"].endswith(":6379")


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("redis", "redis.telemetry.svc:6379"),
        ("redis.data", "redis.data:6379"),
        ("redis.example.com", "redis.example.com:6379"),
        ("192.0.2.1", "192.0.2.1:6379"),
    ],
)
def test_keda_finds_an_external_redis_that_is_a_service_beside_the_release(host: str, asked: str) -> None:
    """Its short name is known in the namespace of the release, and nowhere else; other names stay."""
    values = merged(EXTERNAL, {"externalRedis": {"host": host}}, nested("consumer.keda.enabled", True))
    rendered = render(values)
    assert rendered.environment("consumer")["REDIS_HOST"] == host
    for trigger in rendered.one("ScaledObject")["spec"]["triggers"]:
        assert trigger["metadata"]["address"] == asked


@pytest.mark.parametrize("host", ["fd00::1", "[fd00::1]"])
def test_an_address_of_version_6_is_written_as_each_wants_it(host: str) -> None:
    """The services take it without brackets, and KEDA with them."""
    rendered = render(
        merged(EXTERNAL, {"externalRedis": {"host": host}}, nested("consumer.keda.enabled", True))
    )
    for component in ("producer", "consumer"):
        assert rendered.environment(component)["REDIS_HOST"] == "fd00::1"
    for trigger in rendered.one("ScaledObject")["spec"]["triggers"]:
        assert trigger["metadata"]["address"] == "[fd00::1]:6379"


def test_keda_speaks_tls_where_the_services_do() -> None:
    """With the certificate authority that they have."""
    rendered = render(SETS["external-redis-tls"])
    for trigger in rendered.one("ScaledObject")["spec"]["triggers"]:
        assert trigger["metadata"]["address"] == "redis.example.com:6380"
        assert trigger["metadata"]["enableTLS"] == "true"
    parameters = {
        one["parameter"]: (one["name"], one["key"])
        for one in rendered.one("TriggerAuthentication")["spec"]["secretTargetRef"]
    }
    assert parameters["ca"] == ("telemetry-redis-ca", "ca.pem")


@pytest.mark.parametrize(
    ("kind", "switch"), [("ServiceMonitor", "serviceMonitor"), ("PodMonitor", "podMonitor")]
)
def test_a_monitor_is_made_for_each_service(kind: str, switch: str) -> None:
    """With the labels that one's own Prometheus selects by; none for a producer that is off."""
    added, gone = _difference(nested(f"{switch}.enabled", True))
    assert gone == set()
    assert {one for one in added if one[0] == kind} == {(kind, "producer"), (kind, "consumer")}
    without = render(merged(nested(f"{switch}.enabled", True), {"producer": {"enabled": False}}))
    assert [labels_of(one)[COMPONENT] for one in without.of(kind)] == ["consumer"]


def test_monitors_scrape_as_they_are_told() -> None:
    """Interval, timeout, labels and relabelings."""
    for monitor in render(SETS["servicemonitor"]).of("ServiceMonitor"):
        assert labels_of(monitor)["release"] == "kube-prometheus-stack"
        (endpoint,) = monitor["spec"]["endpoints"]
        assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("30s", "10s")
        assert endpoint["relabelings"][1]["targetLabel"] == "node"
        assert endpoint["metricRelabelings"][0]["action"] == "drop"
    for monitor in render(SETS["podmonitor"]).of("PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("15s", "5s")


def test_rules_and_dashboards_come_from_their_files() -> None:
    """One ConfigMap a dashboard; rules as they stand in files/rules."""
    rendered = render(SETS["prometheusrule-dashboards"])
    boards = {file.name: file.read_text(encoding="utf-8") for file in CHART.glob("files/dashboards/*.json")}
    found: dict[str, str] = {}
    for one in rendered.of("ConfigMap"):
        if "grafana_dashboard" in labels_of(one):
            assert labels_of(one)["grafana_dashboard"] == "1"
            assert annotations_of(one)["grafana_folder"] == "Telemetry"
            found |= one["data"]
    assert {name: text.strip() for name, text in found.items()} == {
        name: text.strip() for name, text in boards.items()
    }
    groups: list[Any] = []
    for file in sorted(CHART.glob("files/rules/*.y*ml")):
        (rules,) = load_yaml(file.read_text(encoding="utf-8"))
        groups += rules["groups"]
    made = [group for one in rendered.of("PrometheusRule") for group in one["spec"]["groups"]]
    assert made == groups
    for one in rendered.of("PrometheusRule"):
        assert labels_of(one)["release"] == "kube-prometheus-stack"
    assert render().of("PrometheusRule") == []


def test_the_dashboard_of_the_data_comes_with_its_data_source() -> None:
    """Beside the others, and as it is in its file but for the data source that is chosen from the start."""
    values = merged(POSTGRES, nested("dashboards", {"enabled": True, "databaseUid": "plant-db"}))
    found = {
        name: text
        for one in render(values).of("ConfigMap")
        if "grafana_dashboard" in labels_of(one)
        for name, text in one["data"].items()
    }
    assert set(found) == {"data.json", *(file.name for file in CHART.glob("files/dashboards/*.json"))}
    board = json.loads(found["data.json"])
    (database,) = (one for one in board["templating"]["list"] if one["name"] == "database")
    assert database.pop("current") == {"text": "plant-db", "value": "plant-db"}
    expected = json.loads((CHART / "files" / "data-dashboards" / "data.json").read_text(encoding="utf-8"))
    for one in expected["templating"]["list"]:
        if one["name"] == "database":
            one.pop("current", None)
    assert board == expected


def test_every_series_has_its_release() -> None:
    """By it and the namespace, which the operator adds, rules and dashboards tell pipelines apart."""
    for switch, kind, endpoints in (
        ("serviceMonitor", "ServiceMonitor", "endpoints"),
        ("podMonitor", "PodMonitor", "podMetricsEndpoints"),
    ):
        monitors = render(nested(f"{switch}.enabled", True), release="north").of(kind)
        assert len(monitors) == 2
        for monitor in monitors:
            (endpoint,) = monitor["spec"][endpoints]
            assert endpoint["relabelings"] == [{"targetLabel": "release", "replacement": "north"}]


def test_alerts_lead_to_the_runbooks_of_ones_own() -> None:
    """And carry labels of one's own, and some are left out."""
    rules = [
        rule
        for one in render(SETS["audit"]).of("PrometheusRule")
        for group in one["spec"]["groups"]
        for rule in group["rules"]
    ]
    (file,) = load_yaml((CHART / "files" / "rules" / "alerts.yaml").read_text(encoding="utf-8"))
    written = {rule["alert"]: rule for group in file["groups"] for rule in group["rules"]}
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
    assert alerts.keys() == written.keys() - {"TelemetryNothingPublished"}
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example.com/runbooks/{name}.md"
        assert rule["labels"] == {**written[name]["labels"], "team": "sensors"}
        assert rule["annotations"]["description"] == written[name]["annotations"]["description"]
        assert rule["expr"] == written[name]["expr"]
    assert all("labels" not in rule for rule in rules if "record" in rule)


def test_the_audit_is_a_cronjob_that_is_suspended_unless_it_is_asked_for() -> None:
    """With its own network policy, and one at a time; a person can start a Job from it in any case."""
    assert _difference(nested("audit.enabled", True)) == (set(), set())
    assert {kind for kind, component in _made(render()) if component == "audit"} == {
        "CronJob",
        "NetworkPolicy",
    }
    assert render().one("CronJob", "audit")["spec"]["suspend"] is True
    job = render(SETS["audit"]).one("CronJob", "audit")
    assert job["spec"]["suspend"] is False
    assert job["spec"]["startingDeadlineSeconds"] > 0
    assert job["spec"]["schedule"] == "7 * * * *"
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert (job["spec"]["successfulJobsHistoryLimit"], job["spec"]["failedJobsHistoryLimit"]) == (0, 3)
    assert job["spec"]["jobTemplate"]["metadata"]["labels"][COMPONENT] == "audit"  # by it they are found
    one = job["spec"]["jobTemplate"]["spec"]
    assert (one["activeDeadlineSeconds"], one["backoffLimit"]) == (300, 3)
    assert one["template"]["spec"]["restartPolicy"] == "Never"
    missing, drained = one["podFailurePolicy"]["rules"]  # whatever else ends a pod is tried again
    assert (missing["action"], missing["onExitCodes"]["values"]) == ("FailJob", [1])
    assert (drained["action"], drained["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])


def test_where_days_are_dropped_the_audit_runs_and_drops_them() -> None:
    """Nothing goes that no audit has proven, so it is not suspended; and no consumer audits beside it."""
    assert "--retain" not in render(SETS["audit"]).pod("audit").main["command"]
    for days, is_dropped in ((0, False), (30, True), (None, False)):
        rendered = render(nested("consumer.settings.retainDays", days))
        assert rendered.one("CronJob", "audit")["spec"]["suspend"] is not is_dropped
        assert ("--retain" in rendered.pod("audit").main["command"]) is is_dropped
        assert rendered.environment("consumer").get("RETAIN_DAYS") == (None if days is None else str(days))
        assert rendered.environment("consumer")["AUDIT_INTERVAL_S"] == "0"


def test_the_audit_runs_where_the_database_is_as_a_consumer() -> None:
    """On the consumers' node, with their volume, settings and user, and with no other password."""
    for values, user in (
        (SETS["audit"], "consumer"),
        (merged(EXTERNAL, nested("audit.enabled", True)), None),
    ):
        rendered = render(values)
        pod, consumer = rendered.pod("audit"), rendered.pod("consumer")
        (term,) = pod.spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert term["labelSelector"]["matchLabels"].items() <= consumer.labels.items()
        # All that open the database look for each other: the first of them needs no consumer.
        (others,) = term["labelSelector"]["matchExpressions"]
        assert {"consumer", "audit", "test"} == set(others["values"])
        (same,) = consumer.spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert same == term
        claims = [
            {
                one["persistentVolumeClaim"]["claimName"]
                for one in each.spec["volumes"]
                if "persistentVolumeClaim" in one
            }
            for each in (pod, consumer)
        ]
        assert claims[0] == claims[1] != set()
        assert pod.main["command"] == ["telemetry", "audit", "--record"]
        assert pod.main["image"] == consumer.main["image"]
        found = rendered.environment("audit")
        assert found.get("REDIS_USERNAME") == user
        assert found["STREAM_NAME"] == rendered.environment("consumer")["STREAM_NAME"]
        keys = [
            item["key"] for one in pod.spec["volumes"] if "secret" in one for item in one["secret"]["items"]
        ]
        assert keys == (["consumer-password"] if user else [])


def test_a_budget_for_producers_is_there_however_many_there_are() -> None:
    """`kubectl scale` makes more of them, and one may always be away."""
    assert render().one("PodDisruptionBudget", "producer")["spec"]["maxUnavailable"] == 1
    budget = render(SETS["rolling"]).one("PodDisruptionBudget", "producer")
    assert budget["spec"]["maxUnavailable"] == 2
    off = {"producer": {"replicas": 3, "podDisruptionBudget": {"enabled": False}}}
    assert render(off).of("PodDisruptionBudget", "producer") == []


def test_no_budget_stops_a_drain(rendered: Rendered) -> None:
    """All that share one node may be away at once; of what is spread, some: successors go elsewhere."""
    for component in ("consumer", "redis"):
        for budget in rendered.of("PodDisruptionBudget", component):
            assert "minAvailable" not in budget["spec"]
            spread = component == "consumer" and _is_on_postgres(rendered)
            assert budget["spec"]["maxUnavailable"] in ({1, 2} if spread else {"100%", 1})


def _is_on_postgres(rendered: Rendered) -> bool:
    return "DATABASE_URL" in rendered.environment("consumer")


@pytest.mark.parametrize("component", ["consumer", "redis"])
def test_a_budget_can_be_left_out(component: str) -> None:
    """By its switch."""
    assert len(render().of("PodDisruptionBudget", component)) == 1
    off = nested(f"{component}.podDisruptionBudget.enabled", False)
    assert render(off).of("PodDisruptionBudget", component) == []


def test_a_service_account_is_made_or_named() -> None:
    """Without either, it is the namespace's own."""
    assert _accounts(render()) == {"demo"}
    assert _accounts(render(SETS["openshift"])) == {"telemetry"}
    assert render(SETS["openshift"]).of("ServiceAccount") == []
    both = render({"serviceAccount": {"name": "mine"}})
    assert both.one("ServiceAccount")["metadata"]["name"] == "mine"
    assert _accounts(both) == {"mine"}
    assert _accounts(render({"serviceAccount": {"create": False}})) == {"default"}


def _accounts(rendered: Rendered) -> set[str]:
    """Give the accounts of all pods but that of Redis, which has none of its own."""
    return {pod.spec["serviceAccountName"] for pod in rendered.pods if pod.name != "demo-redis"}


def test_the_policies_of_the_network_can_be_left_out() -> None:
    """Those of the parent and those of Redis."""
    assert render(SETS["network-policy-off"]).of("NetworkPolicy") == []
    assert len(render().of("NetworkPolicy")) >= 2


def test_the_volume_of_the_consumers_is_what_is_asked_for() -> None:
    """Size, access mode, storage class; a claim that is there already is used as it is."""
    claim = render().one("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "8Gi"
    assert "storageClassName" not in claim["spec"]
    assert KEEP in annotations_of(claim).items()
    own = render(SETS["storage"]).one("PersistentVolumeClaim")
    assert own["spec"]["storageClassName"] == ""
    assert own["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert KEEP not in annotations_of(own).items()
    assert annotations_of(own)["backup"] == "daily"
    existing = render(SETS["existing-claim"])
    assert existing.of("PersistentVolumeClaim") == []
    assert _claims(existing) == ["telemetry"]
    assert _claims(render()) == [claim["metadata"]["name"]]


def _claims(rendered: Rendered) -> list[str]:
    volumes = rendered.pod("consumer").spec["volumes"]
    return [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]


def test_the_volume_of_redis_is_what_is_asked_for() -> None:
    """It is kept or goes with the release, by a policy of the StatefulSet."""
    rendered = render()
    (template,) = rendered.one("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert template["spec"]["resources"]["requests"]["storage"] == "8Gi"
    assert "storageClassName" not in template["spec"]
    assert _retention(rendered) == "Retain"
    assert _retention(render(SETS["storage"])) == "Delete"
    (shared,) = render(SETS["storage"]).one("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert shared["spec"]["storageClassName"] == "standard"
    (own,) = render(SETS["existing-claim"]).one("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert (own["spec"]["storageClassName"], own["spec"]["resources"]["requests"]["storage"]) == (
        "fast",
        "20Gi",
    )


def _retention(rendered: Rendered) -> str:
    policy = rendered.one("StatefulSet")["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return str(policy.get("whenDeleted", "Retain"))


def test_consumers_share_one_node(rendered: Rendered) -> None:
    """A required affinity to each other, beside whatever affinity one adds; none with PostgreSQL."""
    pod = rendered.pod("consumer")
    if _is_on_postgres(rendered):
        assert "podAffinity" not in (pod.spec.get("affinity") or {})
        return
    terms = pod.spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    hosts = [one for one in terms if one["topologyKey"] == "kubernetes.io/hostname"]
    assert any(one["labelSelector"]["matchLabels"].items() <= pod.labels.items() for one in hosts)


def test_an_affinity_of_ones_own_stays_beside_that_of_the_chart() -> None:
    """Of the nodes, and of the pods."""
    affinity = render(SETS["extras"]).pod("consumer").spec["affinity"]
    assert affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert affinity["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", "labelSelector": {}}]
    }
    both = render({"consumer": {"affinity": {"podAffinity": required}}}).pod("consumer").spec["affinity"]
    assert len(both["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]) == 2


def test_with_postgres_there_is_no_volume_and_consumers_are_spread() -> None:
    """One value, as the Secret says all the rest; nothing else comes or goes."""
    added, gone = _difference(POSTGRES)
    assert (added, gone) == (set(), {("PersistentVolumeClaim", "consumer")})
    rendered = render(POSTGRES)
    for pod in rendered.pods:
        assert "persistentVolumeClaim" not in str(pod.spec["volumes"]), pod.name
        if pod.labels[COMPONENT] in {"consumer", "audit", "test"}:
            assert not pod.spec.get("affinity"), pod.name
            assert "/data" not in {one["mountPath"] for one in pod.main["volumeMounts"]}
    deployment = rendered.one("Deployment", "consumer")
    assert deployment["spec"]["strategy"] == {"type": "RollingUpdate"}
    assert rendered.one("PodDisruptionBudget", "consumer")["spec"]["maxUnavailable"] == 1
    (spread,) = rendered.pod("consumer").spec["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    # A node that can take no pod must not keep one from running elsewhere.
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert spread["matchLabelKeys"] == ["pod-template-hash"]
    assert spread["labelSelector"]["matchLabels"].items() <= rendered.pod("consumer").labels.items()


def test_of_several_hosts_the_one_that_takes_writes_is_used() -> None:
    """As libpq does it; of one host nothing is asked."""
    several = render(merged(POSTGRES, nested("database.host", "pg-1,pg-2"))).environment("consumer")
    assert (several["PGHOST"], several["PGTARGETSESSIONATTRS"]) == ("pg-1,pg-2", "read-write")
    assert "PGTARGETSESSIONATTRS" not in render(POSTGRES).environment("consumer")


def test_what_one_asks_for_stands_above_what_postgres_brings() -> None:
    """Strategy, budget, spread, and an affinity of one's own, to which nothing is added."""
    rendered = render(SETS["postgres-tls"])
    assert rendered.one("Deployment", "consumer")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert rendered.one("PodDisruptionBudget", "consumer")["spec"]["maxUnavailable"] == 2
    (spread,) = rendered.pod("consumer").spec["topologySpreadConstraints"]
    assert spread["topologyKey"] == "topology.kubernetes.io/zone"
    mine: dict[str, Any] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    affine = render(merged(POSTGRES, {"consumer": {"affinity": mine}}))
    assert affine.pod("consumer").spec["affinity"] == mine
    recreated = render(merged(POSTGRES, {"consumer": {"strategy": {"type": "Recreate"}}}))
    assert recreated.one("Deployment", "consumer")["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("mode", ["hpa", "keda"])
def test_consumers_on_postgres_are_scaled_as_any(mode: str) -> None:
    """The autoscaler's objects are the same with both stores."""
    kinds = ("ScaledObject", "HorizontalPodAutoscaler", "TriggerAuthentication")
    made = [
        [one for one in render(values).all if one["kind"] in kinds]
        for values in (SETS[mode], merged(SETS[mode], POSTGRES))
    ]
    assert made[0] == made[1] != []
    assert "replicas" not in render(merged(SETS[mode], POSTGRES)).one("Deployment", "consumer")["spec"]


@pytest.mark.parametrize("component", ["consumer", "audit", "test"])
@pytest.mark.parametrize("name", ["postgres", "postgres-tls", "postgres-crossplane"])
def test_all_that_open_the_database_find_it_in_the_same_way(name: str, component: str) -> None:
    """The same variables from the same Secret, and the same files; the producer knows of none."""
    rendered = render(SETS[name])
    consumer = rendered.pod("consumer")
    expected = [one for one in consumer.main["env"] if one["name"] in {"PGHOST", "PGUSER", "PGDATABASE"}]
    (pod,) = (one for one in rendered.pods if one.labels[COMPONENT] == component)
    for container in pod.containers:
        found = [one for one in container.get("env") or [] if one in expected]
        assert found == expected
        for kind in ("password", "ca", "cert"):
            (of_consumer, of_pod) = (
                [one for one in mounts if one["name"] == f"database-{kind}"]
                for mounts in (consumer.main["volumeMounts"], container["volumeMounts"])
            )
            assert of_pod == of_consumer
    volumes = [
        [one for one in each.spec["volumes"] if one["name"].startswith("database-")]
        for each in (pod, consumer)
    ]
    assert volumes[0] == volumes[1] != []
    producer = rendered.environment("producer")
    assert not [one for one in producer if one.startswith(("PG", "DATABASE_"))]
    assert "database" not in str(rendered.pod("producer").spec["volumes"])


def test_strategies_are_those_that_are_asked_for() -> None:
    """Recreate for the consumers, unless one has room for both."""
    rendered = render()
    assert rendered.one("Deployment", "consumer")["spec"]["strategy"] == {"type": "Recreate"}
    assert rendered.one("Deployment", "producer")["spec"]["strategy"] == {"type": "RollingUpdate"}
    rolling = render(SETS["rolling"])
    assert rolling.one("Deployment", "consumer")["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


DIGEST: Final = "sha256:" + "0123456789abcdef" * 4

IMAGES: Final[dict[str, tuple[Values, str]]] = {
    "repository and version": ({}, "telemetry-consumer:0.1.0"),
    "a tag": ({"consumer": {"image": {"tag": "1.2"}}}, "telemetry-consumer:1.2"),
    "a digest": ({"consumer": {"image": {"digest": DIGEST}}}, f"telemetry-consumer@{DIGEST}"),
    "a digest stands for the tag": (
        {"consumer": {"image": {"tag": "1.2", "digest": DIGEST}}},
        f"telemetry-consumer@{DIGEST}",
    ),
    "a tag with its digest": (
        {"consumer": {"image": {"tag": f"1.2@{DIGEST}"}}},
        f"telemetry-consumer:1.2@{DIGEST}",
    ),
    "a registry": (
        {"consumer": {"image": {"registry": "registry.example.com:5000"}}},
        "registry.example.com:5000/telemetry-consumer:0.1.0",
    ),
    "the registry of all": (
        {"global": {"imageRegistry": "registry.example.com/mirror"}},
        "registry.example.com/mirror/telemetry-consumer:0.1.0",
    ),
    "a repository with a path": (
        {"consumer": {"image": {"repository": "registry.example.com/a/consumer", "tag": "1"}}},
        "registry.example.com/a/consumer:1",
    ),
}


@pytest.mark.parametrize("case", IMAGES)
def test_an_image_is_named_in_every_form(case: str) -> None:
    """Registry, repository, tag and digest."""
    values, expected = IMAGES[case]
    assert render(values).pod("consumer").main["image"] == expected


def test_one_registry_and_its_secrets_are_for_every_image() -> None:
    """Of Redis and of `helm test` too."""
    for pod in render(SETS["images"]).pods:
        assert pod.spec["imagePullSecrets"] == [{"name": "registry"}, {"name": "second-registry"}], pod.name
        for container in pod.containers:
            assert container["image"].startswith(
                ("registry.example.com:5000/mirror/", "other.example.com/")
            ), pod.name
    assert all("imagePullSecrets" not in pod.spec for pod in render().pods)


def test_valkey_stands_for_redis() -> None:
    """By its image; how it is configured is the same."""
    assert render(SETS["valkey"]).pod("redis").main["image"] == "valkey/valkey:8.1"
    text = render(SETS["valkey"]).text
    assert "appendfsync always" in text
    assert "maxmemory 1gb" in text
    assert "latency-monitor-threshold 100" in text
    plain = render().text
    assert "appendfsync everysec" in plain
    assert "maxmemory-policy noeviction" in plain
    assert "appendonly yes" in plain


EXTRA: Final[dict[str, Callable[[Pod], bool]]] = {
    "extraVolumes": lambda pod: "scratch" in {one["name"] for one in pod.spec["volumes"]},
    "extraVolumeMounts": lambda pod: "/scratch" in {one["mountPath"] for one in pod.main["volumeMounts"]},
    "extraContainers": lambda pod: "beside" in {one["name"] for one in pod.spec["containers"]},
    "initContainers": lambda pod: "before" in {one["name"] for one in pod.spec["initContainers"]},
    "extraEnv": lambda pod: "HOST_IP" in {one["name"] for one in pod.main["env"]},
    "extraEnvFrom": lambda pod: (
        "more-settings" in {(one.get("configMapRef") or {}).get("name") for one in pod.main["envFrom"]}
    ),
    "podLabels": lambda pod: pod.labels["tier"] == "ingest",
    "podAnnotations": lambda pod: pod.annotations["example.com/note"] == "yes",
    "nodeSelector": lambda pod: pod.spec["nodeSelector"] == {"kubernetes.io/os": "linux"},
    "tolerations": lambda pod: pod.spec["tolerations"][0]["value"] == "telemetry",
    "priorityClassName": lambda pod: pod.spec["priorityClassName"] == "telemetry",
    "topologySpreadConstraints": lambda pod: (
        pod.spec["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"][COMPONENT]
        == pod.labels[COMPONENT]
    ),
    "resources": lambda pod: pod.main["resources"]["limits"]["memory"] == "256Mi",
}


@pytest.mark.parametrize("service", ["producer", "consumer"])
@pytest.mark.parametrize("key", EXTRA)
def test_what_one_adds_to_a_pod_is_there(key: str, service: str) -> None:
    """And nothing of it in a pod that was not asked for it."""
    assert EXTRA[key](render(SETS["extras"]).pod(service))
    plain = render().pod(service)
    kept = key in {"extraEnvFrom", "extraVolumeMounts", "extraVolumes", "extraEnv", "resources"}
    assert kept or key.endswith(("Labels", "Annotations", "Containers")) or key not in plain.spec


@pytest.mark.parametrize("values", [SETS["extras"], merged(SETS["extras"], SETS["replay-volume"])])
def test_what_one_adds_to_the_producer_is_in_a_replay_too(values: Values) -> None:
    """Both modes have one pod."""
    pod = render(values).pod("producer")
    assert all(check(pod) for key, check in EXTRA.items() if key != "topologySpreadConstraints")


def test_what_one_adds_to_redis_is_there() -> None:
    """In its pod, and on its Service."""
    rendered = render(SETS["extras"])
    pod = rendered.pod("redis")
    assert pod.labels["tier"] == "store"
    assert pod.annotations["example.com/note"] == "yes"
    assert pod.spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert pod.spec["tolerations"] == [{"operator": "Exists"}]
    assert "nodeAffinity" in pod.spec["affinity"]
    assert pod.spec["priorityClassName"] == "telemetry"
    services = rendered.of("Service", "redis")
    assert "yes" in {annotations_of(one).get("example.com/note") for one in services}


def test_more_objects_are_maps_or_text_and_both_are_templates() -> None:
    """With the values of the release in them."""
    rendered = render(SETS["extras"])
    assert rendered.named("ConfigMap", "demo-extra")["data"] == {"stream": "telemetry_stream"}
    assert rendered.named("ConfigMap", "demo-extra-text")["data"] == {"seconds": "60"}


@pytest.mark.parametrize("component", ["producer", "consumer", "redis"])
@pytest.mark.parametrize("kind", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_are_there_can_be_changed_and_left_out(kind: str, component: str) -> None:
    """One field, or all of it."""
    probe = render().pod(component).main[kind]
    slower = render(nested(f"{component}.{kind}.periodSeconds", 77)).pod(component).main[kind]
    assert slower == {**probe, "periodSeconds": 77}
    assert kind not in render(nested(f"{component}.{kind}", None)).pod(component).main


def test_grace_periods_are_those_of_the_values() -> None:
    """Of all three."""
    rendered = render(merged(SETS["settings"], {"redis": {"terminationGracePeriodSeconds": 77}}))
    assert rendered.pod("consumer").spec["terminationGracePeriodSeconds"] == 3600
    assert rendered.pod("redis").spec["terminationGracePeriodSeconds"] == 77
    assert render().pod("producer").spec["terminationGracePeriodSeconds"] == 30


def test_no_service_has_an_account_for_the_operator_where_that_is_off() -> None:
    """The command then acts as the consumer."""
    assert "operator" in str(render().pod("consumer").spec)
    spec = render(SETS["no-producer"]).pod("consumer").spec
    assert "operator" not in str({key: value for key, value in spec.items() if key != "affinity"})


def test_no_volume_keeps_a_cluster_autoscaler_from_emptying_a_node(rendered: Rendered) -> None:
    """What is in an emptyDir need not be kept, and says so; one in memory needs no word."""
    for pod in rendered.lasting_pods:
        named = pod.annotations.get("cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes", "")
        on_disk = {
            one["name"]
            for one in pod.spec["volumes"]
            if "emptyDir" in one and one["emptyDir"].get("medium") != "Memory"
        }
        assert on_disk & {"tmp", "run"} <= set(named.split(",")), pod.name
