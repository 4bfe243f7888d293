"""Who may send."""

import base64
import logging
import os
from pathlib import Path

import pytest
from fakes import FakeClock

from services.producer.http.tokens import Tokens, TokensInvalid, given_tokens, parse_tokens

ONE = "0123456789abcdef"
OTHER = "fedcba9876543210"


def test_a_token_may_write_what_its_patterns_say() -> None:
    """Without patterns anything; with both, both must fit. A bracket stands for itself."""
    found = parse_tokens(
        f'[all]\ntoken = "{ONE}"\n[some]\ntoken = "{OTHER}"\n'
        'devices = ["plant-*", "[x]"]\nzones = ["north"]\n'
    )
    assert found[ONE].may_write("anything", "anywhere")
    assert found[OTHER].may_write("plant-7", "north")
    assert found[OTHER].may_write("[x]", "north")
    assert not found[OTHER].may_write("x", "north")
    assert not found[OTHER].may_write("plant-7", "south")
    assert not found[OTHER].may_write("Plant-7", "north")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no token in it"),
        ("=", "not TOML"),
        ('a = "b"', "write a table"),
        ('[a]\ntoken = "short"', "at least 16 characters"),
        (f'[a]\ntoken = "{ONE}"\n[b]\ntoken = "{ONE}"', "a has the same"),
        (f'[a]\ntoken = "{ONE} "', "without blanks"),
        (f'[a]\ntoken = "{ONE}"\ndevice = "x"', "device: unknown"),
        (f'[a]\ntoken = "{ONE}"\ndevices = []', "without it, any"),
        (f'[a]\ntoken = "{ONE}"\nzones = "north"', "a list of names"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_without_a_token(text: str, error: str) -> None:
    """With the name of its table."""
    with pytest.raises(TokensInvalid) as raised:
        parse_tokens(text)
    assert error in str(raised.value)
    assert ONE not in str(raised.value)
    assert "short" not in str(raised.value)


def test_tokens_come_as_clients_send_them() -> None:
    """Bearer, InfluxDB's two forms, Basic, and in the address; what is none is none."""
    basic = base64.b64encode(f"anyone:{ONE}".encode()).decode()
    for header in (f"Bearer {ONE}", f"bearer  {ONE} ", f"Token {ONE}", f"Basic {basic}"):
        assert given_tokens(header, None, None) == [ONE]
    assert given_tokens(f"Token user:{ONE}", None, None) == [f"user:{ONE}", ONE]
    assert given_tokens("", "user", ONE) == [ONE]
    for header in ("", "Bearer", "Basic !!!", "Basic /w==", "Digest x", f"Bearer {'x' * 5000}"):
        assert given_tokens(header, None, None) == []


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also by a link that is moved, as Kubernetes does; a bad one changes nothing, and is told once."""
    clock, path = FakeClock(), tmp_path / "tokens.toml"
    path.write_text(f'[a]\ntoken = "{ONE}"\n', encoding="utf-8")
    caplog.set_level("INFO")
    tokens = Tokens(path, logging.getLogger("tokens"), clock.monotonic)

    def names() -> list[str | None]:
        clock.sleep(1.0)
        return [
            None if writer is None else writer.name for writer in map(tokens.writer, (ONE, OTHER, ONE[:-1]))
        ]

    assert names() == ["a", None, None]
    new = tmp_path / "new.toml"
    new.write_text(f'[b]\ntoken = "{OTHER}"\n', encoding="utf-8")
    os.replace(new, path)  # noqa: PTH105 - as a link is moved
    assert names() == [None, "b", None]
    path.write_text("[b]\n", encoding="utf-8")
    assert names() == names() == [None, "b", None]
    path.unlink()
    assert names() == [None, "b", None]
    assert [record.message for record in caplog.records] == ["tokens_read", *["tokens_unusable"] * 2]
    assert ONE not in caplog.text
    assert OTHER not in caplog.text


def test_a_file_that_is_not_there_at_the_start_is_an_error(tmp_path: Path) -> None:
    """Nobody could send."""
    with pytest.raises(TokensInvalid):
        Tokens(tmp_path / "none", logging.getLogger("tokens"), FakeClock().monotonic)
