"""Connections to the server that stay attentive, for every part of a process.

**Not this server.** After a failover behind a stable address the old server lives on, as a replica that
takes no writes. What it says then (READONLY, UNBLOCKED, MOVED ...) counts for every connection of the
process: none of them sends anything more, each connects anew. How long they wait: sockets.py.

**Unasked.** A server that takes nobody says why at once, and hangs up: too many clients, or protected mode.
The pool would take that for an answer to nothing, and not read it.
"""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from errno import EAGAIN, EINPROGRESS, EINTR, EISCONN, EWOULDBLOCK
from typing import Any, Final, cast

import redis
from redis.connection import AbstractConnection, Connection, UnixDomainSocketConnection

from services.brokers.redis.server.answers import SentinelAnswers, is_elsewhere
from services.brokers.redis.server.attention import Attention
from services.brokers.redis.server.sockets import (
    SLICE_S,
    AttentiveSocket,
    TlsSocket,
    has_shaken_hands,
    is_writable,
)


class AttentiveConnection(AbstractConnection):
    """What each kind of connection does: it is one of a generation, and hears when that is over."""

    def __init__(self, *, attention: Attention, **options: Any) -> None:
        self._attention = attention
        self._generation = attention.generation
        self._options = {"attention": attention, **options}
        self._is_asking = False
        self._has_asked = False
        """Whether anything was sent over the connection that there is."""
        self._masters = ""
        """Whom it watches, where it was found to be a sentinel."""
        super().__init__(**options)

    def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        """Connect, if it is not."""
        if not self.is_connected:
            self._generation = self._attention.generation
            self._has_asked = False
        super().connect_check_health(*arguments, **options)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command; over a new connection where this one is of a server that is not the one."""
        if self._generation != self._attention.generation:
            self._drop()
        cast("Any", super()).send_packed_command(command, check_health)
        self._has_asked = True

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

    def can_read(self, timeout: float = 0) -> bool:
        """Tell whether there is data. Raises redis.RedisError of what is said unasked."""
        is_there = self._has_data(timeout)
        if is_there and not self._has_asked:
            try:
                self.read_response()
            finally:
                self._drop()
        return is_there

    def _has_data(self, timeout: float) -> bool:
        return bool(super().can_read(timeout))

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
        except redis.RedisError:
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
            self._masters = ", ".join(name.decode(errors="replace") for name in role[1]) or "nobody"
            raise SentinelAnswers(self._masters) from error

    def _drop(self) -> None:
        cast("Any", self).disconnect()

    @property
    def _answer_s(self) -> float:
        return cast("float", self.socket_timeout)

    def _heed(self, error: redis.ResponseError) -> None:
        if str(error).lower().startswith("unknown command"):
            if self._masters:
                raise SentinelAnswers(self._masters) from error
            if not self._is_asking:
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
            thread.join(SLICE_S)
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
            self._wait(lambda: is_writable(sock))
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
            secure.settimeout(SLICE_S)
            self._wait(lambda: has_shaken_hands(secure))
        except BaseException:
            secure.close()
            raise
        self._is_open = True
        return TlsSocket(secure, self._answer_s, self._attention)

    def _has_data(self, timeout: float) -> bool:
        """Tell whether there is data. Raises redis.ConnectionError."""
        try:
            return super()._has_data(timeout) and cast("TlsSocket", self._sock).has_data()
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
            sock.settimeout(SLICE_S)  # it is there at once, or full
            sock.connect(self.path)
        except BaseException:
            sock.close()
            raise
        return AttentiveSocket(sock, self._answer_s, self._attention)
