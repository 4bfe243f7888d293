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
from collections.abc import Collection
from typing import Any, Final

import httptools
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.producer.http.certificates import Certificates
from services.producer.http.crowd import Crowd
from services.producer.http.handshake import Handshake, make_small
from services.producer.http.refusals import AWAY_RETRY_S
from services.runtime.telemetry.metrics import Metrics

_LONGEST_HEAD: Final = 16_384
"""Bytes of a request's line and headers, or a little more; and of what is no part of its body behind them."""
_MOST_AHEAD: Final = 100
"""Requests that a connection may have sent ahead, before the first of them is answered."""
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


class _Flow(FlowControl):
    """Reads no more while requests wait for the answer to the one before them: they wait in memory."""

    def __init__(self, transport: asyncio.Transport, waiting: Collection[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting
        self._is_passed_over = False

    def resume_reading(self) -> None:
        """Read on, where none waits."""
        if self._is_passed_over or not self._waiting:
            super().resume_reading()

    def pass_over(self) -> None:
        """Read on in any case: who closes with something unread takes back what its client has not read."""
        self._is_passed_over = True
        self.resume_reading()


class _TooFarAhead(Exception):
    """More requests were sent ahead than may be."""


class _Connection(HttpToolsProtocol):
    """A connection whose heads have their time and size, and whose client has its time to take an answer."""

    crowd: Crowd
    read_s: float
    metrics: Metrics

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: _Flow = _Flow(transport, self.pipeline)
        transport.set_write_buffer_limits(high=1)  # so that it is told what the client does not take
        self._head_bytes = 0
        self._is_in_head = True
        self._offering = b""
        """Method of a request that offers another protocol, behind its head; empty: none does."""
        self._version = b""
        self._is_deaf = False
        """Whether nothing more can be read: what is in hand is answered, and no more."""
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self.crowd.came(self)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        self._end_stall()
        self.crowd.went(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._is_in_head and self._timer is None:
            self._begin_head()
        self._head_bytes += len(data)
        self._read(data)
        # A whole body may have come along; what is still none then has no end.
        if self._head_bytes > _LONGEST_HEAD and not self.transport.is_closing():
            self._refuse(431, "Request Header Fields Too Large", "the head of the request is too large")

    def _read(self, data: bytes) -> None:
        """Read on. The parser takes a request that offers another protocol for one without a body.

        Programs in Java offer HTTP/2 so. There is HTTP/1.1 alone here: it is read as if it offered nothing.
        """
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self.parser = httptools.HttpRequestParser(self)
            rest = data[offer.args[0] :]
            self._read(b"%b%b" % (self._head_without_offer(), rest))
        except httptools.HttpParserError:
            self._refuse(400, "Bad Request", "this is no request of HTTP/1.1")

    def _head_without_offer(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self._offering, self.url, self._version)]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # what stands behind a body is wanted by nobody
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MOST_AHEAD:
            raise _TooFarAhead
        self._offering = b""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._offering, self._version = self.parser.get_method(), self.parser.get_http_version().encode()
            return
        self._is_in_head = False
        self._head_bytes = 0
        self._end_timer()
        self.crowd.is_busy(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offering:
            return
        super().on_message_complete()
        self._is_in_head = True
        self._head_bytes = 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self.crowd.is_idle(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end_stall()
        self._stall = self.loop.call_later(self.read_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_stall()
        super().resume_writing()

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

    def _end_stall(self) -> None:
        """Note that the client has taken all that was sent to it."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _refuse(self, status: int, phrase: str, message: str) -> None:
        """Answer what can't be read. Where whole requests are in hand they are answered, and it is not.

        Its answer would be taken for theirs. The client sees the connection end, and sends the rest anew.
        """
        one = self.cycle
        if one is not None and not one.response_complete and (self.pipeline or not one.more_body):
            one.keep_alive = False
            self._is_deaf = True
            self.flow.pass_over()
            return
        self._answer(status, phrase, message)

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
            has_begun = False

            async def tell(message: Message) -> None:
                nonlocal has_begun
                has_begun = True
                if message["type"] == "http.response.start" and self._server.is_leaving:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
                await send(message)

            try:
                await app(scope, receive, tell)
            except asyncio.CancelledError:
                if has_begun:
                    raise
                # The time is up that what had begun may take at the end.
                await _say_later(tell)

        return answer

    def _run(self) -> None:
        asyncio.run(self._serve())

    def _is_over(self) -> bool:
        return self._server.is_over

    async def _serve(self) -> Any:
        if self._certificates is not None:
            self._looking = asyncio.create_task(self._certificates.keep_looking())  # it ends with the loop
        await self._server.serve(sockets=[self._listening])


async def _say_later(send: Send) -> None:
    text = b"this could not be done before the end; send it again\n"
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(text)).encode()),
        (b"retry-after", str(AWAY_RETRY_S).encode()),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": text})
