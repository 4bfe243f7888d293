"""The Job that brings what a release has stored in SQLite before it goes on in PostgreSQL."""

from typing import Any, Final

import pytest
from chart.rendering import (
    NAMESPACE,
    POSTGRES,
    SETS,
    Pod,
    Rendered,
    Values,
    annotations_of,
    merged,
    nested,
    refusal,
    render,
)

from services.runtime.settings import ConsumerSettings, Sources, load
from services.stores.choice import at_address, store_of

pytestmark = pytest.mark.usefixtures("helm")

COPY: Final[Values] = merged(POSTGRES, nested("copy.enabled", True))
PART: Final = "app.kubernetes.io/component"


def pod_of(rendered: Rendered) -> Pod:
    """Give the pod of the copy, which is a hook."""
    return Pod(rendered.one("Job", "copy"))


def environment(rendered: Rendered) -> dict[str, str]:
    """Give what the copy finds in its environment, without what comes from the Secret."""
    (reference,) = pod_of(rendered).main["envFrom"]
    data: dict[str, str] = rendered.named("ConfigMap", reference["configMapRef"]["name"])["data"]
    return data


def volumes(pod: Pod, named: str) -> list[Any]:
    """Give the volumes of a pod with such names."""
    return [one for one in pod.spec["volumes"] if one["name"].startswith(named)]


def test_it_is_there_where_it_is_asked_for() -> None:
    """And what it needs comes before it: at that time nothing of the new release is there."""
    assert not [one for one in render(POSTGRES).all if "copy" in one["metadata"]["name"]]
    found = [one for one in render(COPY).all if "copy" in one["metadata"]["name"]]
    assert {one["kind"] for one in found} == {"ConfigMap", "NetworkPolicy", "Job"}
    for one in found:
        told = annotations_of(one)
        is_job = one["kind"] == "Job"
        assert told["helm.sh/hook"] == "pre-upgrade"
        assert told["helm.sh/hook-weight"] == ("0" if is_job else "-1")
        assert ("hook-succeeded" in told["helm.sh/hook-delete-policy"]) is not is_job
        assert "before-hook-creation" in told["helm.sh/hook-delete-policy"]
    without = render(merged(COPY, nested("networkPolicy.enabled", False)))
    assert not without.of("NetworkPolicy", "copy")


def test_nothing_else_changes_by_it() -> None:
    """The consumers are those of PostgreSQL, and mount no claim."""
    others = [
        [
            one
            for one in render(values).all
            if one["kind"] != "Secret" and "copy" not in one["metadata"]["name"]
        ]
        for values in (POSTGRES, COPY)
    ]
    assert others[0] == others[1]


def test_it_reads_the_claim_of_the_release_and_writes_to_its_database() -> None:
    """By the consumers' image, Secret and certificates, under the name that they have there."""
    rendered = render(SETS["copy"])
    pod, consumer = pod_of(rendered), rendered.pod("consumer")
    assert pod.main["command"] == ["telemetry", "copy", "--as-pipeline", f"{NAMESPACE}/demo"]
    assert rendered.environment("consumer")["PIPELINE_NAME"] == f"{NAMESPACE}/demo"
    assert pod.main["image"] == consumer.main["image"]
    assert [one["mountPath"] for one in pod.main["volumeMounts"] if one["name"] == "data"] == ["/data"]
    assert volumes(pod, "data")[0] == {
        "name": "data", "persistentVolumeClaim": {"claimName": "demo-consumer-data"},
    }  # fmt: skip
    assert volumes(pod, "database-") == volumes(consumer, "database-") != []
    assert volumes(pod, "redis") == []
    of_secret = [one for one in consumer.main["env"] if one["name"].startswith("PG")]
    assert pod.main["env"] == of_secret != []
    assert pod.spec["securityContext"] == consumer.spec["securityContext"]
    assert pod.main["securityContext"] == consumer.main["securityContext"]


def test_another_claim_and_another_name_can_be_named() -> None:
    """As database.pipeline has it, and as a release had it that named its own claim."""
    rendered = render(
        merged(
            COPY,
            nested("copy.existingClaim", "{{ .Release.Name }}-old"),
            nested("copy.pipeline", "sensors"),
            nested("database.pipeline", "plant"),
        )
    )
    pod = pod_of(rendered)
    assert volumes(pod, "data")[0]["persistentVolumeClaim"] == {"claimName": "demo-old"}
    assert pod.main["command"][-1] == "plant"
    assert environment(rendered)["PIPELINE_NAME"] == "sensors"


@pytest.mark.parametrize(
    ("letters", "there"), [("auto", "database"), ("database", "database"), ("stream", "stream")]
)
def test_the_command_takes_the_settings_that_it_is_given(letters: str, there: str) -> None:
    """Whatever the consumers are told, SQLite is read as it was, and PostgreSQL is written to as they do."""
    hard = {"databaseDeviceIndex": True, "databaseTimeoutS": 1, "maxRetries": 0, "claimIdleMs": 10_000}
    values = merged(
        COPY,
        nested("consumer.settings", {**hard, "deadLetters": letters, "fresh": True}),
        nested("settings", {"streamName": "other", "redisTimeoutS": 0.5}),
        nested("redis.auth.stream", "other"),
        nested("thresholds", {"temperature": 70}),
    )
    rendered = render(values)
    found = environment(rendered)
    settings = load(ConsumerSettings, Sources({}, {**found, "DATA_DIR": "/data"}, {}))
    assert (settings.database_url, settings.pipeline_name) == ("", "telemetry")
    store_of(settings)
    assert settings.letters_in == ("stream" if letters == "stream" else "file")
    assert settings.stream_name == rendered.environment("consumer")["STREAM_NAME"] == "other"
    target = at_address(settings, found["COPY_TO"])
    assert target.letters_in == there
    assert target.database_password_file == found["DATABASE_PASSWORD_FILE"] != ""
    of_consumer = rendered.environment("consumer")
    for name in ("PGPORT", "PGSSLMODE", "DATABASE_TIMEOUT_S"):
        assert found[name] == of_consumer[name]


def test_a_copy_that_is_not_the_same_is_not_tried_again() -> None:
    """One that was broken off is; and a node that is drained is no failure."""
    spec = render(SETS["copy"]).one("Job", "copy")["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (3, 1800)
    ends, ignores = spec["podFailurePolicy"]["rules"]
    assert ends["onExitCodes"] == {"containerName": "copy", "operator": "In", "values": [1]}
    assert ends["action"] == "FailJob"
    assert ignores["action"] == "Ignore"
    assert spec["ttlSecondsAfterFinished"] == 86_400
    assert spec["template"]["metadata"]["labels"]["team"] == "sensors"


def test_it_may_speak_to_the_database_alone() -> None:
    """Names besides, as all of the release; nobody speaks to it."""
    policy = render(merged(COPY, nested("networkPolicy.databaseTo", [{"podSelector": {}}]))).one(
        "NetworkPolicy", "copy"
    )["spec"]
    assert policy["podSelector"]["matchLabels"][PART] == "copy"
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    (egress,) = policy["egress"]
    assert [one["port"] for one in egress["ports"]] == [5432]
    assert egress["to"] == [{"podSelector": {}}]


def test_without_a_database_there_is_nothing_to_copy_to() -> None:
    """It is refused, and says what to write."""
    told = refusal(nested("copy.enabled", True))
    for word in ("copy.enabled", "database.host", "database.existingSecret"):
        assert word in told
