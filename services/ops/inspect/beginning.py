"""How a source begins: as many bytes as say what it is, and the way to the rest."""

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.producer.files.decode import Prefixed, SourceBroken, decoded
from services.producer.files.inputs import Input
from services.producer.files.lines import Bytes

SAMPLE_BYTES: Final = 1 << 20
"""Of the file, and of the text in it."""
_PATIENCE: Final = 10
"""Times that nothing came (0.2 s each) after which a pipe is looked at as far as it is."""
_LONGER_PATIENCE: Final = 25
"""The same where nothing has come at all."""


class Held:
    """Bytes in memory as a source."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """Give at most `size` bytes."""
        found = bytes(self._data[self._at : self._at + size])
        self._at += len(found)
        return found


@dataclass(slots=True)
class Beginning:
    """The first bytes of a source."""

    name: str
    source: Input
    raw: bytes
    is_whole: bool

    def whole(self) -> Bytes:
        """Give the source from its first byte on; once."""
        return Prefixed(self.raw, self.source)

    def text(self, encoding: str | None) -> tuple[bytes, bool]:
        """Give its text as UTF-8 with line feeds, and whether that is all of it. Raises SourceUnusable.

        What is cut ends with a whole line, if there is one.
        """
        _, source, _ = decoded(Held(self.raw), self.name, encoding, lambda: False)
        found = bytearray()
        is_whole = self.is_whole
        try:
            while len(found) <= SAMPLE_BYTES and (chunk := source.read(1 << 16)):
                found += chunk
        except SourceBroken:
            # The end of a packed file is not in the sample; of a whole one its text so far is looked at.
            is_whole = False
        if len(found) > SAMPLE_BYTES:
            is_whole = False
            del found[SAMPLE_BYTES:]
        if not is_whole and (end := found.rfind(b"\n")) >= 0:
            del found[end + 1 :]
        return bytes(found), is_whole


def begin(source: Input, name: str) -> Beginning:
    """Read how a source begins. Raises SourceUnusable."""
    found = bytearray()
    idle = 0
    while len(found) < SAMPLE_BYTES:
        chunk = source.read(min(1 << 16, SAMPLE_BYTES - len(found)))
        if chunk == b"":
            return Beginning(name, source, bytes(found), is_whole=True)
        idle = 0 if chunk else idle + 1
        found += chunk or b""
        if idle >= (_PATIENCE if found else _LONGER_PATIENCE):
            break
    return Beginning(name, source, bytes(found), is_whole=False)


def told_encoding(read: Callable[[str | None], tuple[bytes, bool]]) -> str | None:
    """Tell the encoding of a text that names none; None: UTF-8, or what its first bytes say."""
    text, _ = read(None)
    good = bad = 0
    high = set()
    for line in text.split(b"\n"):
        if line.isascii():
            continue
        try:
            line.decode()
            good += 1
        except UnicodeDecodeError:
            bad += 1
            high |= {byte for byte in line if 0x80 <= byte < 0xA0}
    # Where most lines are UTF-8, the others are broken.
    if bad <= good:
        return None
    try:
        codecs.decode(bytes(high), "cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252" if high else "latin-1"
