"""Connections of the server behind the door: clients that send ahead, badly, without end, or never read."""

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

import pytest
from servers import eventually, free_port
from starlette.types import ASGIApp, Receive, Scope, Send

from services.producer.http.serving import Serving, _Connection, listen
from services.runtime.telemetry.metrics import Metrics

PATIENCE_S = 30.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


async def answer(_: Scope, __: Receive, send: Send) -> None:
    """Answer in two parts, as nearly every application does."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Held:
    """An application that reads each request, and answers those to /held when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.released = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        while (await receive()).get("more_body"):
            pass
        while scope["path"] == "/held" and not self.released.is_set():  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.01)
        await answer(scope, receive, send)


@contextmanager
def served(
    app: ASGIApp, *, host: str = "127.0.0.1", connections: int = 10, read_s: float = 30
) -> Iterator[tuple[int, Serving]]:
    """Serve an application; give the port, too."""
    port = free_port()
    serving = Serving(
        app,
        listen(host, port),
        Metrics("producer"),
        logging.getLogger("silent"),
        certificates=None,
        connections=connections,
        read_s=read_s,
        end_s=0,
    )
    serving.start()
    try:
        eventually(lambda: is_served(port), 10, "it is served")
        yield port, serving
    finally:
        serving.stop()
        serving.join(10)


def is_served(port: int) -> bool:
    """Tell whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def connect(port: int, data: bytes = b"") -> socket.socket:
    """Connect, and send something."""
    one = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    one.sendall(data)
    return one


def statuses(one: socket.socket) -> list[bytes]:
    """Read to the end of a connection; give the status of each answer."""
    text = b""
    with suppress(ConnectionError):
        while data := one.recv(65536):
            text += data
    return re.findall(rb"HTTP/1\.1 ([0-9]+) ", text)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_no_part_of_an_answer_waits_until_the_one_before_is_confirmed(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """A client takes up to 40 ms to confirm the head."""
    at_once: list[int] = []
    received = _Connection.data_received

    def look_first(self: _Connection, data: bytes) -> None:
        taken = self.transport.get_extra_info("socket")
        at_once.append(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        received(self, data)

    monkeypatch.setattr(_Connection, "data_received", look_first)
    with served(answer, host=host) as (port, _), connect(port, LAST) as one:
        assert statuses(one) == [b"200"]
    assert [bool(one) for one in at_once] == [True]


def test_who_sends_far_ahead_is_answered_in_turn_and_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many requests wait for the one before them, and the rest is not read. None has another's answer."""
    waiting: list[int] = []
    received = _Connection.data_received

    def look_behind(self: _Connection, data: bytes) -> None:
        received(self, data)
        waiting.append(len(self.pipeline))

    monkeypatch.setattr(_Connection, "data_received", look_behind)
    app = Held()
    held = GET.replace(b" / ", b" /held ")
    with served(app) as (port, _), connect(port, held + 1000 * GET) as one:
        eventually(lambda: waiting, PATIENCE_S, "they are there")
        one.sendall(50 * GET)
        app.released.set()
        answers = statuses(one)
    assert set(answers) == {b"200"}
    assert len(answers) == app.begun == 101
    assert max(waiting) == 100


def test_few_requests_ahead_are_all_answered() -> None:
    """Also where they come in pieces."""
    with served(answer) as (port, _), connect(port, 20 * GET + GET[:7]) as one:
        one.sendall(GET[7:] + LAST)
        assert statuses(one) == 22 * [b"200"]


def test_what_cannot_be_read_is_not_answered_in_the_place_of_a_request_in_hand() -> None:
    """Its client would take that for its answer, though its events are published."""
    for bad in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n" + 30_000 * b"X: y\r\n"):
        app = Held()
        with served(app) as (port, _), connect(port, GET.replace(b" / ", b" /held ") + bad) as one:
            eventually(lambda app=app: app.begun, PATIENCE_S, "it is in hand")  # type: ignore[misc]
            app.released.set()
            assert statuses(one) == [b"200"]


@pytest.mark.parametrize("cuts", [(), (9,), (60,), (130,), (-5,), (-1,), tuple(range(1, 200))])
@pytest.mark.parametrize("length", [b"Content-Length: 5\r\n\r\nhello", CHUNKS])
def test_a_request_that_offers_another_protocol_is_read_with_its_body(
    length: bytes, cuts: tuple[int, ...]
) -> None:
    """As curl --http2 and programs in Java do. Without it, success would be said of nothing."""
    bodies: list[bytes] = []

    async def keep(_: Scope, receive: Receive, send: Send) -> None:
        body, has_more = b"", True
        while has_more:
            message = await receive()
            body, has_more = body + message["body"], message["more_body"]
        bodies.append(body)
        await answer(_, receive, send)

    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    data = b"POST /x HTTP/1.1\r\nHost: x\r\n" + offer + length + LAST
    places = [0, *(cut % len(data) for cut in cuts if cut < len(data)), len(data)]
    with served(keep) as (port, _), connect(port) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in pairwise(places):
            one.sendall(data[start:end])
        assert statuses(one) == 2 * [b"200"]
    assert bodies == [b"hello", b""]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (CHUNKED + b"nonsense\r\n", b"400"),
        (CHUNKED + b"0\r\n" + 30_000 * b"X: y\r\n", b"431"),
        (CHUNKED + b"0\r\nX: " + 300_000 * b"y", b"431"),
        (CHUNKED + b"1;" + 300_000 * b"y", b"431"),
        (GET[:-2] + 30_000 * b"X: y\r\n", b"431"),
    ],
)
def test_what_has_no_end_or_is_no_request_is_refused(data: bytes, status: bytes) -> None:
    """Wherever it stands: what is no part of a body has a bound, as the body has."""
    with served(Held()) as (port, _), connect(port) as one:
        sending = threading.Thread(target=send_what_is_taken, args=(one, data), daemon=True)
        sending.start()
        # A system that closes while more comes may take the answer back.
        assert statuses(one) in ([status], [])
        sending.join(PATIENCE_S)


def send_what_is_taken(one: socket.socket, data: bytes) -> None:
    """Send it, or as much of it as the other side takes."""
    with suppress(OSError):
        one.sendall(data)


def test_who_does_not_take_its_answers_is_cut_off() -> None:
    """It would keep its place for ever, and what it was answered."""

    async def talk(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _number in range(64):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        if (await receive())["type"] == "http.disconnect":
            gone.set()

    gone = threading.Event()
    with served(talk, read_s=0.2) as (port, _), connect(port, GET):
        eventually(gone.is_set, PATIENCE_S, "it is cut off")


def test_of_many_connections_none_goes_that_has_a_request_in_hand() -> None:
    """Also where it has had an answer, and the next request was there already."""
    app = Held()
    with (
        served(app, connections=2) as (port, _),
        connect(port, GET + GET.replace(b" / ", b" /held ")) as busy,
    ):
        eventually(lambda: app.begun == 2, PATIENCE_S, "the second is in hand")
        with connect(port) as idle, connect(port) as newest:
            assert statuses(idle) == [b"503"]
            newest.sendall(GET)
            assert newest.recv(65536).startswith(b"HTTP/1.1 200 ")
        app.released.set()
        busy.sendall(LAST)
        assert statuses(busy) == 3 * [b"200"]


def test_what_is_not_done_in_time_at_the_end_is_told_to_try_again() -> None:
    """It is no failure of the server."""

    async def never(_: Scope, __: Receive, ___: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    begun = threading.Event()
    with served(never) as (port, serving), connect(port, GET) as one:
        eventually(begun.is_set, PATIENCE_S, "it is in hand")
        serving.stop()
        assert statuses(one) == [b"503"]
