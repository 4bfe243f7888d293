"""Bytes as lines of UTF-8: unpacked, out of another encoding, with line feeds; in bounded memory.

The first bytes say what it is: gzip, a byte order mark, the NUL bytes of UTF-16, carriage returns alone. All
else is read as it is, and can be read again from any byte. Of what is changed on its way (`is_changed`) the
positions are those of the text that comes out.
"""

import codecs
import zlib
from collections.abc import Callable
from typing import Final

from services.producer.files.lines import Bytes

BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
_PIECE_BYTES: Final = 1 << 16
_BOMB_BYTES: Final = 64 << 20
_BOMB_RATIO: Final = 500
"""Beyond so many bytes, so many times what they were packed in is no measurement any more."""
_START_BYTES: Final = 1 << 16
_UTF_16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class SourceUnusable(Exception):
    """The file can't be read at all; the message says why."""


class SourceUnreadable(SourceUnusable):
    """The system does not give its bytes just now: later it may."""


class SourceBroken(SourceUnusable):
    """The file can't be read to its end; what was read of it stays."""


class Prefixed:
    """Bytes that were read already, and then the rest."""

    def __init__(self, start: bytes, rest: Bytes) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int, /) -> bytes | None:
        """Give at most `size` bytes."""
        start, self._start = self._start[:size], self._start[size:]
        return start or self._rest.read(size)


def begin(
    source: Bytes,
    is_stopping: Callable[[], bool],
    enough: Callable[[bytes], bool] = lambda start: len(start) >= 4,
) -> tuple[bytes, Bytes]:
    """Look at how a source begins, and give the whole of it back."""
    start = b""
    while not enough(start) and len(start) < _START_BYTES:
        chunk = source.read(4096)
        if chunk == b"" or is_stopping():
            break
        start += chunk or b""
    return start, Prefixed(start, source)


class _Unpacked:
    """What a gzip file holds, of one member or of several."""

    def __init__(self, source: Bytes, name: str) -> None:
        self._source = source
        self._name = name
        self._unpacker = zlib.decompressobj(wbits=31)
        self._waiting = b""
        self._packed = self._unpacked = 0

    def read(self, size: int, /) -> bytes | None:
        while True:
            if not self._waiting and not self._unpacker.unconsumed_tail:
                chunk = self._source.read(_PIECE_BYTES)
                if chunk is None:
                    return None
                if not chunk:
                    if self._unpacker.eof or not self._packed:
                        return b""
                    raise SourceBroken(f"{self._name}: the gzip file is cut off")
                self._packed += len(chunk)
                self._waiting = chunk
            if self._unpacker.eof:
                if not self._waiting.startswith(_GZIP[: len(self._waiting)]):
                    self._waiting = b""  # zeros that fill a tape, or what else stands behind it
                    continue
                self._unpacker = zlib.decompressobj(wbits=31)
            data, self._waiting = self._unpacker.unconsumed_tail + self._waiting, b""
            try:
                found = self._unpacker.decompress(data, size)
            except zlib.error as error:
                raise SourceBroken(f"{self._name}: not a whole gzip file: {error}") from None
            if self._unpacker.eof:
                self._waiting = self._unpacker.unused_data
            self._unpacked += len(found)
            if self._unpacked > max(_BOMB_BYTES, _BOMB_RATIO * self._packed):
                raise SourceBroken(f"{self._name}: it unpacks to more than {_BOMB_RATIO} times its size")
            if found:
                return found


class _Transcoded:
    """Text of another encoding as UTF-8; what is none becomes a byte that no UTF-8 has, so it is refused."""

    def __init__(self, source: Bytes, name: str, encoding: str) -> None:
        self._source = source
        self._name = name
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="telemetry.marked")
        self._ready = b""
        self._is_done = False

    def read(self, size: int, /) -> bytes | None:
        while not self._ready and not self._is_done:
            chunk = self._source.read(max(2, size // 4))
            if chunk is None:
                return None
            self._is_done = not chunk
            try:
                text = self._decoder.decode(chunk, final=self._is_done)
            except UnicodeError as error:  # not of a character, but of the whole
                raise SourceBroken(f"{self._name}: not {self._encoding} (--encoding): {error}") from None
            self._ready = text.encode("utf-8", errors="surrogateescape")
        ready, self._ready = self._ready[:size], self._ready[size:]
        return ready


class _Returns:
    """Lines that end in a carriage return alone, with line feeds."""

    def __init__(self, source: Bytes) -> None:
        self._source = source

    def read(self, size: int, /) -> bytes | None:
        found = self._source.read(size)
        return found and found.replace(b"\r", b"\n")


def _marked(error: UnicodeError) -> tuple[str, int]:
    return "\udcff", error.end if isinstance(error, UnicodeDecodeError) else 0


codecs.register_error("telemetry.marked", _marked)


def decoded(
    source: Bytes, name: str, encoding: str | None, is_stopping: Callable[[], bool]
) -> tuple[bytes, Bytes, bool]:
    """Give how a source begins, all of it as UTF-8 with line feeds, and whether its bytes were changed.

    Raises SourceUnusable.
    """
    start, whole = begin(source, is_stopping)
    is_changed = start.startswith(_GZIP)
    if is_changed:
        start, whole = begin(_Unpacked(whole, name), is_stopping)
    found = encoding or _UTF_16.get(start[:2]) or _without_mark(start)
    if found and codecs.lookup(found).name != "utf-8":
        is_changed, whole = True, _Transcoded(whole, name, found)
        start, whole = begin(whole, is_stopping)
    start, whole = begin(whole, is_stopping, _shows_line_ends)
    if b"\r" in start and b"\n" not in start and b"\r" in start[:-1].rstrip(b"\r"):
        start, whole = begin(_Returns(whole), is_stopping, _shows_line_ends)  # byte for byte: nothing moves
    return start, whole, is_changed


def _without_mark(start: bytes) -> str | None:
    """Tell UTF-16 by its NUL bytes: the first character of a header, or of JSON, is ASCII."""
    if len(start) >= 4 and start[1] == start[3] == 0 and start[0] and start[2]:
        return "utf-16-le"
    if len(start) >= 4 and start[0] == start[2] == 0 and start[1] and start[3]:
        return "utf-16-be"
    return None


def _shows_line_ends(start: bytes) -> bool:
    return b"\n" in start or len(start) >= _START_BYTES
