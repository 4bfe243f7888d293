"""The client that the connection to the broker is made by."""

import socket
from contextlib import closing

import pytest

from services.producer.mqtt.connection import _Client


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_no_acknowledgement_waits_until_the_one_before_is_confirmed(version: str) -> None:
    """A broker takes up to 40 ms for that where it has nothing to say."""
    client = _Client("anybody", version)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        client.connect("127.0.0.1", listening.getsockname()[1])
        taken, _ = listening.accept()
        with closing(taken):
            opened = client.socket()
            assert isinstance(opened, socket.socket)
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    client.disconnect()
