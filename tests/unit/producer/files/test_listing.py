"""Which files `--from` means."""

from pathlib import Path

import pytest

from services.producer.files.listing import files_of


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("logs/b.csv", "logs/a.csv", "logs/.hidden.csv", "logs/more/c.csv", "x[1].csv", "x1.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["x1.csv", "logs/*.csv"], ["x1.csv", "logs/a.csv", "logs/b.csv"]),
        (["logs", "logs/a.csv", "./logs/b.csv"], ["logs/a.csv", "logs/b.csv"]),
        (["logs/**/*.csv"], ["logs/a.csv", "logs/b.csv", "logs/more/c.csv"]),
        (["x[1].csv"], ["x[1].csv"]),
        (["nothere.csv"], ["nothere.csv"]),
        (["-"], ["-"]),
    ],
)
def test_names_patterns_and_folders_are_listed_in_order_and_once(
    given: list[str], expected: list[str]
) -> None:
    """A name that is there is no pattern; of a folder hidden files, and folders in it, are left."""
    errors: list[str] = []
    assert files_of(given, errors) == expected
    assert errors == []


def test_what_fits_no_file_is_an_error() -> None:
    """All of it at once."""
    Path("empty").mkdir()
    errors: list[str] = []
    files_of(["-", "empty", "no*.csv", "x1.csv"], errors)
    assert errors == [
        "--from empty: no file is in this folder",
        "--from no*.csv: no file has such a name",
        "--from -: standard input is read alone; leave out the files, or pass them to it",
    ]
