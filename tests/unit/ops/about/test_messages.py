"""The catalogue of log messages is what the code writes, and docs/logs.md is made from it."""

import ast
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pythonjsonlogger.core import RESERVED_ATTRS
from telemetry_cli import telemetry

from services.ops.about.log_catalogue import CATALOGUE
from services.ops.about.messages import BEGIN, END, markdown

ROOT = Path(__file__).parents[4]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def _calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """Give each call of a logger, with its method."""
    for path in sorted((ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                speaker = ast.unparse(node.func.value).rpartition(".")[2].lstrip("_")
                if speaker in {"logger", "log", "theirs", "ours"} and node.func.attr in {*LEVELS, "log"}:
                    yield path, node, node.func.attr.upper()


def _names(node: ast.AST) -> list[str]:
    found = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
    return [one for one in found if isinstance(one, str) and one.isidentifier()]


def _written() -> set[tuple[str, str]]:
    """Find message and level of what is written: in calls, and where a name is passed on."""
    written = set()
    for _, call, method in _calls():
        message = call.args[1 if method == "LOG" else 0]
        level = "DEBUG" if method == "LOG" else method
        written |= {(name, level) for name in _names(message)}
    for path in sorted((ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "refuse":
                written |= {(name, "CRITICAL") for name in _names(node.args[1])}
            elif called == "_own_record":
                level = ast.unparse(node.args[0]).removeprefix("logging.")
                written |= {(name, level) for name in _names(node.args[1])}
            elif called == "_log" and node.args:
                written |= {(name, "INFO") for name in _names(node.args[0])}
    return written


def test_every_message_is_in_the_catalogue_with_its_level() -> None:
    """And nothing is in the catalogue that nobody writes."""
    assert {(one.name, one.level) for one in CATALOGUE} == _written()


def test_no_field_is_one_that_every_record_has() -> None:
    """It would stand in the record in place of its own: an INFO line's is made without a look at that."""
    for one in CATALOGUE:
        passed = {*one.fields} - {"exc_info"}
        assert not passed & {*RESERVED_ATTRS, "service", "version", "pod"}, one.name


def test_each_has_one_place() -> None:
    """And a meaning."""
    assert [name for name, number in Counter(one.name for one in CATALOGUE).items() if number > 1] == []
    assert all(one.meaning and one.name.isidentifier() for one in CATALOGUE)


def test_the_fields_of_each_are_those_that_it_has() -> None:
    """As far as they are written out where it is written."""
    known = {one.name: {name.strip("[]") for name in one.fields} for one in CATALOGUE}
    checked = set()
    for path, call, method in _calls():
        extra = next((one.value for one in call.keywords if one.arg == "extra"), None)
        if not isinstance(extra, ast.Dict):
            continue
        fields = {one.value for one in extra.keys if isinstance(one, ast.Constant)}
        for name in _names(call.args[1 if method == "LOG" else 0]):
            assert fields <= known[name], f"{path.name}: {name}"
            required = {one for one in next(m for m in CATALOGUE if m.name == name).fields if one[0] != "["}
            if None not in extra.keys and not any(one.arg == "exc_info" for one in call.keywords):
                assert required == fields, f"{path.name}: {name}"
            checked.add(name)
    assert len(checked) > 30


def test_the_page_has_the_table() -> None:
    """docs/logs.md is what `make docs` writes."""
    page = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0] == f"\n{markdown()}"


def test_the_command_lists_them() -> None:
    """For a person, and as JSON."""
    assert [one.name for one in CATALOGUE if one.name not in telemetry("messages").stdout] == []
    found = [json.loads(line) for line in telemetry("messages", "--json").stdout.splitlines()]
    assert [one["message"] for one in found] == [one.name for one in CATALOGUE]


def test_a_page_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    """It is an error that names them."""
    page = tmp_path / "page.md"
    page.write_text("text", encoding="utf-8")
    result = telemetry("messages", "--into", str(page))
    assert (result.exit_code, page.read_text(encoding="utf-8")) == (2, "text")
    assert BEGIN in result.stderr


@pytest.mark.parametrize("name", ["asctime", "name", "levelname", "message", "service", "version", "pod"])
def test_no_message_has_a_field_of_every_line(name: str) -> None:
    """It would be overwritten."""
    assert not any(name in one.fields for one in CATALOGUE)
