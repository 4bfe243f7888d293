"""A stable address, as a Service is one: new connections are led elsewhere, old ones stay."""

import contextlib
import selectors
import socket
import threading
from typing import Final, Protocol

_PIECE: Final = 65536


class Target(Protocol):
    """Where connections are led to."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class Forwarder:
    """Forwards TCP connections; `lead_to` says where those go that are yet to come."""

    host: Final = "127.0.0.1"

    def __init__(self, target: Target) -> None:
        self._target = target
        self._listener = socket.create_server((self.host, 0))
        self.port = int(self._listener.getsockname()[1])
        self.accepted = 0
        """Connections that were ever made."""
        self._other: dict[socket.socket, socket.socket] = {}
        self._stop, self._stopped = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for one in (self._listener, self._stopped):
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="forwarder")
        self._thread.start()

    def lead_to(self, target: Target) -> None:
        """Lead new connections there; those that are up stay where they are."""
        self._target = target

    def close(self) -> None:
        """Cut all connections, and listen no more."""
        self._stop.send(b".")
        self._thread.join()
        for one in (*self._other, self._listener, self._stop, self._stopped):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._stopped:
                    return
                if sock is self._listener:
                    self._accept()
                elif sock in self._other:
                    self._forward(sock)

    def _accept(self) -> None:
        here, _ = self._listener.accept()
        self.accepted += 1
        try:
            there = socket.create_connection((self._target.host, self._target.port), timeout=2)
        except OSError:
            here.close()
            return
        there.settimeout(10)
        here.settimeout(10)
        for one, other in ((here, there), (there, here)):
            self._other[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, sock: socket.socket) -> None:
        other = self._other[sock]
        with contextlib.suppress(OSError):
            if piece := sock.recv(_PIECE):
                other.sendall(piece)
                return
        for one in (sock, other):
            del self._other[one]
            self._selector.unregister(one)
            one.close()
