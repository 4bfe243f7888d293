"""What Helm says at the end: it fits a terminal of 80 columns, and names what is there."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from chart.rendering import CHART, EXTERNAL, SETS, load_yaml, merged, need, nested, run

# `helm template` leaves the notes out, so they are rendered as the text of a manifest.
_AS_MANIFEST: Final = """{{ define "notes" }}%s{{ end }}
kind: Notes
text: {{ include "notes" . | quote }}
"""
_REPLAY: Final = {"mode": "replay", "replay": {"configMap": "measurements", "file": "measurements.csv"}}

_ANYBODY: Final = {"producer": {"mode": "http", "http": {"anonymous": True}}}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the chart with its notes as a manifest."""
    need("helm", "the notes are not rendered")
    copy = tmp_path_factory.mktemp("notes") / CHART.name
    shutil.copytree(CHART, copy)
    notes = copy / "templates" / "NOTES.txt"
    (copy / "templates" / "notes.yaml").write_text(_AS_MANIFEST % notes.read_text(encoding="utf-8"))
    return copy


def _notes(chart: Path, values: dict[str, Any]) -> str:
    options = ("--namespace=telemetry", "--show-only=templates/notes.yaml", "--values=-")
    done = run("helm", "template", "demo", str(chart), *options, stdin=json.dumps(values))
    assert done.returncode == 0, done.stderr
    (manifest,) = load_yaml(done.stdout)
    return str(manifest["text"])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"producer": _REPLAY},
        EXTERNAL,
        nested("consumer.persistence.keep", False),
        SETS["http"],
        SETS["http-ingress"],
        _ANYBODY,
        SETS["mqtt"],
    ],
    ids=[
        "defaults",
        "replay",
        "external Redis",
        "nothing kept",
        "http",
        "http-ingress",
        "http-anybody",
        "mqtt",
    ],
)
def test_no_line_is_wider_than_a_terminal(chart: Path, values: dict[str, Any]) -> None:
    """Of a release that is called as in the README."""
    lines = _notes(chart, values).splitlines()
    assert len(lines) > 10
    assert [line for line in lines if len(line) > 80] == []


def test_the_notes_say_where_to_send_and_with_what(chart: Path) -> None:
    """The address of the Service, that of the Ingress, and whose token it takes."""
    notes = _notes(chart, SETS["http"])
    assert "http://demo-http.telemetry:8080" in notes
    assert "Authorization: Bearer $TOKEN" in notes
    assert "producer.http.tokens" in notes
    notes = _notes(chart, SETS["http-ingress"])
    assert "https://demo-http.telemetry:443" in notes
    assert "https://telemetry.example.com" in notes
    assert "Secret demo-devices" in notes
    assert "get service demo-http" in notes
    notes = _notes(chart, _ANYBODY)
    assert "Authorization" not in notes
    assert "Nobody needs a token" in notes
    assert "demo-http" not in _notes(chart, {})


@pytest.mark.parametrize("keeps_consumers", [True, False])
@pytest.mark.parametrize("keeps_redis", [True, False])
def test_what_an_uninstall_keeps_is_named(chart: Path, keeps_consumers: bool, keeps_redis: bool) -> None:
    """Each of the two volumes, and no other."""
    kept = merged(
        nested("consumer.persistence.keep", keeps_consumers), nested("redis.persistence.keep", keeps_redis)
    )
    notes = " ".join(_notes(chart, kept).split())
    assert ("the claim demo-consumer-data" in notes) == keeps_consumers
    assert ("the claim data-demo-redis-0" in notes) == keeps_redis
