"""Addresses: what leads somewhere, and what is refused instead of being misread."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.brokers.redis.server.connection import connect
from services.brokers.redis.server.links import TcpConnection, TlsConnection, UnixConnection
from services.runtime.address import Address, AddressInvalid, parse_url, read_address
from services.runtime.redact import redact
from services.runtime.settings import ConsumerSettings, SettingsInvalid, Sources, load

PLAIN = ConsumerSettings()
# ruff: noqa: S106 - no password here is one of anything
SECRET = "57Wc9geheim"  # noqa: S105 - no password of anything


def refused(**settings: Any) -> str:
    """Give the line that says why these settings lead nowhere."""
    (line,) = read_address(replace(PLAIN, **settings))[1]
    with pytest.raises(SettingsInvalid) as caught:
        connect(replace(PLAIN, **settings))
    assert caught.value.errors == [line]
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://h", Address("redis", "h")),
        ("REDIS://h:7/3", Address("redis", "h", 7, "", 3)),
        ("valkey://h:7/", Address("valkey", "h", 7)),
        ("rediss://u:p@h.example:7/1", Address("rediss", "h.example", 7, "", 1, "u", "p")),
        ("valkeys://:p%40ss%23%2F%3A@h", Address("valkeys", "h", password="p@ss#/:")),
        ("redis://:a:b@h", Address("redis", "h", password="a:b")),
        ("redis://u@h/0?db=0", Address("redis", "h", db=0, username="u")),
        ("redis://[::1]:7/2", Address("redis", "::1", 7, "", 2)),
        ("redis://[fe80::1]", Address("redis", "fe80::1")),
        ("redis://redis_host-1.svc:7", Address("redis", "redis_host-1.svc", 7)),
        ("redis://h/1?username=u&password=a+b", Address("redis", "h", db=1, username="u", password="a+b")),
        (
            "redis://h?client_name=me&max_connections=3",
            Address("redis", "h", parameters={"client_name": "me", "max_connections": 3}),
        ),
        ("unix:///run/redis.sock", Address("unix", path="/run/redis.sock")),
        (
            "unix://u:p@/run/a%20b%23.sock?db=2",
            Address("unix", path="/run/a b#.sock", db=2, username="u", password="p"),
        ),
    ],
)  # fmt: skip
def test_an_address_is_read(url: str, wanted: Address) -> None:
    """Each part of it, percent-decoded."""
    assert parse_url(url) == wanted


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"redis://:6379#{SECRET}@prod:6379/0", "there is a # in it"),
        (f"redis://h:6379/0#{SECRET}", "there is a # in it"),
        (f"redis://:{SECRET}?x@h:1/0", "%3F"),
        (f"redis://:57?{SECRET}", "no parameter"),
        (f"redis://h:57?{SECRET}", "no parameter"),
        (f"redis://:57/{SECRET}@h:1/0", "%2F"),
        (f"redis://u:57@{SECRET}@h:1/0", "%40"),
        (f"redis://u:57[{SECRET}@h:1/0", "%5B"),
        (f"redis://u:57]{SECRET}@h:1/0", "%5B"),
        (f"redis://u:{SECRET}%@h", "%25"),
        (f"redis://u:{SECRET}%zz@h", "%25"),
        (f"redis://u:{SECRET}%ff@h", "not UTF-8"),
        (f"redis://u:{SECRET}%00@h", "NUL"),
        (f"redis://u:{SECRET} x@h", "white space"),
        (f"redis://u:{SECRET}@h\t", "white space"),
        (f"redis://u:{SECRET}\u200b@h", "can't be printed"),
        (f"redis://u:{SECRET}", "no port"),
        (f"redis://u:{SECRET}@h:0", "no port"),
        (f"redis://u:{SECRET}@h:65536", "no port"),
        (f"redis://u:{SECRET}@h:6379000000000", "no port"),
        (f"redis://u:{SECRET}@h:", "no port"),
        (f"redis://u:{SECRET}@h:-1", "no port"),
        (f"redis://u:{SECRET}@h:٣", "no port"),
        (f"redis://u:{SECRET}@", "no host"),
        (f"redis://u:{SECRET}@:6379/0", "no host"),
        (f"redis://u:{SECRET}@/0", "no host"),
        ("redis:///0", "no host"),
        ("redis://", "no host"),
        (f"redis://u:{SECRET}@h/prod", "no number"),
        (f"redis://u:{SECRET}@h/1/2", "no number"),
        (f"redis://u:{SECRET}@h/-1", "no number"),
        (f"redis://u:{SECRET}@h/1?db=2", "another one behind the ?"),
        (f"redis://u:{SECRET}@h?db=x", "no number"),
        (f"redis://u:{SECRET}@h?db=", "no value"),
        (f"redis://u:{SECRET}@h?db=1&db=1", "twice"),
        (f"redis://u:{SECRET}@h?password=x", "a password before the @"),
        (f"redis://u:{SECRET}@h?decode_responses=true", "leave decode_responses out"),
        (f"redis://u:{SECRET}@h?socket_timeout=5", "leave socket_timeout out"),
        (f"redis://u:{SECRET}@h?retry_on_timeout=true", "leave retry_on_timeout out"),
        (f"redis://u:{SECRET}@h?max_connections=1", "at least 3"),
        (f"redis://u:{SECRET}@h?max_connections=2", "at least 3"),
        (f"redis://u:{SECRET}@h?ssl_ca_certs=/x", "does not speak"),
        (f"redis://u:{SECRET}@h?{SECRET}", "no parameter"),
        (f"redis://u:{SECRET}@h1:1,h2:2/0", "more than one host"),
        (f"redis://u:{SECRET}@h1,h2/0", "more than one host"),
        (f"redis://u:{SECRET}@::1:6379/0", "brackets"),
        (f"redis://u:{SECRET}@[::x]:6379/0", "no IPv6 address"),
        (f"redis://u:{SECRET}@[::1]6379/0", "no IPv6 address"),
        (f"redis://u:{SECRET}@a..b/0", "no name"),
        (f"unix://u:{SECRET}@run/redis.sock", "a socket's path begins with a /"),
        ("unix://", "a socket's path begins with a /"),
        (f"http://u:{SECRET}@h", "its scheme is none of"),
        (f"{SECRET}@h:6379", "no scheme"),
        (f"redis:/u:{SECRET}@h", "no scheme"),
        (f"redis+sentinel://u:{SECRET}@h1:1,h2:2/mymaster/0", "a Redis Sentinel is not supported yet"),
        (f"sentinel://u:{SECRET}@h1:1/mymaster", "a Redis Sentinel is not supported yet"),
        (f"rediss+sentinel://u:{SECRET}@h1:1/mymaster", "a Redis Sentinel is not supported yet"),
        (f"redis+cluster://u:{SECRET}@h1:1,h2:2", "a Redis cluster is not supported yet"),
        (f"kafka://u:{SECRET}@h1:1/topic", "Kafka is not supported yet"),
    ],
)
def test_what_could_be_misread_is_refused(url: str, why: str) -> None:
    """With a line that says what to write, and holds no piece of the address."""
    for name in ("broker_url", "redis_url"):
        line = refused(**{name: url})
        assert line.startswith(f"{name.upper()}=(hidden): write redis://user:password@host:port/db")
        assert why in line.rpartition("; here ")[2]
        for piece in (SECRET, "57Wc", "prod", "mymaster"):
            assert piece not in line
        assert redact(line) == line
        assert SECRET not in replace(PLAIN, **{name: url}).broker_address  # type: ignore[arg-type]


@given(st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text))
def test_any_password_comes_through_when_encoded(password: str) -> None:
    """And none leads elsewhere when it is not: it is read as it is, or refused."""
    try:
        encoded = quote(password, safe="")
    except UnicodeEncodeError:
        return
    assert parse_url(f"redis://u:{encoded}@h:7/1").password == password
    with contextlib.suppress(AddressInvalid):
        found = parse_url(f"redis://u:{password}@h:7/1")
        assert (found.host, found.port, found.db, found.username) == ("h", 7, 1, "u")


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("h", "h"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_a_host_is_taken_as_people_write_it(host: str, wanted: str) -> None:
    """An IPv6 address with its brackets or without."""
    client = connect(replace(PLAIN, redis_host=host))
    assert client.connection_pool.connection_kwargs["host"] == wanted
    client.close()


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("h:7000", "write REDIS_HOST=h and REDIS_PORT=7000"),
        ("[::1]:7000", "write REDIS_HOST=::1 and REDIS_PORT=7000"),
        ("127.0.0.1:7000", "write REDIS_HOST=127.0.0.1 and REDIS_PORT=7000"),
        (f"redis://u:{SECRET}@h:7", "write it as BROKER_URL"),
        ("redis://h:7", "write it as BROKER_URL"),
        (f"u:{SECRET}@h", "write the whole address as BROKER_URL"),
        ("/run/redis.sock", "write BROKER_URL=unix:///run/redis.sock"),
        ("h1,h2", "more than one host"),
        ("[::x]", "no IPv6 address"),
        ("a b", "no name of a host"),
        ("h/0", "no name of a host"),
        ("a..b", "no name of a host"),
    ],
)
def test_what_is_no_host_is_told_with_what_to_write(host: str, told: str) -> None:
    """And not waited for."""
    line = refused(redis_host=host)
    assert line.startswith("REDIS_HOST=")
    assert told in line
    assert SECRET not in line


URL = "rediss://h:7"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"broker_url": "redis://a", "redis_url": "redis://b"}, "both are set, and they differ"),
        ({"broker_url": "redis://u:p@h", "redis_password_file": "f"}, "REDIS_PASSWORD_FILE is set, and"),
        ({"broker_url": "redis://u:p@h", "redis_password": "q"}, "REDIS_PASSWORD is set, and"),
        ({"broker_url": "redis://u:p@h", "redis_username": "v"}, "REDIS_USERNAME is set, and"),
        ({"redis_password": "p", "redis_password_file": "f"}, "are both set"),
        ({"redis_url": "redis://h/1", "redis_db": 2}, "another database"),
        ({"redis_url": "redis://h", "redis_tls": True}, "write rediss://"),
        ({"broker_url": "unix:///s", "redis_tls": True}, "write rediss://"),
        ({"redis_url": "redis://h", "redis_ca_file": "f"}, "REDIS_CA_FILE is set, and the conn"),
        ({"redis_ca_file": "f"}, "set REDIS_TLS=true"),
        ({"redis_cert_file": "f"}, "set REDIS_TLS=true"),
        ({"redis_key_file": "f"}, "set REDIS_TLS=true"),
        ({"redis_url": f"{URL}?ssl_ca_certs=a", "redis_ca_file": "b"}, "another ssl_ca_certs"),
        ({"redis_url": URL, "redis_key_file": "f"}, "set REDIS_CERT_FILE as well"),
    ],
)  # fmt: skip
def test_settings_that_contradict_an_address_are_refused(settings: dict[str, Any], told: str) -> None:
    """None is ignored without a word."""
    assert told in refused(**settings)


def test_what_an_address_does_not_say_the_other_settings_say(tmp_path: Path) -> None:
    """User, password, database, port and the files of TLS; REDIS_HOST alone is replaced."""
    (tmp_path / "password").write_text("from-file")
    client = connect(
        replace(
            PLAIN, broker_url="redis://u@h", redis_host="other", redis_port=7, redis_db=3,
            redis_password_file=str(tmp_path / "password"),
        )
    )  # fmt: skip
    found = client.connection_pool.connection_kwargs
    assert (found["host"], found["port"], found["db"]) == ("h", 7, 3)
    assert found["credential_provider"].get_credentials() == ("u", "from-file")
    client.close()
    settings = replace(PLAIN, redis_url="redis://h", redis_username="u", redis_password="pass-word")
    client = connect(settings)
    found = client.connection_pool.connection_kwargs
    assert (found["username"], found["password"]) == ("u", "pass-word")
    client.close()


def test_the_operator_is_another_user_of_the_same_address() -> None:
    """Whoever is named in the address is the service."""
    settings = replace(
        PLAIN, broker_url="rediss://service:pw@h:7/1",
        operator_redis_username="operator", operator_redis_password_file="f",
    ).as_operator()  # fmt: skip
    where, errors = read_address(settings)
    assert errors == []
    assert (where.username, where.password, where.host, where.db) == ("operator", None, "h", 1)


def test_each_scheme_has_its_kind_of_connection() -> None:
    """A host, a host with TLS, a socket in the file system."""
    kinds = {
        "redis://h": TcpConnection, "valkey://h": TcpConnection,
        "rediss://h": TlsConnection, "valkeys://h": TlsConnection, "unix:///s": UnixConnection,
    }  # fmt: skip
    for url, kind in kinds.items():
        client = connect(replace(PLAIN, broker_url=url))
        assert client.connection_pool.connection_class is kind
        client.close()


def test_a_wrong_address_is_one_of_the_errors_of_the_settings() -> None:
    """All come back at once."""
    with pytest.raises(SettingsInvalid) as caught:
        load(ConsumerSettings, Sources({}, {"BROKER_URL": "redis://h#x", "BATCH_SIZE": "0"}, {}))
    assert [error.partition("=")[0] for error in caught.value.errors] == ["BATCH_SIZE", "BROKER_URL"]
