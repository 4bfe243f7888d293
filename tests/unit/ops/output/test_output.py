"""How answers are shown."""

import io
import json
import os
import pty
import subprocess
import sys

import pytest
from rich.console import Console
from telemetry_cli import telemetry

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


LETTERS = (
    Column("entry"),
    Column("stage", optional=True),
    Column("reason"),
    Column("replayed", optional=True),
    Column("error", wraps=True),
)
LETTER = {
    "entry": "1795577667864-512",
    "stage": "decode",
    "reason": "duplicate_field",
    "replayed": "yes",
    "error": "field 'value' is given more than once",
}


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(120, ""), (60, ""), (50, "left out: replayed"), (40, "left out: stage, replayed"), (30, "")],
)
def test_a_terminal_cuts_nothing_and_says_what_it_leaves_out(width: int, left_out: str) -> None:
    """Long texts go below; then columns that can be missed are left out; at last each record is a list."""
    terminal, shown = _terminal(width)
    terminal.show(Table("", LETTERS, [LETTER, LETTER]))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    together = " ".join(" ".join(lines).split())
    for name, text in LETTER.items():
        assert together.count(text) == (0 if name in left_out else 2)
    assert "…" not in together
    assert left_out in together
    assert ("--wide" in together) is bool(left_out)


def test_a_wide_answer_leaves_out_nothing_however_narrow_the_terminal_is() -> None:
    """The terminal itself wraps its lines."""
    shown = io.StringIO()
    terminal = Terminal(is_wide=True)
    terminal._console = Console(
        file=shown, width=30, force_terminal=True, color_system=None, markup=False, highlight=False
    )
    terminal.show(Table("", LETTERS, [LETTER]))
    (row,) = (line for line in shown.getvalue().splitlines() if LETTER["entry"] in line)
    assert all(text in row for text in LETTER.values())


def test_the_option_makes_a_command_s_answer_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next answer is not, unless it is asked to be."""
    asked: list[bool] = []
    monkeypatch.setattr(
        "services.ops.output.terminal.Terminal.__init__", lambda _, *, is_wide: asked.append(is_wide)
    )
    monkeypatch.setattr("services.ops.output.terminal.Terminal.show", lambda *_: None)
    monkeypatch.setattr("services.ops.output.output.answers_on_terminal", lambda: True)
    telemetry("settings", "--wide")
    telemetry("settings")
    assert asked == [True, False]


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


@pytest.mark.parametrize("width", range(20, 60))
def test_no_terminal_is_so_narrow_that_a_number_is_cut(width: int) -> None:
    """Of a table that nearly fits, without a long text: rich cuts without a word."""
    columns = (Column("name"), number("least"), number("most"), number("mean", optional=True))
    record = {"name": "temperature", "least": 1_234_567, "most": 7_654_321, "mean": 5_555_555}
    terminal, shown = _terminal(width)
    terminal.show(Table("", columns, [record]))
    text = shown.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert all(one in text for one in ("temperature", "1,234,567", "7,654,321"))
    assert "5,555,555" in text or "left out: mean" in text
