"""One way to reach Redis, for every process.

redis-py's own retries are off: they repeat a command whose answer was lost, so an XADD can publish
twice and an XREADGROUP can leave entries pending that nobody reads. We retry where it is counted.
Replies stay bytes: one value that isn't UTF-8 must not strand a batch.
"""

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from services.runtime.redact import know
from services.runtime.settings import Settings, SettingsInvalid

_URL_HINT: Final = (
    "write redis://user:password@host:port/db, or rediss:// for TLS; "
    "percent-encode other signs in a password, such as / (%2F) and @ (%40)"
)

# What a server that is there says while it can't serve: the words before the first space.
_LATER: Final = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "BUSY",
    "TRYAGAIN",
    "NOREPLICAS",
    "MISCONF",
    "OOM",
)


_TLS_HINT: Final = " (REDIS_TLS is on: does it speak TLS at this port?)"


class PasswordFile(CredentialProvider):
    """Reads the password from a file at each connection, so a rotated secret needs no restart."""

    def __init__(self, path: Path, username: str) -> None:
        self._path = path
        self._username = username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Give the user, if one is named, and the password."""
        try:
            password = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise redis.AuthenticationError(f"REDIS_PASSWORD_FILE: {error}") from None
        know(password)
        return (self._username, password) if self._username else (password,)


def connect(settings: Settings, *, block_s: float = 0.0) -> redis.Redis:
    """Make a client; nothing is sent yet. `block_s` is how long its blocking reads may take.

    Raises SettingsInvalid for an address that isn't one.
    """
    common: dict[str, Any] = {
        # A blocking read answers after `block_s`; a shorter socket timeout would break it off.
        "socket_timeout": settings.redis_timeout_s + block_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        # Replies in one shape, lists, on every server we support.
        "protocol": 2,
        # CLIENT SETINFO is of Redis 7.2; on 7.0 it can't even be granted to an ACL user.
        "driver_info": None,
    }
    if settings.redis_url:
        try:
            _refuse_fixed(settings.redis_url, common)
            client = redis.Redis.from_url(settings.redis_url, **common)
            client.connection_pool.make_connection()  # connects to nothing, and refuses unknown parameters
        except (ValueError, TypeError):
            # The parser's own message may hold a piece of the password.
            raise SettingsInvalid([f"REDIS_URL=(hidden): {_URL_HINT}"]) from None
        know(client.connection_pool.connection_kwargs.get("password") or "")
        return client
    credentials: dict[str, Any] = {}
    if settings.redis_password_file:
        credentials = {
            "credential_provider": PasswordFile(Path(settings.redis_password_file), settings.redis_username)
        }
    elif settings.redis_password or settings.redis_username:
        know(settings.redis_password)
        credentials = {
            "username": settings.redis_username or None,
            "password": settings.redis_password or None,
        }
    tls: dict[str, Any] = {}
    if settings.redis_tls:
        _check_authorities(settings.redis_ca_file)
        tls = {
            "ssl": True,
            "ssl_ca_certs": settings.redis_ca_file or None,
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
        }
    return redis.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        db=settings.redis_db,
        **common,
        **credentials,
        **tls,
    )


def _refuse_fixed(url: str, fixed: Iterable[str]) -> None:
    """Refuse parameters that would change what the pipeline relies on. Raises SettingsInvalid."""
    named = parse_qs(urlsplit(url).query)
    if wrong := sorted(named.keys() & {*fixed, "decode_responses", "encoding", "encoding_errors"}):
        raise SettingsInvalid([f"REDIS_URL=(hidden): leave {', '.join(wrong)} out of it; that is fixed"])


def _check_authorities(path: str) -> None:
    # The client's own error names the server, and not the file.
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise SettingsInvalid([f"REDIS_CA_FILE={path}: {error}"]) from None


def address(settings: Settings) -> str:
    """Name the server for a person, without its password."""
    return settings.redis_address


def is_passing(error: redis.RedisError) -> bool:
    """Tell whether an error is expected to pass by itself: the server is away, loading, or full."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return False
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return True
    return isinstance(error, redis.ResponseError) and _code(error) in _LATER


def lacks_right(error: BaseException) -> bool:
    """Tell whether an ACL keeps this user from a command or a key."""
    # Inside a script the server words it as an error of the script, without a code: the last is Redis 7.0's.
    return isinstance(error, redis.exceptions.NoPermissionError) or (
        isinstance(error, redis.ResponseError)
        and str(error).startswith(("NOPERM", "ACL failure", "The user executing the script"))
    )


def explain(error: BaseException, settings: Settings) -> str:
    """Say in one line what is wrong with the server, and what to change."""
    where = f"Redis at {address(settings)}"
    text = str(error).strip() or type(error).__name__
    if isinstance(error, redis.AuthenticationError):
        return (
            f"{where} refuses the password or user: {text} "
            "(REDIS_USERNAME, REDIS_PASSWORD, REDIS_PASSWORD_FILE)"
        )
    if lacks_right(error):
        return f"{where} lacks a right for this user: {text}"
    if isinstance(error, redis.TimeoutError):
        return f"{where} does not answer: {text}" + (_TLS_HINT if settings.redis_tls else "")
    if text.startswith("WRONGTYPE"):
        return f"{where}: the key {settings.stream_name} is no stream (STREAM_NAME): {text}"
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return f"{where} says: {text}"
    if isinstance(error, redis.ConnectionError) and ("SSL" in text or "CERT" in text.upper()):
        return f"{where} fails at TLS: {text} (REDIS_TLS, REDIS_CA_FILE)"
    if isinstance(error, redis.ConnectionError):
        hint = "; REDIS_TLS where it speaks TLS" if "closed" in text and not settings.redis_tls else ""
        return f"{where} can't be reached: {text} (REDIS_HOST, REDIS_PORT or REDIS_URL{hint})"
    return f"{where} says: {text}"


def error_kind(error: Exception) -> str:
    """Name an error for a metric's label: the server's own code, or the class."""
    code = _code(error)
    if isinstance(error, redis.ResponseError) and code.isupper() and code.isalpha() and len(code) <= 16:
        return code.lower()
    return type(error).__name__


def _code(error: Exception) -> str:
    """Read the server's code: the client takes it off the message where it has a class for it."""
    if isinstance(error, redis.ResponseError) and error.status_code not in {None, "ERR"}:
        return str(error.status_code)
    return str(error).partition(" ")[0]
