"""No secret comes into a line, whatever text it stands in."""

import io
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from services.brokers.redis.server import connection
from services.brokers.redis.server.connection import connect, explain
from services.ops.about.log_catalogue import CATALOGUE as MESSAGES
from services.runtime import redact as module
from services.runtime.logs.gate import Logs
from services.runtime.redact import head, is_secret, know, redact, shortened
from services.runtime.settings import ConsumerSettings, ProducerSettings, declared
from services.runtime.telemetry.catalogue import CATALOGUE as METRICS

HIDE_ME = "hunter2/@ü"


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("can't reach redis://user:pa55@host:6379/0", "can't reach redis://***@host:6379/0"),
        ("rediss://:pa55@h,redis://u:pa55@h2", "rediss://***@h2"),
        ("proxy http://me:p@55@proxy:8080 says no", "proxy http://***@proxy:8080 says no"),
        ("HTTPS://pa55@host/x?y", "HTTPS://***@host/x?y"),
        ("{'host': 'h', 'password': 'pa 55', 'db': 0}", "{'host': 'h', 'password': ***, 'db': 0}"),
        ('{"password": "pa55", "db": 0}', '{"password": ***, "db": 0}'),
        ("Connection(host=h,password=pa55,db=0)", "Connection(host=h,password=***,db=0)"),
        ("redis://h/0?password=pa55&db=1", "redis://h/0?password=***&db=1"),
        ("REDIS_PASSWORD=pa55 REDIS_DB=0", "REDIS_PASSWORD=*** REDIS_DB=0"),
        ("Authorization: Bearer pa55", "Authorization: Bearer ***"),
        ("api-key=pa55, x-token: pa55", "api-key=***, x-token: ***"),
        ("requirepass: pa55", "requirepass: ***"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, shown: str) -> None:
    """By where it stands: before the @ of a URL, or behind a name that says so."""
    assert redact(text) == shown
    assert "pa55" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "WRONGPASS invalid username-password pair or user is disabled. (REDIS_USERNAME, REDIS_PASSWORD)",
        "REDIS_PASSWORD_FILE: [Errno 2] No such file or directory: '/etc/telemetry/redis/password'",
        "REDIS_URL=(hidden): write redis://user:password@host:port/db, or rediss:// for TLS",
        "Redis at 127.0.0.1:6379 can't be reached",
        "me@example.com", "telemetry_stream: tokens=3", "",
    ],
)  # fmt: skip
def test_what_is_none_stays(text: str) -> None:
    """Our own hints can be read."""
    assert redact(text) == text


def test_a_secret_that_begins_another_leaves_nothing_of_it() -> None:
    """Whichever was known first."""
    know("hide")
    know("hide-this-too")
    assert redact("hide-this-too, hide") == "***, ***"


def test_a_known_secret_is_hidden_wherever_it_stands() -> None:
    """Also as a URL has it; one that is too short to be one is none."""
    know(HIDE_ME)
    know("abc")
    assert redact(f"it is {HIDE_ME}, or {quote(HIDE_ME, safe='')}; abc") == "it is ***, or ***; abc"
    for number in range(100):
        know(f"rotated-{number}")
    assert len(module._known) <= 32
    assert redact("rotated-99") == "***"


def test_fields_are_hidden_by_their_names_and_their_texts() -> None:
    """At any depth, in the message, its arguments and an exception's text; numbers included."""
    out = io.StringIO()
    know(HIDE_ME)
    logger = Logs("consumer", "INFO", "json", out).logger
    try:
        int(f"with {HIDE_ME}")
    except ValueError as error:
        logger.exception(
            "it is %s",
            HIDE_ME,
            extra={
                "redis_password": "pa55",
                "told": {"token": 12345, "list": [HIDE_ME, {"a": (HIDE_ME,)}], HIDE_ME: 1},
                "raw": HIDE_ME.encode(),
                "error": error,
            },
        )
    text = out.getvalue()
    assert "12345" not in text
    assert "pa55" not in text
    assert HIDE_ME not in json.loads(text).__repr__()
    line = json.loads(text)
    assert line["message"] == "it is ***"
    assert line["told"]["list"] == ["***", {"a": ["***"]}]
    assert line["exc_info"].endswith("invalid literal for int() with base 10: 'with ***'\n")
    assert is_secret("REDIS_PASSWORD")
    assert not is_secret("redis_password_file")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Give a port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@pytest.mark.parametrize("way", ["url", "setting", "file"])
def test_a_connection_that_fails_tells_no_password(closed_port: int, way: str, tmp_path: Path) -> None:
    """Whichever way the client was given it: it is known from then on."""
    (tmp_path / "password").write_text(f"{HIDE_ME}\n", encoding="utf-8")
    settings = {
        "url": ConsumerSettings(redis_url=f"redis://me:{quote(HIDE_ME, safe='')}@127.0.0.1:{closed_port}/0"),
        "setting": ConsumerSettings(redis_host="127.0.0.1", redis_port=closed_port, redis_password=HIDE_ME),
        "file": ConsumerSettings(
            redis_host="127.0.0.1", redis_port=closed_port, redis_password_file=str(tmp_path / "password")
        ),
    }[way]
    out = io.StringIO()
    logger = Logs("consumer", "INFO", "json", out).logger
    client = connect(settings)
    kwargs = client.connection_pool.connection_kwargs
    if provider := kwargs.get("credential_provider"):
        provider.get_credentials()
    try:
        client.ping()
    except redis.ConnectionError as error:
        logger.exception(
            "redis_unavailable", extra={"error": explain(error, settings), "pool": kwargs, "url": HIDE_ME}
        )
    client.close()
    assert HIDE_ME not in repr(json.loads(out.getvalue()))
    assert quote(HIDE_ME, safe="") not in out.getvalue()
    assert "can't be reached" in json.loads(out.getvalue())["error"]
    assert sys.exc_info() == (None, None, None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:password@real:pa55@h", "redis://***@h"),
        ("Redis at me:pa55@h:6379 can't be reached", "Redis at me:***@h:6379 can't be reached"),
        ("Redis at :pa55@h", "Redis at :***@h"),
        (f"{'a' * 200}://me:pa55@h", f"{'a' * 200}://***@h"),
        ("://me:pa55@h", "://***@h"),
        ('password="pa55 and the rest', "password=***"),
        ('{"password": "a\\"pa55", "db": 0}', '{"password": ***, "db": 0}'),
        ("password='a\\'pa55', db=0", "password=***, db=0"),
        ("password=\n pa55", "password=\n ***"),
    ],
)
def test_a_secret_that_is_written_oddly_is_hidden(text: str, shown: str) -> None:
    """Quotes in it or not closed, the words of our hint before it, no scheme, or a very long one."""
    assert redact(text) == shown


@pytest.mark.parametrize("write", [str, json.dumps, repr, quote, lambda text: f"<{text}>"])
def test_a_known_secret_is_hidden_however_it_is_written(write: Callable[[str], str]) -> None:
    """As Python, JSON and URLs write it: quotes, backslashes, letters of every script, spaces."""
    hide_me = "p\"a'5\\5 ü\n😀"
    know(hide_me)
    assert "***" in redact(write(hide_me))
    assert not any(part in redact(write(hide_me)) for part in ("a'", "5\\", "fc", "%C3", "😀"))


@pytest.mark.parametrize(
    "pattern",
    ["a.", "a://", "://", "@", "a:@", ":", "password", "password ", "password=", "password='", 'password="',
     "password=\\", "token:", "secret=bearer ", "a-", "passwor", "x-api-", "=", " ", "'", '"', "\\", "\n",
     "ü", "authorization: basic ", "password:a@"],
)  # fmt: skip
@pytest.mark.parametrize("rest", ["", "@", "=", "=x", "://x@", '"', "'"])
def test_redaction_takes_time_in_proportion_to_the_text(pattern: str, rest: str) -> None:
    """Whatever is repeated in it: eight times the text takes no more than some eight times as long."""

    def seconds(size: int) -> float:
        text = rest + pattern * (size // len(pattern)) + rest
        started = time.process_time()
        redact(text)
        return time.process_time() - started

    small = max(min(seconds(20_000) for _ in range(3)), 0.001)
    assert seconds(160_000) < 32 * small


def test_our_own_hints_are_none() -> None:
    """What we tell a person to write can be read: meanings of settings, messages and metrics, and hints."""
    hints = [one.metadata["meaning"] for cls in (ProducerSettings, ConsumerSettings) for one in declared(cls)]
    hints += [one.meaning for one in (*MESSAGES, *METRICS)]
    hints += [value for value in vars(connection).values() if isinstance(value, str)]
    assert len(hints) > 100
    for hint in hints:
        assert redact(hint) == hint


@pytest.mark.parametrize("most", range(8, 60))
def test_a_text_is_cut_when_its_secrets_are_out_of_it(most: int) -> None:
    """Half an address, and half of a name's value, are known for nothing."""
    told = shortened("reach redis://me:hunter22-letmein@h/0, password=hunter22-letmein", most)
    assert "hunter" not in told
    assert len(told) <= most
    assert shortened("plain", most) == "plain"
    assert "hunter" not in head("reach redis://me:hunter22-letmein@h/0, password=hunter22-letmein", most)
