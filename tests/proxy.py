"""A network between clients and a server, that does to their connections what networks do.

It listens on a port of its own and carries bytes both ways. Told to, it is slow, it cuts connections in the
middle of a reply, it loses replies, or it carries nothing while all connections stay open. Everything is
counted, so that a test can see that it happened.
"""

import contextlib
import random
import select
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from servers import Address

_PIECE: Final = 65_536
_LOOK_S: Final = 0.05
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends a reset, and what was not sent is gone."""


@dataclass
class Weather:
    """How the network is now. All of it may change at any time."""

    piece_bytes: int = _PIECE
    """At most so many bytes are carried at once."""
    pause_s: float = 0.0
    """So long each piece is on its way."""
    resets: float = 0.0
    """Share of replies that end with a reset somewhere in their middle."""
    losses: float = 0.0
    """Share of replies that are lost; what else that connection would get is lost as well."""
    is_open: bool = True
    """False: nothing is carried, and nothing closed. Connections are still taken."""


class Proxy:
    """Carries connections to a server. `weather` may be changed meanwhile."""

    host = "127.0.0.1"

    def __init__(self, target: Address, seed: int = 0) -> None:
        self.target = target
        self.weather = Weather()
        self.resets = 0
        self.losses = 0
        self._chance = random.Random(seed)
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._threads: list[threading.Thread] = []
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server((self.host, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._spawn(self._accept)

    @contextlib.contextmanager
    def in_weather(self, weather: Weather) -> Iterator[None]:
        """Have another weather for a while, and then a fine one."""
        self.weather = weather
        try:
            yield
        finally:
            self.weather = Weather()

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)

    def lead_to(self, target: Address) -> None:
        """Lead to another server from now on, as a Service does after a failover: connections end."""
        self.target = target
        self.cut()

    def close(self) -> None:
        """Close all."""
        self._ends.set()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=10)

    def _spawn(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ends.is_set():
            ready, _, _ = (
                select.select([self._listener], [], [], _LOOK_S) if self._listening() else ([], 0, 0)
            )
            if not ready:
                continue
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((self.target.host, self.target.port), timeout=5)
            except OSError:
                _reset(near)
                continue
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            self._spawn(self._carry, pair, near, far, False)
            self._spawn(self._carry, pair, far, near, True)

    def _listening(self) -> bool:
        return self._listener.fileno() >= 0 and not self._ends.is_set()

    def _carry(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, to: socket.socket,
        are_replies: bool,
    ) -> None:  # fmt: skip
        is_lost = False
        try:
            while not self._ends.is_set():
                weather = self.weather
                if not weather.is_open:
                    self._ends.wait(_LOOK_S)
                    continue
                if not select.select([source], [], [], _LOOK_S)[0]:
                    continue
                data = source.recv(weather.piece_bytes)
                if not data:
                    break
                if weather.pause_s:
                    self._ends.wait(weather.pause_s)
                if are_replies and not is_lost and self._happens(weather.losses):
                    is_lost = True
                    self.losses += 1
                if is_lost:
                    continue
                if are_replies and self._happens(weather.resets):
                    self.resets += 1
                    to.sendall(data[: self._chance.randrange(len(data))])
                    break
                to.sendall(data)
        except (OSError, ValueError):  # the other direction has ended both
            pass
        self._end(pair)

    def _happens(self, share: float) -> bool:
        return share > 0 and self._chance.random() < share

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.discard(pair)
        for one in pair:
            _reset(one)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
