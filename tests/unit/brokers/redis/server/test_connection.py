"""What is said about a server that doesn't serve."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from redis._parsers.base import BaseParser

from services.brokers.redis.server.answers import SentinelAnswers
from services.brokers.redis.server.connection import PasswordFile, connect, error_kind, explain, is_passing
from services.runtime.settings import ConsumerSettings, SettingsInvalid

SETTINGS = ConsumerSettings(redis_host="h")


def server_error(line: str) -> redis.RedisError:
    """Make the error that the client makes of a server's line."""
    error: redis.RedisError = BaseParser.parse_error(line)
    return error


PASSING = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN Hash slot not served",
    "BUSY Redis is busy running a script.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "NOREPLICAS Not enough good replicas to write.",
    "MISCONF Redis is configured to save RDB snapshots",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "MOVED 11822 127.0.0.1:45861",
    "ASK 11822 127.0.0.1:45861",
]
LASTING = [
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPERM this user has no permissions to run the 'xadd' command",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR syntax error",
]


@pytest.mark.parametrize("line", PASSING)
def test_a_server_that_can_not_serve_now_is_waited_for(line: str) -> None:
    """Loading, full, read-only: that passes by itself."""
    assert is_passing(server_error(line))


@pytest.mark.parametrize("line", LASTING)
def test_what_somebody_has_to_mend_does_not_pass(line: str) -> None:
    """A wrong password or a wrong key stays wrong."""
    assert not is_passing(server_error(line))


def test_a_lost_connection_passes() -> None:
    """So does an answer that doesn't come."""
    assert is_passing(redis.ConnectionError("refused"))
    assert is_passing(redis.TimeoutError("Timeout reading from socket"))


@pytest.mark.parametrize("line", [*PASSING, *LASTING])
def test_the_kind_of_an_error_is_bounded(line: str) -> None:
    """A metric's label is one short word, and none of the message."""
    kind = error_kind(server_error(line))
    assert kind.isalpha()
    assert len(kind) <= 40


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (server_error(LASTING[0]), "h:6379 refuses the password or user"),
        (server_error(LASTING[1]), "REDIS_PASSWORD_FILE"),
        (
            server_error(LASTING[2]),
            "lacks a right for this user: this user has no permissions to run the 'xadd'",
        ),
        (server_error(LASTING[3]), "the key telemetry_stream is no stream (STREAM_NAME)"),
        (server_error(PASSING[0]), "h:6379 says: Redis is loading"),
        (server_error(PASSING[1]), "h:6379 says: You can't write against a read only replica"),
        (
            server_error("MOVED 11822 127.0.0.1:45861"),
            "is a node of a Redis cluster, and another one, 127.0.0.1:45861, has the stream telemetry_stream",
        ),
        (server_error("ASK 11822 127.0.0.1:45861"), "name that node (REDIS_HOST, REDIS_PORT)"),
        (
            server_error("CROSSSLOT Keys in request don't hash to the same slot"),
            "is a node of a Redis cluster",
        ),
        (
            server_error("ERR The stream has exhausted the last possible ID, unable to add more items."),
            "TelemetryStreamIdAhead.md",
        ),
        (
            SentinelAnswers("mymaster"),
            "is a Redis Sentinel, which has no streams; it watches mymaster: name that server itself",
        ),
        (redis.TimeoutError("Timeout reading"), "h:6379 does not answer"),
        (redis.ConnectionError("Error 111 connecting to h:6379. Connection refused."), "can't be reached"),
        (redis.ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED]"), "fails at TLS"),
        (redis.ConnectionError(""), "can't be reached: ConnectionError"),
    ],
)
def test_an_error_is_explained_in_one_line(error: redis.RedisError, told: str) -> None:
    """The line has the address, the trouble, and where there is something to change, its setting."""
    line = explain(error, SETTINGS)
    assert told in line
    assert "\n" not in line
    assert "Redis at h:6379" in line


def test_what_may_be_tls_is_said_to_be() -> None:
    """A server without it answers nothing to a greeting by TLS; one with it hangs up on plain text."""
    assert "REDIS_TLS is on" in explain(
        redis.TimeoutError("Timeout reading"), replace(SETTINGS, redis_tls=True)
    )
    closed = redis.ConnectionError("Connection closed by server.")
    assert "REDIS_TLS where it speaks TLS" in explain(closed, SETTINGS)
    assert "REDIS_TLS" not in explain(closed, replace(SETTINGS, redis_tls=True))


@pytest.mark.parametrize("parameter", ["protocol=3", "decode_responses=true", "socket_timeout=5"])
def test_an_address_may_not_change_what_is_relied_on(parameter: str) -> None:
    """Replies of another shape would leave entries pending for ever."""
    with pytest.raises(SettingsInvalid, match=f"leave {parameter.partition('=')[0]} out"):
        connect(replace(SETTINGS, redis_url=f"redis://h:6379/0?{parameter}"))
    connect(replace(SETTINGS, redis_url="redis://h:6379/0?client_name=me")).close()


def test_authorities_that_cant_be_read_are_named(tmp_path: Path) -> None:
    """And not the server, which has nothing to do with it."""
    (tmp_path / "none.pem").write_text("no certificate")
    for name in ("gone.pem", "none.pem"):
        with pytest.raises(SettingsInvalid, match=f"REDIS_CA_FILE=.*{name}: "):
            connect(replace(SETTINGS, redis_tls=True, redis_ca_file=str(tmp_path / name)))


def test_a_password_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    """It may be right tomorrow: the file is read at each connection."""
    (tmp_path / "password").write_bytes(b"\xff\xfe")
    with pytest.raises(redis.AuthenticationError, match="REDIS_PASSWORD_FILE: "):
        PasswordFile(tmp_path / "password", "").get_credentials()


def test_a_password_file_is_read_without_waiting_and_without_its_name(tmp_path: Path) -> None:
    """A pipe, a folder, another encoding, nothing at all; and the password itself in its place."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for name, why in (
        ("pipe", "it is no regular file"),
        (".", "it is a folder"),
        ("latin", "line 1 is not UTF-8"),
        ("S3cr3tValue", "there is no such file"),
    ):
        with pytest.raises(redis.AuthenticationError, match=f"REDIS_PASSWORD_FILE: .*{why}") as caught:
            PasswordFile(tmp_path / name, "").get_credentials()
        assert "S3cr3tValue" not in str(caught.value)
