"""`telemetry settings`, and the documents made from the same declarations."""

from pathlib import Path

import pytest
from telemetry_cli import is_refusal, json_lines, telemetry

from services.ops.about.settings import BEGIN, END, env_example, markdown
from services.runtime.settings import ConsumerSettings, ProducerSettings, Sources, load, read_sources

ROOT = Path(__file__).parents[4]


def _settings(*arguments: str, **environment: str) -> dict[tuple[str, str], dict[str, str]]:
    lines = json_lines(telemetry("settings", "--json", *arguments, **environment))
    return {(line["name"], line["service"]): line for line in lines}


def test_every_setting_has_a_value_a_default_an_origin_and_a_meaning() -> None:
    """Both services, and the thresholds of the KPIs."""
    found = _settings()
    assert found["REDIS_PORT", "both"] == {
        "name": "REDIS_PORT",
        "service": "both",
        "value": "6379",
        "default": "6379",
        "origin": "default",
        "meaning": "Its port. 1 to 65,535",
    }
    assert found["THRESHOLD_VIBRATION", "both"]["default"] == "5.0"
    assert all(line["meaning"] for line in found.values())


def test_one_name_with_two_meanings_is_shown_twice() -> None:
    """BATCH_SIZE and SLEEP_INTERVAL have a default for each service."""
    found = _settings()
    assert (found["BATCH_SIZE", "producer"]["default"], found["BATCH_SIZE", "consumer"]["default"]) == (
        "5",
        "10",
    )
    assert found["SLEEP_INTERVAL", "producer"]["default"] == "1.0"
    assert found["SLEEP_INTERVAL", "consumer"]["default"] == "0.5"


def test_the_origin_of_a_value_is_told() -> None:
    """The environment stands above `.env`, and that above the default."""
    Path(".env").write_text("BATCH_SIZE=7\nRATE=3\nTHRESHOLD_HUMIDITY=66\n")
    found = _settings(RATE="4")
    assert (found["BATCH_SIZE", "consumer"]["value"], found["BATCH_SIZE", "consumer"]["origin"]) == (
        "7",
        ".env",
    )
    assert (found["RATE", "producer"]["value"], found["RATE", "producer"]["origin"]) == ("4.0", "environment")
    assert (found["THRESHOLD_HUMIDITY", "both"]["value"], found["THRESHOLD_HUMIDITY", "both"]["origin"]) == (
        "66.0",
        ".env",
    )
    assert found["SEED", "producer"]["origin"] == "default"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_secret_is_never_shown(form: list[str]) -> None:
    """Only that it is set."""
    secrets = {"REDIS_PASSWORD": "hunter2", "REDIS_URL": "redis://u:hunter2@h:1"}
    result = telemetry("settings", *form, **secrets)
    assert "hunter2" not in result.output
    assert result.output.count("(hidden)") == 2


def test_one_service_alone_can_be_asked_for() -> None:
    """Its own settings and those of both."""
    found = _settings("--service", "producer")
    assert {service for _, service in found} == {"producer", "both"}


def test_an_unknown_service_is_refused() -> None:
    """The message names those there are."""
    result = telemetry("settings", "--service", "bench")
    assert is_refusal(result, 2)
    assert "none of producer, consumer, all" in result.stderr


def test_thresholds_are_those_of_the_kpi_file() -> None:
    """Somebody with other sensors sees theirs, with the file's value as the default."""
    Path("kpis.toml").write_text('[radon]\nunit = "Bq/m3"\nmin = 0\nmax = 9000\nthreshold = 100\n')
    found = _settings(KPIS_FILE="kpis.toml", THRESHOLD_RADON="120")
    radon = found["THRESHOLD_RADON", "both"]
    assert (radon["value"], radon["default"], radon["origin"]) == ("120.0", "100.0", "environment")
    assert ("THRESHOLD_HUMIDITY", "both") not in found


def test_the_documents_do_not_depend_on_the_environment() -> None:
    """They tell defaults, wherever they are made."""
    assert telemetry("settings", "--markdown", BATCH_SIZE="99").stdout == markdown()
    assert telemetry("settings", "--env-example", BATCH_SIZE="99").stdout == env_example()


def test_the_example_can_be_used_as_it_is_and_with_every_line_taken_in() -> None:
    """Copied to `.env` it changes nothing; uncommented, every default in it is valid."""
    Path(".env").write_text(env_example())
    assert read_sources().file == {}
    Path(".env").write_text(env_example().replace("\n#", "\n").replace("\n ", "\n# "))
    taken = read_sources().file
    assert len(taken) > 40
    for cls in (ProducerSettings, ConsumerSettings):
        load(cls, Sources({}, {}, taken))


def test_the_table_is_put_between_the_marks() -> None:
    """What stands around them stays."""
    Path("doc.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert telemetry("settings", "--into", "doc.md").exit_code == 0
    assert Path("doc.md").read_text() == f"before\n{BEGIN}\n{markdown()}{END}\nafter\n"


def test_a_file_without_the_marks_is_left_alone() -> None:
    """There is no place for the table in it."""
    Path("doc.md").write_text("text")
    assert is_refusal(telemetry("settings", "--into", "doc.md"), 2)
    assert Path("doc.md").read_text() == "text"


def test_the_repository_s_example_is_what_it_is_made_of() -> None:
    """Mend it with: telemetry settings --env-example > .env.example."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()


def test_the_repository_s_table_is_what_it_is_made_of() -> None:
    """Mend it with: telemetry settings --into docs/settings.md."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert f"{BEGIN}\n{markdown()}{END}" in text
