"""Clients that cost little beside what they measure: requests are made before, and answers hardly read."""

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from bench.plan import BenchFailed

_TIMEOUT_S: Final = 30.0
_START_TIMEOUT_S: Final = 60.0


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """Make a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def connect(port: int) -> socket.socket:
    """Open a connection."""
    found = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def wait_until_served(port: int, check: Callable[[], None]) -> None:
    """Wait until somebody listens. `check` raises when it never will."""
    ends = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < ends:
        check()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise BenchFailed(f"nobody listens on port {port}")


def send_in_waves(port: int, requests: Sequence[bytes], connections: int) -> float:
    """Send all requests, one on each connection at a time; gives seconds. Raises BenchFailed."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(port)) for _ in range(connections)]
        started = time.perf_counter()
        for first in range(0, len(requests), connections):
            wave = list(zip(sockets, requests[first : first + connections], strict=False))
            for one, data in wave:
                one.sendall(data)
            for one, _ in wave:
                read_success(one)
        return time.perf_counter() - started


def send_steadily(
    port: int, make: Callable[[], bytes], interval_s: float, duration_s: float, connections: int
) -> None:
    """Send a request each `interval_s`, on one connection after the other. Raises BenchFailed."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(port)) for _ in range(connections)]
        started = time.monotonic()
        for number in range(int(duration_s / interval_s)):
            wait_s = started + number * interval_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            one = sockets[number % connections]
            if number >= connections:
                read_success(one)
            one.sendall(make())
        for one in sockets:
            read_success(one)


def read_success(one: socket.socket) -> None:
    """Read an answer. Raises BenchFailed where it is none of success."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := one.recv(1 << 16)):
            raise BenchFailed("a connection was closed in place of an answer")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 20"):
        raise BenchFailed(f"an answer of no success: {data[:500].decode(errors='replace')}")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += one.recv(1 << 16)
