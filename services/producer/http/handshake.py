"""A connection until its TLS stands; then another protocol has it.

The server's own way counts no connection before its handshake, and waits a minute for it. Here it is one of
the crowd from its first moment, and has the time of a head.
"""

import asyncio
import logging
import ssl
from asyncio import sslproto
from collections.abc import Callable
from typing import Any, Final

from services.producer.http.certificates import Certificates
from services.producer.http.crowd import Crowd

_BUFFER: Final = 32_768
"""Bytes that each connection has for what comes in; asyncio's own 256 KiB are 256 MB for a thousand."""
_CLOSE_S: Final = 2.0
"""How long the other side may take to say goodbye."""


def make_small() -> None:
    """Let each connection of this process that speaks TLS have a small buffer."""
    sslproto.SSLProtocol.max_size = _BUFFER


class Handshake(asyncio.Protocol):
    """Takes a connection, and leaves it to one of `behind`; what it is made with is that one's."""

    behind: Callable[..., asyncio.Protocol]
    certificates: Certificates
    crowd: Crowd
    read_s: float
    is_over: Callable[[], bool]
    """Whether nothing new is taken any more."""
    logger: logging.Logger

    def __init__(self, **given: Any) -> None:
        self._given = given
        self._early: list[bytes] = []
        self._is_lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with TLS."""
        transport.pause_reading()  # the first byte is of TLS already
        self._transport = transport
        self.crowd.came(self)
        self._task = asyncio.get_running_loop().create_task(self._shake_hands())

    def data_received(self, data: bytes) -> None:
        """Keep what comes in one go with the end of the handshake."""
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's own
        """Remember that there is nobody any more."""
        self._is_lost = True

    def drop(self) -> None:
        """Close it, since there are too many."""
        self._transport.abort()

    async def _shake_hands(self) -> None:
        client = str((self._transport.get_extra_info("peername") or ("unknown",))[0])
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self.certificates.context,
                server_side=True,
                ssl_handshake_timeout=self.read_s,
                ssl_shutdown_timeout=_CLOSE_S,
            )
        except ssl.SSLError as error:
            told = {"client": client, "error": (error.reason or str(error)).replace("_", " ").lower()}
            self.logger.warning("handshake_failed", extra=told)
            return
        except OSError:  # it went away, or is too slow
            return
        finally:
            self.crowd.went(self)
        if transport is None or self._is_lost or self.is_over():
            self._transport.abort()
            return
        protocol = self.behind(**self._given)
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        for data in self._early:
            protocol.data_received(data)
