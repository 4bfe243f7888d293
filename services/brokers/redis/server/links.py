"""Connections to the server that stay attentive, for every part of a process.

- **Asked to stop.** A wait is cut into slices. Who was asked to stop waits for a server's answer for a second
  and no longer; a server that is frozen, or sends a byte a second, makes nobody deaf to SIGTERM.
- **A whole answer has a deadline**, and not each of its pieces: REDIS_TIMEOUT_S, and more for what is long.
- **Not this server.** After a failover behind a stable address the old server lives on, as a replica that
  takes no writes. What it says then (READONLY, UNBLOCKED, MOVED ...) counts for every connection of the
  process: none of them sends anything more, each connects anew.
- **TLS**: session tickets, which a server sends when it likes, are no answer.
"""

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from errno import EAGAIN, EINPROGRESS, EINTR, EISCONN, EWOULDBLOCK
from typing import Any, Final, cast

import redis
from redis.connection import AbstractConnection, Connection, UnixDomainSocketConnection

_SLICE_S: Final = 0.1
"""How long a wait lasts before we look whether we were asked to stop."""
_LAST_WAIT_S: Final = 1.2
"""How long a server that we wait for when we are asked to stop still has. Longer than a read may block."""
_IN_VAIN_S: Final = 0.05
"""How long it has from then on, once one such wait was in vain."""
_SLOWEST_BYTES_PER_S: Final = 8192
"""A long answer may take longer than the timeout, where it comes in at this rate."""

_ELSEWHERE: Final = frozenset(
    {
        "READONLY",
        "UNBLOCKED",
        "MOVED",
        "ASK",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "NOREPLICAS",
        "REDIRECT",
        "FAILOVER",
    }
)
"""What a server says that is not, or no longer, the one to talk to."""


def code_of(error: BaseException) -> str:
    """Read the server's code of an error; the client takes it off the message where it has a class for it."""
    if isinstance(error, redis.ResponseError) and error.status_code not in {None, "ERR"}:
        return str(error.status_code)
    return str(error).partition(" ")[0].removeprefix("-")


def is_elsewhere(error: BaseException) -> bool:
    """Tell whether a server says that it is not the one to talk to: another one has the address by now."""
    return isinstance(error, redis.ResponseError) and code_of(error) in _ELSEWHERE


class SentinelAnswers(redis.ResponseError):
    """What answers is a Redis Sentinel; the message names the masters that it watches."""


class Attention:
    """What all connections of a process heed: whether it was asked to stop, and which server is the one.

    Threads may share it.
    """

    def __init__(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._is_stopping = is_stopping
        self._asked_at: float | None = None
        self._in_vain = False
        self.generation = 0
        """Counts how often a server said that it is not the one; older connections are not used any more."""

    def elsewhere(self) -> None:
        """Note that a server said so: every connection of the process is made anew."""
        self.generation += 1

    def is_over(self, waits_since: float, now: float) -> bool:
        """Tell whether a wait has to end, since we were asked to stop. Times on the monotonic clock."""
        if not self._is_stopping():
            return False
        if self._asked_at is None:
            self._asked_at = now
        patience_s = _IN_VAIN_S if self._in_vain else _LAST_WAIT_S
        if now < max(self._asked_at, waits_since) + patience_s:
            return False
        self._in_vain = True
        return True


class AttentiveSocket:
    """A socket as the client library uses it, whose waits end in time."""

    def __init__(self, sock: socket.socket, timeout_s: float, attention: Attention) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self._attention = attention
        self._since: float | None = None
        """When we began to wait for the answers to what was sent last."""
        self._until = 0.0
        sock.settimeout(min(_SLICE_S, timeout_s))

    def sendall(self, data: Any) -> None:
        """Send all of it, or raise TimeoutError or another OSError."""
        self._since = None
        sent = self._send(data)
        if sent < len(data):
            view = memoryview(data)
            since = time.monotonic()
            until = since + self._timeout_s
            while sent < len(view):
                piece = self._send(view[sent:])
                sent += piece
                until += piece / _SLOWEST_BYTES_PER_S
                self._check(since, until)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive what there is; waits for it. Raises TimeoutError where the whole answer takes too long."""
        return cast("int", self._receive(self._sock.recv_into, buffer, nbytes, flags))

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive what there is; waits for it, but for a peek."""
        if flags:
            return self._sock.recv(size, flags)
        return cast("bytes", self._receive(self._sock.recv, size))

    def settimeout(self, timeout_s: float | None) -> None:
        """Wait not at all (0), or as long as an answer may take."""
        self._sock.settimeout(0 if timeout_s == 0 else min(_SLICE_S, self._timeout_s))

    def fileno(self) -> int:
        """Give the descriptor, to poll it."""
        return self._sock.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _send(self, data: Any) -> int:
        try:
            return self._sock.send(data)
        except TimeoutError:
            return 0

    def _receive(self, receive: Callable[..., Any], *arguments: Any) -> Any:
        since = self._since
        if since is None:
            since = self._since = time.monotonic()
            self._until = since + self._timeout_s
        else:
            self._check(since, self._until)
        while True:
            try:
                received = receive(*arguments)
            except TimeoutError:
                self._check(since, self._until)
                continue
            size = received if isinstance(received, int) else len(received)
            self._until += size / _SLOWEST_BYTES_PER_S
            return received

    def _check(self, since: float, until: float) -> None:
        now = time.monotonic()
        if now >= until or (now >= since + _SLICE_S and self._attention.is_over(since, now)):
            raise TimeoutError("timed out")


class TlsSocket(AttentiveSocket):
    """The same with TLS, where something to read need be no data: tickets and keys come with no answer."""

    def __init__(self, sock: ssl.SSLSocket, timeout_s: float, attention: Attention) -> None:
        super().__init__(sock, timeout_s, attention)
        self._read_ahead = b""

    def has_data(self) -> bool:
        """Read what is there; tell whether there is data in it. Raises OSError, also where it is closed."""
        if not self._read_ahead:
            self._sock.settimeout(0)
            try:
                self._read_ahead = self._sock.recv(65536)
                if not self._read_ahead:
                    raise ConnectionResetError("the server closed the connection")
            except (ssl.SSLWantReadError, BlockingIOError):
                pass
            finally:
                self.settimeout(None)
        return bool(self._read_ahead)

    def pending(self) -> int:
        """Tell how much was received and not read."""
        return len(self._read_ahead) + cast("ssl.SSLSocket", self._sock).pending()

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As above; what was read ahead comes first."""
        if self._read_ahead:
            size = min(len(self._read_ahead), nbytes or len(buffer))
            memoryview(buffer)[:size] = self._read_ahead[:size]
            self._read_ahead = self._read_ahead[size:]
            return size
        return super().recv_into(buffer, nbytes, flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As above; what was read ahead comes first."""
        if self._read_ahead and not flags:
            piece, self._read_ahead = self._read_ahead[:size], self._read_ahead[size:]
            return piece
        return super().recv(size, flags)


class AttentiveConnection(AbstractConnection):
    """What each kind of connection does: it is one of a generation, and hears when that is over."""

    def __init__(self, *, attention: Attention, **options: Any) -> None:
        self._attention = attention
        self._generation = attention.generation
        self._options = {"attention": attention, **options}
        self._is_asking = False
        super().__init__(**options)

    def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        """Connect, if it is not."""
        if not self.is_connected:
            self._generation = self._attention.generation
        super().connect_check_health(*arguments, **options)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command; over a new connection where this one is of a server that is not the one."""
        if self._generation != self._attention.generation:
            self._drop()
        cast("Any", super()).send_packed_command(command, check_health)

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read an answer."""
        try:
            answer = super().read_response(*arguments, **options)
        except redis.ResponseError as error:
            self._heed(error)
            raise
        except ValueError as error:  # of a MOVED without an address, say: the client reads more into it
            self._drop()
            raise redis.InvalidResponse(f"an error of the server can't be read: {error}") from error
        if isinstance(answer, list) and answer and isinstance(answer[0], redis.ResponseError):
            self._heed(answer[0])  # of a transaction
        return answer

    def is_over(self) -> bool:
        """Tell whether this connection is no more to be used: closed by the server, or by what it said.

        Only where no answer is under way.
        """
        if not self.is_connected:
            return False
        if self._generation != self._attention.generation:
            return True
        try:
            return self.can_read()
        except (redis.ConnectionError, redis.TimeoutError):
            return True

    def _ask_who(self, error: redis.ResponseError) -> None:
        """Ask who it is that lacks a command: a sentinel lacks all of ours. Over a connection of its own.

        Raises SentinelAnswers where it is one.
        """
        self._is_asking = True
        # Made as this one was: other answers may be under way here.
        other = type(self)(**self._options)
        other._is_asking = True  # noqa: SLF001 - its own kind
        asking = cast("Any", other)
        try:
            asking.send_command("ROLE")
            role = asking.read_response()
        except (redis.RedisError, OSError):
            return
        finally:
            asking.disconnect()
        if isinstance(role, list) and role[:1] == [b"sentinel"]:
            names = ", ".join(name.decode(errors="replace") for name in role[1]) or "nobody"
            raise SentinelAnswers(names) from error

    def _drop(self) -> None:
        cast("Any", self).disconnect()

    @property
    def _answer_s(self) -> float:
        return cast("float", self.socket_timeout)

    def _heed(self, error: redis.ResponseError) -> None:
        if str(error).lower().startswith("unknown command") and not self._is_asking:
            self._ask_who(error)
        # One server may say it on each of its connections; those are all of one generation.
        if is_elsewhere(error) and self._generation == self._attention.generation:
            self._attention.elsewhere()


class TcpConnection(AttentiveConnection, Connection):
    """To a host and port."""

    def _connect(self) -> Any:
        return AttentiveSocket(self._open(), self._answer_s, self._attention)

    def _open(self) -> socket.socket:
        """Connect to the first address of the host that answers. Raises OSError."""
        error: OSError = OSError("the host has no address")
        for family, kind, protocol, _, address in self._addresses():
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as why:
                error = why
                continue
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in self.socket_keepalive_options.items():
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)
                self._reach(sock, address)
            except OSError as why:
                sock.close()
                error = why
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise error

    def _addresses(self) -> Sequence[Any]:
        """Look up the host. In a thread: nothing else ends a wait for a name server. Raises OSError."""
        found: list[Any] = []

        def look_up() -> None:
            try:
                found.append(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found.append(error)

        thread = threading.Thread(target=look_up, name="name-server", daemon=True)
        thread.start()

        def is_found() -> bool:
            thread.join(_SLICE_S)
            return bool(found)

        self._wait(is_found)
        (answer,) = found
        if isinstance(answer, UnicodeError):
            raise OSError(f"{self.host} is no name of a host")
        if isinstance(answer, OSError):
            raise answer
        return cast("Sequence[Any]", answer)

    def _reach(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code in {EINPROGRESS, EWOULDBLOCK, EAGAIN, EINTR}:
            self._wait(lambda: _is_writable(sock))
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code not in {0, EISCONN}:
            raise OSError(code, os.strerror(code))

    def _wait(self, is_done: Callable[[], bool]) -> None:
        """Wait, a slice at a time, within the timeout of a connect. Raises TimeoutError."""
        since = time.monotonic()
        until = since + cast("float", self.socket_connect_timeout)
        while not is_done():
            now = time.monotonic()
            if now >= until or self._attention.is_over(since, now):
                raise TimeoutError("timed out")


_HUNG_UP: Final = "SSL: it hung up before its first answer"


class TlsConnection(TcpConnection):
    """To a host and port, with TLS. `context` makes a context anew, so that files may be replaced."""

    def __init__(self, *, context: Callable[[], ssl.SSLContext], **options: Any) -> None:
        self._context = context
        self._is_open = False
        """Whether the handshake was done, on our side."""
        self._is_answered = False
        super().__init__(**options)
        self._options["context"] = context

    def _connect(self) -> Any:
        self._is_open = self._is_answered = False
        try:
            context = self._context()
        except (OSError, ValueError) as error:
            raise OSError(f"a TLS file can't be used: {error}") from error
        sock = self._open()
        try:
            secure = context.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
        except BaseException:
            sock.close()
            raise
        try:
            secure.settimeout(_SLICE_S)
            self._wait(lambda: _has_shaken_hands(secure))
        except BaseException:
            secure.close()
            raise
        self._is_open = True
        return TlsSocket(secure, self._answer_s, self._attention)

    def can_read(self, timeout: float = 0) -> bool:
        """Tell whether there is data. Raises redis.ConnectionError."""
        try:
            return super().can_read(timeout) and cast("TlsSocket", self._sock).has_data()
        except (redis.ConnectionError, OSError) as error:
            self._drop()
            raise redis.ConnectionError(self._unanswered(str(error))) from error

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command."""
        try:
            super().send_packed_command(command, check_health)
        except (redis.AuthenticationError, redis.exceptions.BusyLoadingError):
            raise
        except redis.ConnectionError as error:
            raise redis.ConnectionError(self._unanswered(str(error))) from error

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read an answer. A server that wants a certificate says so after the handshake, or only hangs up."""
        try:
            answer = super().read_response(*arguments, **options)
        except redis.ResponseError:
            self._is_answered = True
            raise
        except (redis.AuthenticationError, redis.exceptions.BusyLoadingError):
            raise
        except redis.ConnectionError as error:
            raise redis.ConnectionError(self._unanswered(str(error))) from error
        self._is_answered = True
        return answer

    def _unanswered(self, text: str) -> str:
        if self._is_answered or not self._is_open or _HUNG_UP in text or "_ALERT_" in text:
            return text
        return f"{text}; {_HUNG_UP}, as one does that asks for a certificate, or another one"


class UnixConnection(AttentiveConnection, UnixDomainSocketConnection):
    """To a socket in the file system."""

    def _connect(self) -> Any:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_SLICE_S)  # it is there at once, or full
            sock.connect(self.path)
        except BaseException:
            sock.close()
            raise
        return AttentiveSocket(sock, self._answer_s, self._attention)


def _is_writable(sock: socket.socket) -> bool:
    """Wait a slice for a socket; poll takes any descriptor, and Windows has none."""
    if not hasattr(select, "poll"):
        return bool(select.select([], [sock], [], _SLICE_S)[1])
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    return bool(poller.poll(_SLICE_S * 1000))


def _has_shaken_hands(sock: ssl.SSLSocket) -> bool:
    try:
        sock.do_handshake()
    except TimeoutError:
        return False
    return True


def make_context(parameters: Mapping[str, Any]) -> ssl.SSLContext:
    """Make what TLS needs, of the parameters of an address.

    Raises OSError (ssl.SSLError is one) and ValueError for files that can't be used.
    """
    context = ssl.create_default_context()
    load_into(context, parameters)
    return context


def load_into(context: ssl.SSLContext, parameters: Mapping[str, Any]) -> None:
    """Load the files of an address into a context of a client. Raises as above."""
    verify = parameters.get("ssl_cert_reqs", "required")
    context.check_hostname = verify != "none" and parameters.get("ssl_check_hostname", True)
    context.verify_mode = {
        "none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED
    }[verify]  # fmt: skip
    authorities = [parameters.get(name) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")]
    if any(authorities):
        context.load_verify_locations(*authorities)
    if certificate := parameters.get("ssl_certfile"):
        password = parameters.get("ssl_password") or _no_password
        context.load_cert_chain(certificate, parameters.get("ssl_keyfile"), password)
    if ciphers := parameters.get("ssl_ciphers"):
        context.set_ciphers(ciphers)


def _no_password() -> str:
    # Without one, the library asks on the terminal, and waits.
    raise ValueError("the private key is encrypted, and there is no password for it")
