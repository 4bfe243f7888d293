"""The `.env` file: how it is written, and how little is said of a line that can't be read."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.runtime.env_file import read_env_file
from services.runtime.logs.gate import refuse
from services.runtime.settings import ConsumerSettings, SettingsInvalid, load, read_sources

NAMES = ("REDIS_PASSWORD", "SEED", "BATCH_SIZE", "REDIS_HOST")
HIDE_ME = "S3cr3tValue"


def read(folder: Path, content: str | bytes) -> tuple[dict[str, str], Sequence[str]]:
    """Read a file of this content."""
    path = folder / ".env"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    values, errors = read_env_file(path, NAMES)
    return values, [error.removeprefix(f"{folder}/") for error in errors]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("SEED=7", "7"),
        ("SEED = 7 ", "7"),
        ("export SEED=7", "7"),
        ("SEED=7 # c", "7"),
        ("SEED=7\t# c", "7"),
        ("SEED=a#b", "a#b"),
        ("SEED=", ""),
        ("SEED= # c", ""),
        ("SEED='7 # c' # d", "7 # c"),
        ('SEED="7 # c" # d', "7 # c"),
        ("SEED='a\\nb'", "a\\nb"),
        ('SEED="a\\nb\\"c\\\\"', 'a\nb"c\\'),
        ('SEED="a\nb"', "a\nb"),
        ("SEED=it's", "it's"),
        ("SEED=a=b", "a=b"),
        ("SEED=${HOME}$HOME", "${HOME}$HOME"),
        ("SEED='${HOME}'", "${HOME}"),
        ("SEED=über", "über"),
        ("SEED=1\nSEED=2", "2"),
        ("# c\n\n  SEED=7\n\n", "7"),
        ("SEED=7\r\n# c\r\n", "7"),
        ("\ufeffSEED=7\n", "7"),
    ],
)
def test_a_line_is_read_as_a_shell_would(tmp_path: Path, line: str, value: str) -> None:
    """Comments, quotes, blanks, `export`, several lines in quotes; nothing is put in a value's place."""
    assert read(tmp_path, line) == ({"SEED": value}, [])


@pytest.mark.parametrize(
    "line",
    [
        f"REDIS_PASSWORD {HIDE_ME}",
        f"REDIS_PASSWORD: {HIDE_ME}",
        f"REDIS_PASSWORD:{HIDE_ME}",
        f"REDIS_PASSWORD-{HIDE_ME}",
        f"REDIS_PASSWORD;{HIDE_ME}=",
        f'REDIS_PASSWORD="{HIDE_ME}',
        f"REDIS_PASSWORD='{HIDE_ME}",
        f'REDIS_PASSWORD="a" {HIDE_ME}',
        f"REDIS_PASSWORD='a'{HIDE_ME}",
        f'REDIS_PASSWORD="a"{HIDE_ME}"',
        f"export REDIS_PASSWORD {HIDE_ME}",
        f"export  REDIS_PASSWORD\t{HIDE_ME}",
        "REDIS_PASSWORD",
        f"REDIS_PASSWORD\u00a0{HIDE_ME}",
        f"REDIS_PASSWORD\u2028{HIDE_ME}",
        f"REDIS_PASSWORD\0{HIDE_ME}",
        f"REDIS_PASSWORD={HIDE_ME}\0",
        f"REDIS_PASSWORD\x1b[31m {HIDE_ME}",
    ],
)
def test_a_line_that_is_wrong_is_named_without_its_content(tmp_path: Path, line: str) -> None:
    """By its number, and by the setting that it begins with."""
    values, errors = read(tmp_path, f"\nSEED=7\n\n{line}\n")
    assert values == {"SEED": "7"}
    assert [error.partition(": ")[0] for error in errors] == [".env:4"]
    assert errors[0].startswith(".env:4: REDIS_PASSWORD: ")
    assert HIDE_ME not in errors[0]


@pytest.mark.parametrize(
    "line",
    [
        HIDE_ME,
        f"set X={HIDE_ME}",
        f"=X{HIDE_ME}",
        f"-{HIDE_ME}",
        f"MY-{HIDE_ME}=5",
        f"'{HIDE_ME}",
        f"{HIDE_ME}: x",
    ],
)
def test_a_word_that_is_no_setting_is_not_told(tmp_path: Path, line: str) -> None:
    """It may be the rest of a password that took two lines."""
    assert read(tmp_path, line) == ({}, [".env:1: write NAME=value, with quotes closed"])


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Lines that can't be read, names that there are not, and wrong values."""
    (tmp_path / ".env").write_text(f"REDIS_PASSWORD {HIDE_ME}\nBATCH_SIZE=many\nCOLOUR=red\nREDIS_PORT\n")
    with pytest.raises(SettingsInvalid) as caught:
        load(ConsumerSettings, read_sources(env_file=tmp_path / ".env"))
    told = [error.removeprefix(f"{tmp_path}/") for error in caught.value.errors]
    assert told == [
        ".env:1: REDIS_PASSWORD: write NAME=value, with quotes closed",
        ".env:4: REDIS_PORT: write NAME=value, with quotes closed",
        "COLOUR: no such setting (from .env)",
        "BATCH_SIZE='many': write a whole number (from .env)",
    ]


def test_a_password_is_hidden_in_what_is_said_of_other_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody copied it into the wrong setting as well."""
    (tmp_path / ".env").write_text(
        f"REDIS_PASSWORD={HIDE_ME}\nBATCH_SIZE={HIDE_ME}\nREDIS_URL=redis://:{HIDE_ME}@h:port\n"
    )
    with pytest.raises(SettingsInvalid) as caught:
        load(ConsumerSettings, read_sources(env_file=tmp_path / ".env"))
    refuse("consumer", "settings_unusable", caught.value)
    said = capsys.readouterr()
    assert "BATCH_SIZE=" in said.err
    assert HIDE_ME not in said.out + said.err


def test_a_value_that_is_refused_is_shown_by_its_beginning(tmp_path: Path) -> None:
    """A line of a hundred characters tells what is wrong, and one of a million doesn't."""
    (tmp_path / ".env").write_text(f"BATCH_SIZE={'9x' * 2000}\n")
    with pytest.raises(SettingsInvalid) as caught:
        load(ConsumerSettings, read_sources(env_file=tmp_path / ".env"))
    (error,) = caught.value.errors
    assert len(error) < 200


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"SEED=7\nREDIS_HOST=caf\xe9\n", "can't be read: line 2 is not UTF-8"),
        (b"\xff\xfeS\0E\0E\0D\0=\x007\0", "can't be read: line 1 is not UTF-8"),
        (b"#" * 80 + b"\n" + b"x\n" * (1 << 19), "can't be read: it is longer than 1,048,576 bytes"),
        (b"SEED=7\nREDIS_HOST=a" + b" " * 100_000 + b"b\n", "the line is longer than 8,192 characters"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, content: bytes, why: str) -> None:
    """Another encoding, or far too large."""
    values, (error,) = read(tmp_path, content)
    assert values == {}
    assert error.endswith(why)


def test_what_is_no_file_is_one_line_too(tmp_path: Path) -> None:
    """A folder, a pipe that nobody writes to, a device; none of them is waited for."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (
        ("folder", "it is a folder"),
        ("pipe", "it is no regular file"),
        ("zero", "it is no regular file"),
        ("loop", "symbolic links"),
    ):
        with ThreadPoolExecutor(1) as pool:
            _, (error,) = pool.submit(read_env_file, tmp_path / name, NAMES).result(10)
        assert why in error


def test_no_file_and_an_empty_one_are_no_mistake(tmp_path: Path) -> None:
    """Settings come from the environment alone then; /dev/null in its place is an empty one."""
    assert read_env_file(tmp_path / ".env", NAMES) == ({}, [])
    (tmp_path / ".env").symlink_to(os.devnull)
    assert read_env_file(tmp_path / ".env", NAMES) == ({}, [])
    assert read_sources(env_file=tmp_path / "none").errors == []
