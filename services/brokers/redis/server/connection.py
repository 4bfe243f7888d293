"""One way to reach Redis, for every process.

redis-py's own retries are off: they repeat a command whose answer was lost, so an XADD can publish
twice and an XREADGROUP can leave entries pending that nobody reads. We retry where it is counted.
Replies stay bytes: one value that isn't UTF-8 must not strand a batch.
"""

import functools
import socket
import ssl
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from services.brokers.redis.server.answers import SentinelAnswers, code_of, is_elsewhere
from services.brokers.redis.server.attention import Attention
from services.brokers.redis.server.links import (
    AttentiveConnection,
    TcpConnection,
    TlsConnection,
    UnixConnection,
)
from services.brokers.redis.server.tls import load_into, make_context
from services.contract.errors import BrokerRefuses, BrokerUnavailable
from services.runtime.address import Address, read_address
from services.runtime.redact import know
from services.runtime.settings import Settings, SettingsInvalid
from services.runtime.small_files import FileUnreadable, read_small

_LASTING_TLS: Final = ("CERTIFICATE", "WRONG_VERSION_NUMBER", "TLS FILE")
"""What stands in an error of TLS that waiting does not mend."""
# What a server that is there says while it can't serve: the words before the first space.
_LATER: Final = ("LOADING", "BUSY", "TRYAGAIN", "MISCONF", "OOM")


class PasswordFile(CredentialProvider):
    """Reads the password from a file at each connection, so a rotated secret needs no restart."""

    def __init__(self, path: Path, username: str) -> None:
        self._path = path
        self._username = username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Give the user, if one is named, and the password."""
        # Its name is not told: it may be the password, put where the name of a file belongs.
        try:
            text = read_small(self._path)
        except FileUnreadable as error:
            raise redis.AuthenticationError(f"REDIS_PASSWORD_FILE: {error}") from None
        if text is None:
            raise redis.AuthenticationError("REDIS_PASSWORD_FILE: there is no such file")
        password = text.strip()
        know(password)
        return (self._username, password) if self._username else (password,)


def connect(settings: Settings, *, block_s: float = 0.0, attention: Attention | None = None) -> redis.Redis:
    """Make a client; nothing is sent yet. `block_s` is how long its blocking reads may take.

    `attention` is what all clients of a process share. Raises SettingsInvalid for an address that isn't one.
    """
    where, errors = read_address(settings)
    if errors:
        raise SettingsInvalid(errors)
    parameters = dict(where.parameters)
    options: dict[str, Any] = {
        "attention": attention or Attention(),
        # A blocking read answers after `block_s`; a shorter socket timeout would break it off.
        "socket_timeout": settings.redis_timeout_s + block_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        # Replies in one shape, lists, on every server we support.
        "protocol": 2,
        # CLIENT SETINFO is of Redis 7.2; on 7.0 it can't even be granted to an ACL user.
        "driver_info": None,
        "db": where.db or 0,
        **{name: parameters[name] for name in ("client_name", "max_connections") if name in parameters},
        **_who(where, settings),
    }
    if where.path:
        options |= {"connection_class": UnixConnection, "path": where.path}
    elif where.is_tls:
        _check_files(where, settings)
        options |= {
            "connection_class": TlsConnection,
            "context": functools.partial(make_context, parameters),
        }
    else:
        options |= {"connection_class": TcpConnection}
    if not where.path:
        options |= {"host": where.host, "port": where.port, "socket_keepalive": True}
    return redis.Redis.from_pool(redis.ConnectionPool(**options))


def _who(where: Address, settings: Settings) -> dict[str, Any]:
    """Say who we are there."""
    for secret in (where.password, where.parameters.get("ssl_password")):
        know(secret or "")
    if settings.redis_password_file:
        provider = PasswordFile(Path(settings.redis_password_file), where.username or "")
        return {"credential_provider": provider}
    return {"username": where.username, "password": where.password}


def _check_files(where: Address, settings: Settings) -> None:
    """Name the file that can't be used: the client's own error names the server. Raises SettingsInvalid."""
    authorities = {name: text for name, text in where.parameters.items() if name.startswith("ssl_ca_")}
    certificate = {
        name: text
        for name, text in where.parameters.items()
        if name in {"ssl_certfile", "ssl_keyfile", "ssl_password"}
    }
    for parameters, setting, path in (
        (authorities, "REDIS_CA_FILE", settings.redis_ca_file),
        (certificate, "REDIS_CERT_FILE", settings.redis_cert_file),
        ({"ssl_ciphers": where.parameters.get("ssl_ciphers")}, "", ""),
    ):
        try:
            # Bare: to load the system's authorities takes a tenth of a second.
            load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), parameters)
        except (OSError, ValueError) as error:
            key = f", REDIS_KEY_FILE={settings.redis_key_file}" if settings.redis_key_file else ""
            what = f"{setting}={path}{key if parameters is certificate else ''}"
            shown = what if path else f"BROKER_URL=(hidden): {', '.join(parameters)}"
            raise SettingsInvalid([f"{shown}: {error}"]) from None


def is_dropped(connection: Any) -> bool:
    """Tell whether a connection that is kept is no more to be used, where no answer is under way."""
    return isinstance(connection, AttentiveConnection) and connection.is_over()


def greet(client: redis.Redis) -> None:
    """See that a server is there, and that it is one of ours. Raises redis.RedisError."""
    if not client.ping():
        raise redis.InvalidResponse("what is there answers a PING as no Redis server does")


def address(settings: Settings) -> str:
    """Name the server for a person, without its password."""
    return settings.broker_address


def is_passing(error: redis.RedisError) -> bool:
    """Tell whether an error is expected to pass by itself: the server is away, loading, full, or another."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return False
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return True
    return isinstance(error, redis.ResponseError) and (code_of(error) in _LATER or is_elsewhere(error))


def lasts(error: redis.RedisError) -> bool:
    """Tell whether only a change ends it, as a person sees it: a wrong name, password or certificate."""
    if not is_passing(error):
        return True
    cause = error.__context__
    while cause is not None and not isinstance(cause, socket.gaierror | UnicodeError):
        cause = cause.__context__
    if isinstance(cause, socket.gaierror):
        return cause.errno != socket.EAI_AGAIN
    return cause is not None or any(one in str(error).upper() for one in _LASTING_TLS)


def judge(error: redis.RedisError, settings: Settings) -> BrokerUnavailable | BrokerRefuses:
    """Tell whether an error is worth waiting for, or the server refuses; say in one line what is wrong.

    An error of a user or a right is waited for too: on Kubernetes an exit would only become a crash loop,
    and the secret may be rotated while we wait. What else does not pass by itself is a refusal.
    """
    why, kind = explain(error, settings), error_kind(error)
    is_of_the_user = isinstance(error, redis.AuthenticationError) or lacks_right(error)
    return (BrokerUnavailable if is_passing(error) or is_of_the_user else BrokerRefuses)(why, kind)


def lacks_right(error: BaseException) -> bool:
    """Tell whether an ACL keeps this user from a command or a key."""
    # Inside a script the server words it as an error of the script, without a code: the last is Redis 7.0's.
    return isinstance(error, redis.exceptions.NoPermissionError) or (
        isinstance(error, redis.ResponseError)
        and str(error).startswith(("NOPERM", "ACL failure", "The user executing the script"))
    )


def lacks_command(error: BaseException) -> bool:
    """Tell whether the server has no such command: some that are run for others rename or remove a few."""
    text = str(error).lower()
    return isinstance(error, redis.ResponseError) and (
        text.startswith(("unknown command", "unknown subcommand", "err unknown"))
        or "unknown redis command called from" in text
    )


def explain(error: BaseException, settings: Settings) -> str:
    """Say in one line what is wrong with the server, and what to change."""
    where = f"Redis at {address(settings)}"
    text = str(error).strip() or type(error).__name__
    named = "BROKER_URL" if settings.broker_url or settings.redis_url else "REDIS_HOST, REDIS_PORT"
    if isinstance(error, redis.AuthenticationError):
        address_too = "BROKER_URL, " if named == "BROKER_URL" else ""
        return (
            f"{where} refuses the password or user: {text} "
            f"({address_too}REDIS_USERNAME, REDIS_PASSWORD, REDIS_PASSWORD_FILE)"
        )
    if lacks_right(error):
        return f"{where} lacks a right for this user: {text}"
    if isinstance(error, redis.TimeoutError):
        tls = "; REDIS_TLS is on: does it speak TLS at this port?" if _is_tls(settings) else ""
        return f"{where} does not answer: {text} ({named}{tls})"
    if text.startswith("WRONGTYPE"):
        return f"{where}: the key {settings.stream_name} is no stream (STREAM_NAME): {text}"
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return f"{where} says: {text}"
    if isinstance(error, redis.ConnectionError) and ("SSL" in text or "TLS" in text or "CERT" in text):
        return f"{where} fails at TLS: {text} ({_tls_hint(text, named)})"
    if isinstance(error, redis.ConnectionError):
        hung_up = "closed" in text or "reset by peer" in text
        hint = "; REDIS_TLS where it speaks TLS" if hung_up and not _is_tls(settings) else ""
        return f"{where} can't be reached: {text} ({named}{hint})"
    if (told := _of_another_kind(error, settings.stream_name, named)) is not None:
        return f"{where} {told}"
    return f"{where} says: {describe(error)}"


def describe(error: BaseException) -> str:
    """Say what a server has said, with what the client took off, and what we know of it."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, redis.exceptions.AskError):
        return f"another node of the cluster, {error.host}:{error.port}, has slot {error.slot_id}"
    if "DB index is out of range" in text or "SELECT is not allowed" in text:
        return f"{text} (the database: REDIS_DB, or behind the host in BROKER_URL)"
    if "exhausted the last possible ID" in text or "smaller than the target stream top item" in text:
        return (
            f"{text}: an entry has nearly the last possible id, so none can follow "
            "(docs/runbooks/TelemetryStreamIdAhead.md)"
        )
    return text


def _is_tls(settings: Settings) -> bool:
    return read_address(settings)[0].is_tls


def _tls_hint(text: str, named: str) -> str:
    """Name the setting that an error of TLS is about."""
    upper = text.upper()
    if "CERTIFICATE_VERIFY_FAILED" in upper:
        if "MISMATCH" in upper or "NOT VALID FOR" in upper:
            return f"its certificate is of another name than that in {named}"
        return "REDIS_CA_FILE: the authority that signed its certificate"
    if "HUNG UP BEFORE" in upper or (
        "ALERT" in upper
        and any(one in upper for one in ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED"))
    ):
        return "where it asks for a certificate of ours: REDIS_CERT_FILE, REDIS_KEY_FILE"
    if "TLS FILE" in upper:
        return "REDIS_CA_FILE, REDIS_CERT_FILE, REDIS_KEY_FILE"
    return f"does it speak TLS at this port? REDIS_TLS, {named}"


def _of_another_kind(error: BaseException, stream: str, named: str) -> str | None:
    """Say what a node of a cluster means, or a sentinel; None where it is neither."""
    if isinstance(error, redis.exceptions.AskError):
        return (
            f"is a node of a Redis cluster, and another one, {error.host}:{error.port}, has the stream "
            f"{stream} (slot {error.slot_id}): name that node ({named}). Following a cluster is not "
            "supported yet"
        )
    if isinstance(error, SentinelAnswers):
        return (
            f"is a Redis Sentinel, which has no streams; it watches {error}: name that server itself, or an "
            f"address that leads to it ({named}). Following a sentinel is not supported yet"
        )
    if isinstance(error, redis.exceptions.ClusterCrossSlotError):
        return (
            f"is a node of a Redis cluster, and keys of one step have different slots: {error}. "
            f"Those of the stream {stream} share one"
        )
    return None


def error_kind(error: Exception) -> str:
    """Name an error for a metric's label: the server's own code, or the class."""
    code = code_of(error)
    if isinstance(error, redis.ResponseError) and code.isupper() and code.isalpha() and len(code) <= 16:
        return code.lower()
    return type(error).__name__
