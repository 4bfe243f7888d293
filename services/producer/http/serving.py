"""The server behind the door: a loop in a thread of its own, and connections that have their time.

uvicorn keeps the protocol. It waits without end for the head of a request, whatever its size: here a head has
its time and its size. And where there are more connections than may be, of those with no request the oldest
makes room, so that whoever only opens them keeps nobody out.
"""

import asyncio
import logging
import resource
import socket
import threading
import time
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.producer.http.certificates import Certificates
from services.producer.http.crowd import Crowd
from services.producer.http.handshake import Handshake, make_small
from services.runtime.telemetry.metrics import Metrics

_LONGEST_HEAD: Final = 16_384
"""Bytes of a request's line and headers, or a little more."""
_KEPT_S: Final = 65
"""How long a connection is kept between two requests: longer than balancers keep theirs."""
_BACKLOG: Final = 512
_LEAVE_S: Final = 1.0
"""How long clients may take to hear that they are to connect anew."""
_LOOK_S: Final = 0.02


_OTHER_FILES: Final = 64
"""What a process has open beside its connections, and a little more."""


class DoorClosed(Exception):
    """The address can't be listened at, or not for so many; the message says why."""


def make_room_for(connections: int) -> None:
    """Let this process have so many connections open, where its system gives it less. Raises DoorClosed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError):
        raise DoorClosed(
            f"this process may have {hard:,} files open, and needs {needed:,}: lower it, or raise `ulimit -n`"
        ) from None


def listen(host: str, port: int) -> socket.socket:
    """Take an address; nobody can connect before it is served. Raises DoorClosed."""
    try:
        flags = socket.AI_PASSIVE
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        family, kind, protocol, _, address = found[0]
        # asyncio lets answers go at once (TCP_NODELAY) only where the socket says that it speaks TCP. Else
        # the body of an answer waits behind its head until the client has confirmed that: 40 ms.
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address[:2])
        except BaseException:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        raise DoorClosed(getattr(error, "strerror", None) or str(error)) from None
    return listening


class _Connection(HttpToolsProtocol):
    """A connection whose heads have their time and size."""

    crowd: Crowd
    read_s: float
    metrics: Metrics

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._is_in_head = True
        self._timer: asyncio.TimerHandle | None = None
        self.crowd.came(self)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        self.crowd.went(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            if self._timer is None:
                self._begin_head()
            self._head_bytes += len(data)
        super().data_received(data)
        # A whole body may have come along; what is still a head then has no end.
        if self._is_in_head and self._head_bytes > _LONGEST_HEAD and not self.transport.is_closing():
            self._answer(431, "Request Header Fields Too Large", "the head of the request is too large")

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        self._end_timer()
        self.crowd.is_busy(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_in_head = True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self.crowd.is_idle(self)

    def drop(self) -> None:
        """Close it, since there are too many."""
        self._answer(503, "Service Unavailable", "there are too many connections; try again")

    def _begin_head(self) -> None:
        self._end_timer()
        self._timer = self.loop.call_later(self.read_s, self._too_slow)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._begin_head()  # the one before it still waits for its answer
        elif self._head_bytes:
            self._answer(408, "Request Timeout", "the head of the request was not there in time")
        else:
            self.transport.close()

    def _answer(self, status: int, phrase: str, message: str) -> None:
        self.metrics.count("telemetry_http_requests_total", endpoint="other", code=str(status))
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        length = f"Content-Length: {len(message) + 1}\r\n"
        self.transport.write(f"{head}{length}\r\n{message}\n".encode())
        self.transport.close()


class _Server(uvicorn.Server):
    """Goes on for a moment once it is to end, and answers that each connection ends with its answer.

    A connection that is kept is else closed while its client may be sending on it.
    """

    is_leaving = False
    is_over = False
    """Whether nothing new is taken any more."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait until no connection is left, a moment at most; then take no new ones, and end."""
        self.is_leaving = True
        ends = time.monotonic() + _LEAVE_S
        while self.server_state.connections and time.monotonic() < ends:  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(_LOOK_S)
        self.is_over = True
        await super().shutdown(sockets)


class Serving:
    """Serves an application until it is stopped. `end_s`: how long what has begun may take then.

    Without `certificates` it speaks no TLS.
    """

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        metrics: Metrics,
        logger: logging.Logger,
        *,
        certificates: Certificates | None,
        connections: int,
        read_s: float,
        end_s: float,
    ) -> None:
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # what it says of clients is answered to them
        crowd = Crowd(connections, metrics)
        protocol: type[asyncio.Protocol] = type(
            "Connection", (_Connection,), {"crowd": crowd, "read_s": read_s, "metrics": metrics}
        )
        if certificates is not None:
            about = {
                "behind": protocol,
                "certificates": certificates,
                "crowd": crowd,
                "read_s": read_s,
                "is_over": self._is_over,
                "logger": logger,
            }
            make_small()
            protocol = type("Handshake", (Handshake,), about)
        self._certificates = certificates
        self._listening = listening
        self._server = _Server(
            uvicorn.Config(
                self._telling(app),
                http=protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEPT_S,
                timeout_graceful_shutdown=int(end_s) + 1,
            )
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests after a moment, and answer those that have begun."""
        self._server.should_exit = True

    @property
    def is_open(self) -> bool:
        """Whether a request may still be answered."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._listening.close()

    def _telling(self, app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            async def tell(message: Message) -> None:
                if message["type"] == "http.response.start" and self._server.is_leaving:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
                await send(message)

            await app(scope, receive, tell)

        return answer

    def _run(self) -> None:
        asyncio.run(self._serve())

    def _is_over(self) -> bool:
        return self._server.is_over

    async def _serve(self) -> Any:
        if self._certificates is not None:
            self._looking = asyncio.create_task(self._certificates.keep_looking())  # it ends with the loop
        await self._server.serve(sockets=[self._listening])
