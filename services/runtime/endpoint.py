"""`/livez`, `/readyz` and `/metrics` on one port, for probes and scrapers, whoever else connects to it.

One thread serves all connections (asyncio), so a slow one costs a descriptor and no thread. Their number is
bounded: where there is one too many, the oldest is closed, which among many slow ones is never a probe. A
request has a deadline, from its first byte to the last of the answer. A port that is taken costs the
endpoint, not the pipeline.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import re
import socket
import threading
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self, cast

from prometheus_client import exposition

from services.runtime.health import Health
from services.runtime.screen import shown
from services.runtime.telemetry.metrics import Metrics

_DEADLINE_S: Final = 10.0
"""For one request and its answer, or for none at all."""
_MOST_CONNECTIONS: Final = 128
_ACCEPTED_TOGETHER: Final = 32
"""Connections that are taken between two looks at those that have something to say. No more than a quarter of
them: one that asks at once has its answer before it can be the oldest."""
_WAITING: Final = 128
"""Connections that the system keeps for us meanwhile."""
_MOST_COLLECTING: Final = 4
"""Scrapes that are answered at a time. Each may ask the disk, which may not answer, so each has a thread."""
_LONGEST_HEAD: Final = 16_384
"""Bytes of a request."""
_REST_S: Final = 1.0
"""How long a connection is kept after its last answer, until the other side has closed it."""
_END_S: Final = 2.0
_PLAIN: Final = "text/plain; charset=utf-8"
_REQUEST: Final = re.compile(r"([A-Z]{1,20}) (\S+) HTTP/([0-9])\.([0-9])")


class Page(NamedTuple):
    """What is answered to a path, always the same."""

    kind: str
    """Its Content-Type."""
    body: bytes


class HealthServer:
    """Serves health and metrics until closed. Port 0 serves nothing; an empty `host` is every address.

    `pages`: what is served beside them, by path.
    """

    def __init__(
        self,
        port: int,
        health: Health,
        metrics: Metrics,
        logger: logging.Logger,
        host: str = "",
        pages: Mapping[str, Page] = MappingProxyType({}),
    ) -> None:
        self._serving: _Serving | None = None
        if port == 0:
            return
        try:
            listening = _listen(host, port)
            # Whoever is taken from it inherits this: the end of a long answer waits for no confirmation.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, UnicodeError) as error:  # taken, not ours to take, or no name of a host
            logger.warning("health_port_taken", extra={"port": port, "error": str(error)})
            return
        self._serving = _Serving(listening, _Answers(health, metrics, pages), logger)
        self._thread = threading.Thread(target=self._serving.run, name="health", daemon=True)
        self._thread.start()
        logger.info("health_serving", extra={"port": port})

    @property
    def is_serving(self) -> bool:
        """Whether anybody can ask: not with port 0, and not where the port was taken."""
        return self._serving is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._serving is not None:
            self._serving.stop()
            self._thread.join(_END_S)


def _listen(host: str, port: int) -> socket.socket:
    """Listen at an address; without one at all of them, IPv6 too where the machine has it. Raises OSError."""
    if host:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_WAITING)
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_WAITING
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port), backlog=_WAITING)


class _Request(NamedTuple):
    path: str
    accept: str
    goes_on: bool
    """Whether another request may follow on the same connection."""


class _Refused(Exception):
    """A request that is none of ours."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class _NotMade(Exception):
    """An answer could not be made; its cause says why."""


class _Serving:
    """The loop that serves, in a thread of its own."""

    def __init__(self, listening: socket.socket, answers: "_Answers", logger: logging.Logger) -> None:
        self._listening = listening
        self._answers = answers
        self._logger = logger
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._crowded)
        self._stopped = asyncio.Event()
        self._open: dict[asyncio.Task[None], str] = {}
        """The connections, the oldest first, and who asks there."""

    def run(self) -> None:
        """Serve until stopped."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """End it, from another thread; whoever still waits for an answer gets none."""
        with contextlib.suppress(RuntimeError):  # it has ended by itself, and said why
            self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self) -> None:
        server = await asyncio.start_server(
            self._connected, sock=self._listening, backlog=_ACCEPTED_TOGETHER, limit=_LONGEST_HEAD
        )
        self._listening.listen(_WAITING)
        await self._stopped.wait()
        # What was just taken becomes a connection of ours first: until then nothing closes it. No more come.
        self._loop.remove_reader(self._listening)
        await _turns()
        server.close()
        others = asyncio.all_tasks() - {cast("asyncio.Task[None]", asyncio.current_task())}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await _turns()  # the loop closes what was let go of

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= _MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
            self._logger.warning("health_crowded", extra={"connections": _MOST_CONNECTIONS, "error": ""})
        task = self._loop.create_task(self._answer_all(reader, writer))
        self._open[task] = str((writer.get_extra_info("peername") or ("unknown",))[0]).removeprefix("::ffff:")
        task.add_done_callback(functools.partial(self._ended, writer))

    def _ended(self, writer: asyncio.StreamWriter, task: "asyncio.Task[None]") -> None:
        """Close a connection, and say in a line what went wrong with the one who asked."""
        writer.transport.abort()
        client = self._open.pop(task, "")
        error = None if task.cancelled() else task.exception()
        if isinstance(error, _NotMade):
            self._logger.error("health_request_failed", extra={"client": client}, exc_info=error.__cause__)
        elif isinstance(error, OSError):  # it went away, was cut off, has no way to us, or is too slow
            self._logger.warning("health_client_gone", extra={"client": client, "error": str(error)})
        elif error is not None:
            self._logger.error("health_request_failed", extra={"client": client}, exc_info=error)

    def _crowded(self, _: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
        # The process has no descriptor left: asyncio takes the next connection a second later.
        told = f"{about['message']}: {about.get('exception', '')}"
        self._logger.warning("health_crowded", extra={"connections": len(self._open), "error": told})

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection, one after the other."""
        writer.transport.set_write_buffer_limits(high=0)  # an answer is sent when all of it is
        while await self._answer_one(reader, writer):
            pass

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; gives whether another one may follow. Raises TimeoutError for a slow one."""
        has_begun = False
        try:
            async with asyncio.timeout(_DEADLINE_S) as deadline:
                first = await reader.read(1)
                if not first:
                    return False
                has_begun = True
                try:
                    request = await _read_request(first, reader)
                except _Refused as refused:
                    answer = _answer(refused.status, f"{refused}\n".encode(), _PLAIN, goes_on=False)
                    goes_on = False
                else:
                    answer, goes_on = await self._made(request), request.goes_on
                writer.write(answer)
                await writer.drain()
                if not goes_on:
                    writer.write_eof()
                    await _pass_over_rest(reader)
                return goes_on
        except TimeoutError:
            if not deadline.expired():  # the network's own
                raise
            if has_begun:
                raise TimeoutError(f"no whole request and answer within {_DEADLINE_S:.0f} s") from None
            return False  # it only kept the connection

    async def _made(self, request: _Request) -> bytes:
        """Make an answer. Raises _NotMade: an error of a file that it needs is none of the connection."""
        try:
            return await self._answers.to(request)
        except Exception as error:
            raise _NotMade from error


async def _turns() -> None:
    """Let the loop do what it has put off, and what follows from that."""
    for _ in range(4):
        await asyncio.sleep(0)


async def _pass_over_rest(reader: asyncio.StreamReader) -> None:
    """Read what was sent and not asked for: a system that closes with that unread takes the answer back."""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(_REST_S):
            while await reader.read(_LONGEST_HEAD):
                pass


async def _read_request(first: bytes, reader: asyncio.StreamReader) -> _Request:
    """Read a request up to its body. Raises _Refused, and ConnectionError where it breaks off."""
    lines: list[str] = []
    size = 0
    while True:
        try:
            line = first + await reader.readline()
        except ValueError:  # longer than the reader's limit
            raise _Refused(_too_long(lines)) from None
        first = b""
        size += len(line)
        if size > _LONGEST_HEAD:
            raise _Refused(_too_long(lines))
        if not line.endswith(b"\n"):
            raise ConnectionResetError("it went away in the middle of a request")
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            break
        lines.append(text)
    found = _REQUEST.fullmatch(lines[0]) if lines else None
    if found is None:
        raise _Refused(HTTPStatus.BAD_REQUEST)
    method, path, major, minor = found.groups()
    if major != "1":
        raise _Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if method != "GET":
        raise _Refused(HTTPStatus.NOT_IMPLEMENTED)
    headers = _headers(lines[1:])
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    goes_on = minor != "0" and "close" not in headers.get("connection", "").lower() and not has_body
    # As most servers have it, //livez is /livez.
    return _Request(f"/{path.partition('?')[0].lstrip('/')}", headers.get("accept", ""), goes_on)


def _too_long(lines: list[str]) -> HTTPStatus:
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if lines else HTTPStatus.REQUEST_URI_TOO_LONG


def _headers(lines: list[str]) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


class _Answers:
    """What is answered to which path."""

    def __init__(self, health: Health, metrics: Metrics, pages: Mapping[str, Page]) -> None:
        self._health = health
        self._metrics = metrics
        self._pages = pages
        self._collecting = asyncio.Semaphore(_MOST_COLLECTING)

    async def to(self, request: _Request) -> bytes:
        """Make the answer to a request."""
        if request.path == "/metrics":
            encode, kind = _encoder(request.accept)
            async with self._collecting:
                body = await _in_thread(lambda: encode(self._metrics.registry))
            return _answer(HTTPStatus.OK, body, kind, goes_on=request.goes_on)
        if (page := self._pages.get(request.path)) is not None:
            return _answer(HTTPStatus.OK, page.body, page.kind, goes_on=request.goes_on)
        if request.path not in {"/livez", "/readyz"}:
            known = ", ".join(["/metrics", *self._pages, "/livez"])
            text = f"try {known} or /readyz\n"
            return _answer(HTTPStatus.NOT_FOUND, text.encode(), _PLAIN, goes_on=request.goes_on)
        why = self._health.liveness() if request.path == "/livez" else self._health.readiness()
        status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
        # What a server says may be the reason, and who asks shows it on a terminal.
        return _answer(status, f"{shown(why) or 'ok'}\n".encode(), _PLAIN, goes_on=request.goes_on)


def _encoder(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """Choose the form of the metrics; what can't be understood of the wish counts for nothing."""
    try:
        encode, kind = exposition.choose_encoder(accept)
    except (ValueError, TypeError):  # a version that is no three numbers
        return exposition.choose_encoder("")
    # The version that was asked for is in it.
    return (encode, kind) if kind.isascii() and kind.isprintable() else exposition.choose_encoder("")


async def _in_thread(make: Callable[[], bytes]) -> bytes:
    """Have something made in a thread of its own, which keeps no process from its end."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[bytes] = loop.create_future()

    def settle(result: bytes | None, error: BaseException | None) -> None:
        if made.done():  # nobody waits any more
            return
        if error is not None:
            made.set_exception(error)
        else:
            made.set_result(result or b"")

    def run() -> None:
        result, error = None, None
        try:
            result = make()
        except BaseException as failure:  # noqa: BLE001 - it is raised where it is waited for
            error = failure
        with contextlib.suppress(RuntimeError):  # the endpoint was closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="scrape", daemon=True).start()
    return await made


def _answer(status: HTTPStatus, body: bytes, kind: str, *, goes_on: bool) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Server: telemetry-pipeline",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        f"Connection: {'keep-alive' if goes_on else 'close'}",
    )
    return "\r\n".join([*head, "", ""]).encode("ascii") + body
