"""The server behind the door."""

import http.client
import logging
import socket
from contextlib import closing

import pytest
from servers import eventually, free_port
from starlette.types import Receive, Scope, Send

from services.producer.http.serving import Serving, _Connection, listen
from services.runtime.telemetry.metrics import Metrics


async def answer(_: Scope, __: Receive, send: Send) -> None:
    """Answer in two parts, as nearly every application does."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def is_served(port: int) -> bool:
    """Tell whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


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
    port = free_port()
    serving = Serving(
        answer,
        listen(host, port),
        Metrics("producer"),
        logging.getLogger("silent"),
        certificates=None,
        connections=10,
        read_s=5,
        end_s=1,
    )
    serving.start()
    try:
        eventually(lambda: is_served(port), 10, "it is served")
        with closing(http.client.HTTPConnection(host or "127.0.0.1", port, timeout=10)) as connection:
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"ok"
    finally:
        serving.stop()
        serving.join(10)
    assert [bool(one) for one in at_once] == [True]
