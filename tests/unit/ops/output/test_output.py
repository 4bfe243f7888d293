"""How answers are shown."""

import io
import json
import os
import pty
import subprocess
import sys

import pytest
from rich.console import Console

from services.ops.output.output import show_document, show_records, watch
from services.ops.output.parts import Column, Facts, Part, Table, number, printable
from services.ops.output.terminal import Terminal

COLUMNS = (Column("name"), number("count"), Column("note", wraps=True, optional=True))


def test_plain_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Texts at the left and numbers at the right, without colours."""
    records = [{"name": "a", "count": 5, "note": "x"}, {"name": "bcdef", "count": 12345, "note": None}]
    assert show_records(records, COLUMNS, as_json=False) == 2
    assert capsys.readouterr().out == "NAME    COUNT  NOTE\na           5  x\nbcdef  12,345\n"


def test_a_long_list_is_shown_by_pages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is one heading, and a page is never narrower than the one before."""
    monkeypatch.setattr("services.ops.output.output._ROWS_A_TABLE", 1)
    records = ({"name": name, "count": 1, "note": "n"} for name in ("abcdef", "g"))
    show_records(records, COLUMNS, as_json=False)
    assert capsys.readouterr().out == "NAME    COUNT  NOTE\nabcdef      1  n\ng           1  n\n"


def test_json_keeps_every_value_of_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get more than the columns, with the values as they are."""
    show_records([{"name": "a", "count": 5, "note": None, "more": 0.5}], COLUMNS, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"name": "a", "count": 5, "note": None, "more": 0.5}


def test_an_empty_list_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A script that counts lines counts none."""
    assert show_records([], COLUMNS, as_json=False) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "yes"), (False, "no"), ("\x1b[31mred\n", "\\x1b[31mred\\n"), ("°C", "°C"), (7, "7")],
)
def test_a_value_moves_no_cursor(value: object, text: str) -> None:
    """Whatever a foreign text holds, it stays on its line."""
    assert printable(value) == text


def test_parts_are_shown_under_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    """Facts as names and texts, tables as rows, and an empty table as what it says then."""
    parts: list[Part] = [
        Facts("Facts", [("one", "1"), ("three", "3")]),
        Table("Empty", COLUMNS, [], "nothing yet"),
    ]
    show_document({}, parts, as_json=False)
    assert capsys.readouterr().out == "Facts\n  one    1\n  three  3\n\nEmpty\n  nothing yet\n\n"


def test_watching_without_a_terminal_gives_a_line_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    """The same frames as text and as JSON."""
    frames = [{"n": 1}, {"n": 2}]
    watch(frames, lambda _: [], lambda frame: f"n={frame['n']}", as_json=False)
    watch(frames, lambda _: [], lambda _: "", as_json=True)
    assert capsys.readouterr().out == 'n=1\nn=2\n{"n": 1}\n{"n": 2}\n'


def _terminal(width: int) -> tuple[Terminal, io.StringIO]:
    shown = io.StringIO()
    terminal = Terminal()
    terminal._console = Console(
        file=shown, width=width, force_terminal=True, color_system=None, markup=False, highlight=False
    )
    return terminal, shown


def test_a_terminal_takes_no_text_for_markup() -> None:
    """Brackets in a name stay brackets."""
    terminal, shown = _terminal(100)
    terminal.show(Table("A [bold]title", COLUMNS, [{"name": "[red]x", "count": 1, "note": ""}]))
    assert "A [bold]title" in shown.getvalue()
    assert "[red]x" in shown.getvalue()


def test_a_narrow_terminal_leaves_out_what_it_can() -> None:
    """An optional column goes before a row takes two lines."""
    table = Table("", COLUMNS, [{"name": "name", "count": 1, "note": "a note"}])
    wide, shown_wide = _terminal(60)
    wide.show(table)
    narrow, shown_narrow = _terminal(20)
    narrow.show(table)
    assert "a note" in shown_wide.getvalue()
    assert "a note" not in shown_narrow.getvalue()


def test_a_terminal_shows_facts_and_frames() -> None:
    """Frames come one after the other; an empty table says what it is empty of."""
    terminal, shown = _terminal(60)
    terminal.refresh([[Facts("Now", [("stored", "1")])], [Table("Groups", COLUMNS, [], "none yet")]])
    assert "stored" in shown.getvalue()
    assert "Groups  none yet" in shown.getvalue()


def test_a_terminal_gets_tables_and_a_pipe_plain_lines() -> None:
    """The same command, with standard output on a terminal."""
    command = [sys.executable, "-m", "services.ops", "settings", "--service", "producer"]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))  # noqa: PTH120
    environment = {**os.environ, "PYTHONPATH": root, "COLUMNS": "200", "TERM": "xterm"}
    piped = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    leader, follower = pty.openpty()
    with subprocess.Popen(command, stdout=follower, env=environment) as process:
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 65536):
                shown += chunk
        except OSError:  # how a terminal on Linux says that the other side has closed
            pass
        process.wait(timeout=60)
    os.close(leader)
    assert piped.stdout.startswith("SETTING")
    assert "\x1b" not in piped.stdout
    assert b"\x1b[" in shown
    assert "─".encode() in shown
