"""The body of a request: within its time and size, unpacked, and all bodies together within the memory."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Final, Self

from services.producer.http.refusals import TurnedAway
from services.runtime.redact import head

_AHEAD: Final = 1 << 16


class Memory:
    """What bodies may take up together, in bytes. For one thread."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, size: int) -> None:
        """Take some of it. Raises TurnedAway."""
        if size > self._left:
            raise TurnedAway(429, "too much is being sent at once; send it again", retry_after_s=1)
        self._left -= size

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self._left += size


class Body:
    """One body; as a context it holds its share of the memory."""

    def __init__(self, memory: Memory, most: int) -> None:
        self._memory = memory
        self._most = most
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.give_back(self._held)
        self._held = 0

    async def read(self, stream: AsyncIterator[bytes], encoding: str, length: str, timeout_s: float) -> bytes:
        """Read all of it. Raises TurnedAway."""
        if encoding not in {"", "identity", "gzip", "x-gzip"}:
            raise TurnedAway(415, f"content-encoding {head(encoding, 40)!a}: gzip, or none")
        try:
            if length.isascii() and length.isdigit() and int(length[:20]) > self._most:
                raise self._too_large()
            async with asyncio.timeout(timeout_s):
                return await self._read(stream, is_packed=encoding not in {"", "identity"})
        except TimeoutError:
            raise TurnedAway(
                408, f"the body was not there within {timeout_s:g} s (HTTP_READ_TIMEOUT_S)"
            ) from None

    def _too_large(self) -> TurnedAway:
        return TurnedAway(
            413, f"the body is larger than {self._most:,} bytes (HTTP_MAX_BODY_BYTES); send it in parts"
        )

    async def _read(self, stream: AsyncIterator[bytes], *, is_packed: bool) -> bytes:
        parts: list[bytes] = []
        unpacker = _unpacker() if is_packed else None
        async for chunk in stream:
            if unpacker is None:
                self._add(parts, chunk)
                continue
            data = chunk
            while data:
                if unpacker.eof:  # gzip is one member or several, which end wherever the sender likes
                    unpacker = _unpacker()
                self._add(parts, _unpacked(unpacker, data))
                data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        while unpacker is not None and not unpacker.eof:
            if not (rest := _unpacked(unpacker, b"")):
                raise TurnedAway(400, "the gzip data is cut off", field="body")
            self._add(parts, rest)
        return b"".join(parts)

    def _add(self, parts: list[bytes], part: bytes) -> None:
        # What it becomes is held beside it for a while.
        if self._held + len(part) > self._most:
            raise self._too_large()
        self._memory.take(len(part))
        self._held += len(part)
        parts.append(part)


def _unpacker() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=31)


def _unpacked(unpacker: "zlib._Decompress", data: bytes) -> bytes:
    try:
        return unpacker.decompress(data, _AHEAD)
    except zlib.error:
        raise TurnedAway(400, "content-encoding is gzip, and the body is not", field="body") from None
