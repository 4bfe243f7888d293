"""Which variables switch traces on, and that nothing is loaded where none does."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.runtime.otlp.switch import is_wanted, open_log_sender, open_metric_sender, open_spans
from services.runtime.settings import SettingsInvalid, Sources
from services.runtime.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[4]
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def _sources(environment: dict[str, str], file: dict[str, str] | None = None) -> Sources:
    return Sources({}, environment, file or {})


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": " OTLP "}, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "otlp"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, True),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318"}, False),
    ],
)
def test_the_standard_variables_switch_traces_on(environment: dict[str, str], wanted: bool) -> None:
    """As docs/tracing.md says, in the environment and in `.env` alike."""
    assert is_wanted(_sources(environment)) == wanted
    assert is_wanted(_sources({}, environment)) == wanted


def test_an_exporter_that_we_dont_have_is_refused() -> None:
    """Rather than not tracing in silence."""
    with pytest.raises(SettingsInvalid, match="OTEL_TRACES_EXPORTER=zipkin: one of otlp, none"):
        is_wanted(_sources({"OTEL_TRACES_EXPORTER": "zipkin"}))


def test_a_protocol_that_we_dont_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With those that there are."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    with pytest.raises(SettingsInvalid, match="OTEL_EXPORTER_OTLP_PROTOCOL=http/json: one of http/protobuf"):
        open_spans("telemetry-consumer", "c", _sources(ENDPOINT), logging.getLogger("test.switch"))


def test_the_sdk_sees_what_stands_in_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the environment, where an empty text counts as not set."""
    file = {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_SERVICE_NAME": "theirs"}
    for name in file:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "stronger")
    with pytest.raises(SettingsInvalid, match="OTEL_EXPORTER_OTLP_PROTOCOL=http/json"):
        open_spans("x", "y", _sources({}, file), logging.getLogger("test.switch"))
    assert os.environ["OTEL_SERVICE_NAME"] == "stronger"
    assert os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] == ENDPOINT["OTEL_EXPORTER_OTLP_ENDPOINT"]


@pytest.mark.parametrize("service", ["producer", "consumer"])
def test_without_the_variables_we_import_nothing_of_opentelemetry(service: str) -> None:
    """Where redis-py does, it is its own doing: it is made to find nothing."""
    # None stands for a module that is not there, so that whoever imports it all the same fails.
    script = f"""
import sys
sys.modules["opentelemetry"] = None
import services.{service}.__main__
from services.runtime.otlp.switch import open_log_sender, open_metric_sender, open_spans
from services.runtime.settings import Sources
assert open_metric_sender("x", "y", Sources({{}}, {{}}, {{}}), None, None) is None
assert open_spans("x", "y", Sources({{}}, {{}}, {{}}), None) is None
assert open_log_sender("x", "y", Sources({{}}, {{}}, {{}}), None) is None
assert [name for name in sys.modules if name.startswith("services.runtime.otlp.")] == [
    "services.runtime.otlp.switch"
]
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False, capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://127.0.0.1:4318/v1/logs"},
        {"OTEL_LOGS_EXPORTER": "none", **ENDPOINT},
        {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_logs_are_sent_nowhere_unless_it_is_asked_for(environment: dict[str, str]) -> None:
    """Standard output has them; an endpoint is there for the traces too."""
    assert open_log_sender("x", "y", _sources(environment), logging.getLogger("test.switch")) is None


def test_a_log_exporter_that_we_dont_have_is_refused() -> None:
    """Rather than not sending in silence."""
    with pytest.raises(SettingsInvalid, match="OTEL_LOGS_EXPORTER=console: one of otlp, none"):
        open_log_sender("x", "y", _sources({"OTEL_LOGS_EXPORTER": "console"}), logging.getLogger("test"))


@pytest.mark.parametrize(
    "environment",
    [
        {},
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics"},
        {"OTEL_METRICS_EXPORTER": "none", **ENDPOINT},
        {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_metrics_are_sent_nowhere_unless_it_is_asked_for(environment: dict[str, str]) -> None:
    """Who scrapes /metrics would have them twice."""
    assert _open_metrics(environment) is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_METRICS_EXPORTER": "console"}, "OTEL_METRICS_EXPORTER=console: one of otlp, none"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "1s"}, "OTEL_METRIC_EXPORT_INTERVAL=1s: write milliseconds"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "0"}, "OTEL_METRIC_EXPORT_INTERVAL=0: write milliseconds"),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/json: one of",
        ),
    ],
)
def test_a_choice_of_metrics_that_we_dont_have_is_refused(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than not sending in silence."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=said):
        _open_metrics({"OTEL_METRICS_EXPORTER": "otlp", **environment})


def _open_metrics(environment: dict[str, str]) -> object:
    logger = logging.getLogger("test.switch")
    return open_metric_sender("x", "y", _sources(environment), Metrics("consumer"), logger)
