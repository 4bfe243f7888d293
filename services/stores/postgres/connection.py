"""Where the database is, and connections to it.

An address is given as DATABASE_URL, by libpq's own variables (PGHOST, PGUSER, PGPASSWORD, PGSSLMODE,
PGSSLROOTCERT, PGPASSFILE, PGSERVICE, ...), or by both: what the URL does not say, they say. The URL is read
strictly before libpq sees it: what could be misread, such as an @ in a password, is refused, and no error
tells a piece of it.
"""

import contextlib
import os
import re
import select
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.waiting import Ready, Wait

from services.runtime.address import may_be_host
from services.runtime.redact import know
from services.runtime.small_files import FileUnreadable, read_small
from services.stores.postgres.errors import NoAnswer

T = TypeVar("T")

SCHEMES: Final = ("postgresql", "postgres")
HINT: Final = (
    "write postgresql://user:password@host:port/database?sslmode=verify-full, and percent-encode what a "
    "user name "
    "or password has of @ as %40, / as %2F, ? as %3F, : as %3A, % as %25"
)

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "gssencmode": ("disable", "prefer", "require"),
    "channel_binding": ("disable", "prefer", "require"),
}
_NOT_YOURS: Final = frozenset({"client_encoding", "replication"})
_LONGEST_SLICE_S: Final = 0.25
_DEAF_S: Final = 1.0
"""How long an answer is waited for once we are asked to stop."""
_CANCEL_S: Final = 1.0
_CONNECT_SLICE_S: Final = 0.1
_EVENTS: Final = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}


class UrlInvalid(ValueError):
    """A text is no address of a database; the message says why, and tells nothing of it."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for no answer longer than `limit_s`, nor long once it is asked to stop.

    An answer that does not come in time ends the connection: nobody could tell it from the next one. Raises
    NoAnswer then.
    """

    limit_s: float = float("inf")
    is_stopping: Callable[[], bool] = staticmethod(lambda: False)

    def wait(self, gen: Generator[Wait, Ready, T], _interval: float = 0.0, timeout: float | None = None) -> T:
        """Wait for what a generator of psycopg waits for, and give its result. Raises NoAnswer."""
        started = time.monotonic()
        limit_s = self.limit_s if timeout is None else min(timeout, self.limit_s)
        poller = select.poll()
        try:
            wanted = next(gen)
            while True:
                poller.register(self.pgconn.socket, _EVENTS[Wait(wanted)])
                waited_s = time.monotonic() - started
                self._refuse_longer(waited_s, limit_s)
                slice_s = max(0.0, min(limit_s - waited_s, _LONGEST_SLICE_S))
                found = poller.poll(slice_s * 1000 + 1)
                if found:
                    wanted = gen.send(_ready(found[0][1]))
        except StopIteration as stop:
            result: T = stop.value
            return result
        except (NoAnswer, KeyboardInterrupt):
            gen.close()
            # Else what it does goes on there: a commit that waits for a standby, with its locks.
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=_CANCEL_S)
            self.pgconn.finish()
            raise

    def _refuse_longer(self, waited_s: float, limit_s: float) -> None:
        if waited_s > limit_s or (waited_s > _DEAF_S and self.is_stopping()):
            raise NoAnswer(f"no answer within {waited_s:.1f} s")


def _ready(events: int) -> Ready:
    ready = 0
    # An error or a hang-up is found out by reading.
    if events & ~select.POLLOUT:
        ready |= Ready.R
    if events & select.POLLOUT:
        ready |= Ready.W
    return Ready(ready)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database and how long it is waited for. Making one raises UrlInvalid for a URL that can't be used."""

    url: str = field(default="", repr=False)
    password_file: str = ""
    """Holds the password; read again at each connection, so it can be rotated."""
    connect_timeout_s: float = 5.0
    timeout_s: float = 4.0
    """The longest that one statement may take."""
    lock_timeout_s: float = 3.0
    """The longest that it may wait for somebody else's lock."""
    application_name: str = "telemetry"
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the URL says, by libpq's names."""

    @classmethod
    def of(cls, url: str, **more: Any) -> Self:
        """Read a URL. Raises UrlInvalid, which tells nothing of it."""
        return cls(url=url, parameters=read_url(url), **more)

    @property
    def place(self) -> str:
        """Name it for a person, without user and password."""
        found = self.parameters
        hosts = (found.get("host") or found.get("hostaddr") or os.environ.get("PGHOST") or "localhost").split(
            ","
        )
        ports = (found.get("port") or os.environ.get("PGPORT") or "5432").split(",")
        user = found.get("user") or os.environ.get("PGUSER") or ""
        name = found.get("dbname") or os.environ.get("PGDATABASE") or user
        named = zip(hosts, ports if len(ports) == len(hosts) else ports[:1] * len(hosts), strict=True)
        return f"{','.join(f'{host}:{port or 5432}' for host, port in named)}/{name}"

    def named(self, part: str) -> Self:
        """Give the same database for another part of ours, as pg_stat_activity shows it."""
        return replace(self, application_name=f"{self.application_name}:{part}"[:63])

    def connect(
        self, is_stopping: Callable[[], bool] = lambda: False, limit_s: float | None = None
    ) -> Connection:
        """Connect; what is sent is its own transaction. Raises psycopg.Error.

        `limit_s`: how long an answer is waited for; None: as the timeouts of a statement say.
        """
        parameters: dict[str, Any] = {**self.parameters}
        if self.password_file:
            parameters["password"] = self._password()
        for secret in (
            parameters.get("password"),
            os.environ.get("PGPASSWORD"),
            parameters.get("sslpassword"),
        ):
            know(secret or "")
        ours = {
            "connect_timeout": str(max(2, round(self.connect_timeout_s))),
            "application_name": self.application_name,
            # A peer that is gone without a word is found out within half a minute, whatever we wait for.
            "keepalives": "1", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3",
            "tcp_user_timeout": str(int(self.timeout_s * 2000)),
        }  # fmt: skip
        connection = _Attempt({**ours, **parameters, "client_encoding": "UTF8"}).wait(
            self._longest_connect_s, is_stopping
        )
        know(connection.info.password or "")  # of a passfile
        # Both ends of a wait: the server's own timeouts come first, so that it tells what it waited for.
        connection.limit_s = self.timeout_s + 1 if limit_s is None else limit_s
        connection.is_stopping = is_stopping
        return connection

    @property
    def _longest_connect_s(self) -> float:
        """How long all of it may take: each host its time, and as much for the name servers."""
        hosts = self.parameters.get("host") or os.environ.get("PGHOST") or ""
        return max(2.0, self.connect_timeout_s) * (hosts.count(",") + 2)

    def _password(self) -> str:
        try:
            text = read_small(Path(self.password_file))
        except FileUnreadable as error:
            raise psycopg.OperationalError(f"no password supplied: DATABASE_PASSWORD_FILE: {error}") from None
        if text is None:
            raise psycopg.OperationalError(
                "no password supplied: DATABASE_PASSWORD_FILE: there is no such file"
            )
        return text.strip()


class _Attempt:
    """A connection that is made in a thread: nothing else ends a wait for a name server."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._lock = threading.Lock()
        self._is_given_up = False
        self._is_over = threading.Event()
        self._connection: Connection | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="connect", daemon=True).start()

    def wait(self, limit_s: float, is_stopping: Callable[[], bool]) -> Connection:
        """Give the connection. Raises psycopg.Error; NoAnswer where that takes longer, or we are to stop."""
        began, waited_s = time.monotonic(), 0.0
        try:
            while not self._is_over.wait(_CONNECT_SLICE_S):
                waited_s = time.monotonic() - began
                if waited_s > limit_s or (waited_s > _DEAF_S and is_stopping()):
                    break
        except BaseException:  # Ctrl-C
            self._give_up()
            raise
        if self._connection is not None:
            return self._connection
        self._give_up()
        raise self._error or NoAnswer(f"no connection within {waited_s:.1f} s")

    def _run(self) -> None:
        connection = None
        try:
            connection = Connection.connect(**self._parameters, autocommit=True, prepare_threshold=None)
        except UnicodeError:  # of PGHOST or of a service file: read_url refuses one of a URL
            self._error = psycopg.OperationalError("could not translate host name: it is no name of a host")
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error
        with self._lock:
            self._connection = connection
            if self._is_given_up:
                self._close()
        self._is_over.set()

    def _give_up(self) -> None:
        with self._lock:
            self._is_given_up = True
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def read_url(url: str) -> dict[str, str]:
    """Read a URL into libpq's parameters; nothing of an empty one.

    Raises UrlInvalid, which tells nothing of it.
    """
    if not url:
        return {}
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        raise UrlInvalid("its scheme is none of postgresql, postgres")
    if any(one.isspace() or not one.isprintable() for one in rest):
        raise UrlInvalid("there is white space in it, or what can't be printed")
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :]
    if "@" in behind:
        raise UrlInvalid("an @ stands behind a / or a ?: those in a password are %2F and %3F")
    if authority.count("@") > 1:
        raise UrlInvalid("there are two @ in it: the one in a user name or password is %40")
    if re.search("%(?![0-9a-fA-F]{2})|%00", rest):
        raise UrlInvalid("a % in it begins no code such as %40: the one in a password is %25")
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(f"postgresql://{rest}").items()}
    except psycopg.Error as error:
        name = re.search('query parameter: "([a-z_]{1,40})"', str(error))
        raise UrlInvalid(f"there is no parameter {name[1]}" if name else "libpq can't read it") from None
    _check(found)
    return found


def _check(found: Mapping[str, str]) -> None:
    for host in found.get("host", "").split(","):
        if host and not host.startswith(("/", "@")) and not may_be_host(host):  # else it is a socket
            raise UrlInvalid("its host is no name of one, nor an address")
    for port in found.get("port", "").split(","):
        if port and not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
            raise UrlInvalid(
                "what stands behind the host's colon is no port from 1 to 65535 (a password stands "
                "before an @)"
            )
    for name, choices in _CHOICES.items():
        if name in found and found[name] not in choices:
            raise UrlInvalid(f"{name} is one of {', '.join(choices)}")
    if taken := sorted(_NOT_YOURS & found.keys()):
        raise UrlInvalid(f"leave {taken[0]} out of it: that is fixed")
