"""Settings: where they come from, what is wrong with them, and how that is said."""

from pathlib import Path
from typing import Any

import pytest

from services.brokers.redis.keys import keys_of
from services.brokers.redis.server.connection import address, connect
from services.runtime.settings import (
    ConsumerSettings,
    ProducerSettings,
    Settings,
    SettingsInvalid,
    Sources,
    declared,
    load,
    thresholds_set,
    variable,
)


def consumer(**environment: str) -> ConsumerSettings:
    """Load a consumer's settings from an environment."""
    return load(ConsumerSettings, Sources({}, environment, {}))


def errors_of(cls: type[Settings] = ConsumerSettings, **environment: str) -> list[str]:
    """Load settings that are wrong, and give what is said about them."""
    with pytest.raises(SettingsInvalid) as caught:
        load(cls, Sources({}, environment, {}))
    return caught.value.errors


def test_the_defaults_are_the_documented_ones() -> None:
    """Nothing set means the original's values."""
    settings = consumer()
    assert (settings.batch_size, settings.sleep_interval, settings.consumer_run_duration) == (10, 0.5, 35.0)
    assert (settings.max_retries, settings.retry_backoff_s, settings.max_deliveries) == (3, 0.5, 5)
    assert (settings.redis_host, settings.redis_port) == ("localhost", 6379)
    producer = load(ProducerSettings, Sources({}, {}, {}))
    assert (producer.batch_size, producer.sleep_interval, producer.producer_run_duration) == (5, 1.0, 30.0)
    assert settings.kpis["pressure"].threshold == 1050.0


def test_the_stronger_source_wins() -> None:
    """An option beats the environment, which beats the file."""
    sources = Sources(
        {"BATCH_SIZE": "1"}, {"BATCH_SIZE": "2", "MAX_RETRIES": "2"}, {"MAX_RETRIES": "3", "REDIS_DB": "3"}
    )
    settings = load(ConsumerSettings, sources)
    assert (settings.batch_size, settings.max_retries, settings.redis_db) == (1, 2, 3)
    assert sources.find("BATCH_SIZE") == ("1", "option")
    assert sources.find("REDIS_DB") == ("3", ".env")
    assert sources.find("REDIS_HOST") is None


def test_zero_is_a_value() -> None:
    """A zero is kept, and an empty text is as if nothing were set."""
    settings = consumer(MAX_RETRIES="0", CONSUMER_RUN_DURATION="0", THRESHOLD_HUMIDITY="0", BATCH_SIZE="")
    assert (settings.max_retries, settings.consumer_run_duration, settings.batch_size) == (0, 0.0, 10)
    assert settings.kpis["humidity"].threshold == 0.0


def test_every_error_comes_in_one_message() -> None:
    """Values, thresholds, unknown names and rules between settings are told together."""
    errors = errors_of(
        BATCH_SIZE="many",
        MAX_RETRIES="-1",
        SLEEP_INTERVAL="nan",
        LOG_LEVEL="loud",
        REDIS_TLS="maybe",
        THRESHOLD_HUMIDITY="wet",
        REDIS_PORT="70000",
        DEAD_LETTERS="bin",
        CLAIM_IDLE_MS="1",
        MAX_RETRIE="3",
    )
    for told in (
        "BATCH_SIZE='many': write a whole number (from environment)",
        "MAX_RETRIES='-1': at least 0",
        "SLEEP_INTERVAL='nan': write a number",
        "LOG_LEVEL='loud': one of DEBUG, INFO, WARNING, ERROR",
        "REDIS_TLS='maybe': write true or false",
        "THRESHOLD_HUMIDITY='wet': write a number",
        "REDIS_PORT='70000': at most 65535",
        "DEAD_LETTERS='bin': one of auto, file, stream, database",
        "CLAIM_IDLE_MS=1: a batch can take",
        "MAX_RETRIE: no such setting; did you mean MAX_RETRIES?",
    ):
        assert [error for error in errors if error.startswith(told)], told
    assert len(errors) == 10
    assert all(line.startswith("settings: ") for line in str(SettingsInvalid(errors)).splitlines())


def test_the_environment_of_others_is_left_alone() -> None:
    """Names that only resemble ours from afar are nobody's mistake."""
    others = {
        "HOME": "/",
        "REDIS_SERVICE_HOST": "x",
        "PATH": "/bin",
        "OTEL_SERVICE_NAME": "x",
        "PYTHONUNBUFFERED": "1",
        "TZ": "UTC",
        "BATCH": "1",
    }
    assert consumer(**others) == consumer()


def test_an_unknown_name_in_the_file_is_a_mistake() -> None:
    """The file is ours alone: every name in it has to be known."""
    with pytest.raises(SettingsInvalid, match=r"COLOUR: no such setting \(from .env\)"):
        load(ConsumerSettings, Sources({}, {}, {"COLOUR": "red", "OTEL_SERVICE_NAME": "x", "RATE": "5"}))


def test_an_unknown_threshold_is_a_mistake() -> None:
    """A threshold of no KPI is named."""
    assert any("THRESHOLD_NOISE: no such KPI" in error for error in errors_of(THRESHOLD_NOISE="1"))


def test_kubernetes_own_names_get_a_hint() -> None:
    """A service link in REDIS_PORT is recognised for what it is."""
    (error,) = errors_of(REDIS_PORT="tcp://10.0.0.1:6379")
    assert "enableServiceLinks: false" in error


def test_a_claim_that_is_too_early_is_refused() -> None:
    """CLAIM_IDLE_MS must be no shorter than the longest time that a batch can take."""
    # Four tries of 5 s each, 0.5 + 1 + 1.5 s between them, 5 s for the server; and the batch before it.
    assert consumer().longest_batch_s == 2 * (20 + 3 + 5)
    assert consumer(MAX_RETRIES="0", SQLITE_BUSY_TIMEOUT_MS="2000").longest_batch_s == 2 * (2 + 5)
    longest_ms = consumer().longest_batch_s * 1000
    assert consumer(CLAIM_IDLE_MS=f"{longest_ms:.0f}").claim_idle_ms == longest_ms
    (error,) = errors_of(CLAIM_IDLE_MS=f"{longest_ms - 1:.0f}")
    assert f"can take {longest_ms:.0f} ms" in error
    assert consumer(CLAIM_IDLE_MS="10000", MAX_RETRIES="0", SQLITE_BUSY_TIMEOUT_MS="0").claim_idle_ms == 10000


def test_a_poison_entry_must_have_a_delivery_of_its_own() -> None:
    """Fewer deliveries than three would end an entry's mates, which are isolated after the second."""
    (error,) = errors_of(MAX_DELIVERIES="2")
    assert error.startswith("MAX_DELIVERIES='2': at least 3")


SECRET = "geheim"  # noqa: S105 - no password of anything


def test_no_error_tells_a_secret() -> None:
    """A broken address is refused without showing its password."""
    for url in (
        f"rediss://:{SECRET}@host:port",
        f"http://u:{SECRET}@host",
        f"redis://:{SECRET}/x@host:1",
        f"redis://[{SECRET}",
    ):
        with pytest.raises(SettingsInvalid) as caught:
            connect(consumer(REDIS_URL=url))
        assert "REDIS_URL" in str(caught.value)
        assert SECRET not in str(caught.value)


def test_an_address_is_shown_without_its_password() -> None:
    """What is logged about the server never holds the secret."""
    for url in (f"redis://user:{SECRET}@host:1/2", f"redis://host:1/2?password={SECRET}"):
        assert SECRET not in address(consumer(REDIS_URL=url))
        assert "host:1/2" in address(consumer(REDIS_URL=url))
    assert address(consumer(REDIS_HOST="h", REDIS_PASSWORD=SECRET)) == "h:6379"


def test_a_kpi_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    """The message holds the path and what is wrong."""
    (error,) = errors_of(KPIS_FILE=str(tmp_path / "no.toml"))
    assert "no.toml: can't be read" in error
    broken = tmp_path / "kpis.toml"
    broken.write_text("[noise]\n", encoding="utf-8")
    (error,) = errors_of(KPIS_FILE=str(broken))
    assert f"{broken}: [noise] unit" in error


def test_thresholds_that_are_set_are_listed() -> None:
    """For the listing of settings, each once, empty ones not."""
    sources = Sources({"THRESHOLD_B": "1"}, {"THRESHOLD_A": "1", "THRESHOLD_B": "2", "THRESHOLD_C": ""}, {})
    assert thresholds_set(sources) == ["THRESHOLD_A", "THRESHOLD_B"]


@pytest.mark.parametrize("cls", [Settings, ProducerSettings, ConsumerSettings])
def test_every_setting_explains_itself(cls: type[Settings]) -> None:
    """Each has a meaning, a name in capitals of its own, and a default within its bounds."""
    names: list[Any] = [variable(one) for one in declared(cls)]
    assert len(names) == len(set(names))
    for one in declared(cls):
        assert one.metadata["meaning"]
        assert variable(one).isupper()
        if one.metadata["least"] is not None:
            assert one.default >= one.metadata["least"]
        if one.metadata["choices"]:
            assert one.default in one.metadata["choices"]


def test_paths_and_keys_follow_the_settings() -> None:
    """Database, dead letters and stream stand where the settings say."""
    settings = consumer(DATA_DIR="/d", STREAM_NAME="s", GROUP_NAME="g", CONSUMER_NAME="c")
    assert (settings.database, settings.dead_letter_file) == (Path("/d/telemetry.db"), Path("/d/dlq.jsonl"))
    assert (keys_of(settings).stream, keys_of(settings).group, settings.name) == ("s", "g", "c")
    assert consumer().name != consumer(CONSUMER_NAME="x").name


def test_the_command_may_be_another_user_than_the_service(tmp_path: Path) -> None:
    """OPERATOR_ settings stand for user and password; the service's own password is not kept."""
    password = tmp_path / "password"
    sources = Sources(
        {},
        {
            "REDIS_USERNAME": "consumer",
            "REDIS_PASSWORD": "secret",
            "OPERATOR_REDIS_USERNAME": "operator",
            "OPERATOR_REDIS_PASSWORD_FILE": str(password),
        },
        {},
    )
    operator = load(ConsumerSettings, sources).as_operator()
    assert (operator.redis_username, operator.redis_password) == ("operator", "")
    assert operator.redis_password_file == str(password)


def test_without_an_operator_the_command_is_the_same_user() -> None:
    """Nothing changes."""
    settings = load(ConsumerSettings, Sources({}, {"REDIS_USERNAME": "consumer"}, {}))
    assert settings.as_operator() is settings


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("REDIS_HOST", "redis..svc", "no name of a host"),
        ("STREAM_NAME", "\udcff", "not UTF-8"),
        ("REDIS_TIMEOUT_S", "1e11", "at most"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(name: str, value: str, why: str) -> None:
    """By both services, in a line."""
    for cls in (ProducerSettings, ConsumerSettings):
        with pytest.raises(SettingsInvalid, match=f"{name}=.*{why}"):
            load(cls, Sources({}, {name: value}, {}))


def test_what_docker_compose_reads_from_the_file_is_left_alone() -> None:
    """It stands in the same `.env`."""
    theirs = {"IMAGE_TAG": "1", "COMPOSE_PROJECT_NAME": "demo"}
    assert load(ConsumerSettings, Sources({}, {}, theirs)) == load(ConsumerSettings, Sources({}, {}, {}))
