"""Sockets whose waits end in time, as the client library uses them.

- **Asked to stop.** A wait is cut into slices. Who was asked to stop waits for a server's answer for a second
  and no longer; a server that is frozen, or sends a byte a second, makes nobody deaf to SIGTERM.
- **A whole answer has a deadline**, and not each of its pieces: REDIS_TIMEOUT_S, and more for what is long.
- **TLS**: session tickets, which a server sends when it likes, are no answer.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final, cast

from services.brokers.redis.server.attention import Attention

SLICE_S: Final = 0.1
"""How long a wait lasts before we look whether we were asked to stop."""
_SLOWEST_BYTES_PER_S: Final = 8192
"""A long answer may take longer than the timeout, where it comes in at this rate."""


class AttentiveSocket:
    """A socket as the client library uses it, whose waits end in time."""

    def __init__(self, sock: socket.socket, timeout_s: float, attention: Attention) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self._attention = attention
        self._since: float | None = None
        """When we began to wait for the answers to what was sent last."""
        self._until = 0.0
        sock.settimeout(min(SLICE_S, timeout_s))

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
        self._sock.settimeout(0 if timeout_s == 0 else min(SLICE_S, self._timeout_s))

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
        if now >= until or (now >= since + SLICE_S and self._attention.is_over(since, now)):
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


def is_writable(sock: socket.socket) -> bool:
    """Wait a slice for a socket; poll takes any descriptor, and Windows has none."""
    if not hasattr(select, "poll"):
        return bool(select.select([], [sock], [], SLICE_S)[1])
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    return bool(poller.poll(SLICE_S * 1000))


def has_shaken_hands(sock: ssl.SSLSocket) -> bool:
    """Wait a slice for the handshake. Raises OSError."""
    try:
        sock.do_handshake()
    except TimeoutError:
        return False
    return True
