"""Cut JSON into readings, in bounded memory, knowing where each of them ends and on which line it begins.

What is cut: the elements of the list at a path, or of a list that is the whole document, or else each
document; of documents, any number may follow each other. Only brackets and quotes are looked at here; what
stands between them is parsed by `json`, element by element, so a bad one costs itself alone. (Why not ijson:
docs/decisions/0064.)
"""

import json
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final

from services.producer.files.decode import BOM, SourceBroken
from services.producer.files.lines import MAX_RECORD_BYTES, Bytes, Record

_CHUNK_BYTES: Final = 1 << 16
_TURN_BYTES: Final = 1 << 22
_AROUND_BYTES: Final = 1 << 14
"""Of a member beside the list of readings: what is larger is no device's name."""
_STRUCTURE: Final = re.compile(rb'["\[\]{}]')
_STRING: Final = re.compile(rb'["\\]')
_SCALAR_END: Final = re.compile(rb"[\s,\]}\[{:]")
_BETWEEN: Final = re.compile(rb"[\s,\x1e]*")

_Steps = Generator[Record | None, None, None]
_Asks = Generator[None, None, bool]


class Documents:
    """Readings of a source from its beginning; those that end at `offset` or before are passed over."""

    def __init__(
        self,
        source: Bytes,
        name: str,
        *,
        keys: Sequence[str] = (),
        whole: bool = False,
        offset: int = 0,
        line: int = 0,
        max_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self.offset = offset
        self.line = line
        self._from = offset
        self._source = source
        self._name = name
        self._keys = tuple(keys)
        self._whole = whole  # each document is a reading's record, whatever it is
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._at = 0
        self._read_bytes = 0
        """How many are before the position in the buffer."""
        self._read_lines = 0
        self._unseen = 0
        self._is_at_end = False
        self._all = self._read()

    def __iter__(self) -> Iterator[Record | None]:
        """Give each reading; None where there is nothing just now. Raises SourceBroken at a wrong end."""
        return self._all

    def _read(self) -> _Steps:
        yield from self._more()
        if self._buffer.startswith(BOM):
            self._pass(len(BOM))
        while (yield from self._between()):
            yield from self._document(self._keys, ())

    def _document(self, keys: Sequence[str], around: tuple[Any, ...]) -> _Steps:
        first = bytes(self._buffer[self._at : self._at + 1])
        if first == b"[" and not keys and not self._whole:
            yield from self._list(around)
        elif first == b"{" and keys:
            yield from self._object(keys, around)
        elif first in {b"]", b"}", b":"}:
            raise self._broken(f"{first.decode()} where a value begins")
        else:
            problem = f"no list at {'.'.join(self._keys)}" if keys else ""
            yield from self._reading(around, problem)

    def _list(self, around: tuple[Any, ...]) -> _Steps:
        self._pass(1)
        while (yield from self._between()):
            first = bytes(self._buffer[self._at : self._at + 1])
            if first == b"]":
                self._pass(1)
                return
            if first in {b"}", b":"}:
                raise self._broken(f"{first.decode()} in a list")
            yield from self._reading(around, "")
        raise self._broken("the list has no end")

    def _object(self, keys: Sequence[str], around: tuple[Any, ...]) -> _Steps:
        self._pass(1)
        scope: dict[str, Any] = {}
        starts = self._read_lines + 1
        is_found = False
        while (yield from self._between()):
            first = bytes(self._buffer[self._at : self._at + 1])
            if first == b"}":
                self._pass(1)
                if not is_found:
                    yield from self._give(b"", starts, f"no list at {'.'.join(self._keys)}", around)
                return
            key = (yield from self._value()) if first == b'"' else None
            if (
                key is None
                or not (yield from self._between())
                or self._buffer[self._at : self._at + 1] != b":"
            ):
                raise self._broken("a name and a colon are wanted")
            self._pass(1)
            if not (yield from self._between()):
                break
            name = _loaded(key)
            if name == keys[0]:
                is_found = True
                yield from self._document(keys[1:], (dict(scope), *around))
            else:
                value = yield from self._value(_AROUND_BYTES)
                if value is not None:
                    scope[name] = _loaded(value)
        raise self._broken("the object has no end")

    def _reading(self, around: tuple[Any, ...], problem: str) -> _Steps:
        starts = self._read_lines + 1
        data = yield from self._value()
        if data is None:
            data, problem = b"", f"longer than {self._max_bytes} bytes"
        yield from self._give(data, starts, problem, around)

    def _give(self, data: bytes, starts: int, problem: str, around: tuple[Any, ...]) -> _Steps:
        self._unseen = 0
        if self._read_bytes <= self._from:
            return
        self.offset, self.line = self._read_bytes, self._read_lines
        yield Record(data, starts, self.offset, self.line, problem, around=around)

    def _value(self, most: int | None = None) -> Generator[None, None, bytes | None]:
        """Pass a value, and give it; None for one that is too long. Raises SourceBroken without an end."""
        most = self._max_bytes if most is None else most
        first = bytes(self._buffer[self._at : self._at + 1])
        ends_anywhere = first not in {b"{", b"[", b'"'}
        depth, in_string, is_kept, at = 0, first == b'"', True, self._at + (not ends_anywhere)
        depth = 0 if ends_anywhere or in_string else 1
        while True:
            pattern = _SCALAR_END if ends_anywhere else _STRING if in_string else _STRUCTURE
            found = pattern.search(self._buffer, at)
            if found is None:
                at = max(at, len(self._buffer))
                if at - self._at > most:
                    is_kept = False
                if not is_kept:
                    extra = at - len(self._buffer)  # of an escape whose second half is to come
                    self._pass(len(self._buffer) - self._at)
                    at = self._at + extra
                behind = at - self._at
                if not (yield from self._more()):
                    if not ends_anywhere:
                        raise self._broken("a value has no end")
                    break
                at = self._at + behind
                continue
            if ends_anywhere:
                at = found.start()
                break
            at = found.end()
            sign = found[0]
            if in_string:
                at += sign == b"\\"
                in_string = sign != b'"'
            elif sign == b'"':
                in_string = True
            else:
                depth += 1 if sign in b"{[" else -1
            if not depth and not in_string:
                break
        at = max(at, self._at + 1) if ends_anywhere and is_kept else at
        data = bytes(self._buffer[self._at : at]) if is_kept and at - self._at <= most else None
        self._pass(at - self._at)
        return data

    def _between(self) -> _Asks:
        """Pass what separates values; False at the end."""
        while True:
            found = _BETWEEN.match(self._buffer, self._at)
            self._pass(found.end() - self._at if found else 0)
            if self._at < len(self._buffer):
                return True
            if not (yield from self._more()):
                return False

    def _more(self) -> _Asks:
        """Read on; False at the end."""
        while True:
            chunk = self._source.read(_CHUNK_BYTES)
            if chunk:
                break
            if chunk is not None:
                return False
            yield None
        if self._at >= _CHUNK_BYTES or self._at == len(self._buffer):
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += chunk
        self._unseen += len(chunk)
        if self._unseen > _TURN_BYTES:
            self._unseen = 0
            yield None
        return True

    def _pass(self, count: int) -> None:
        self._read_lines += self._buffer.count(b"\n", self._at, self._at + count)
        self._read_bytes += count
        self._at += count

    def _broken(self, why: str) -> SourceBroken:
        return SourceBroken(f"{self._name}:{self._read_lines + 1}: not JSON: {why}")


def _loaded(data: bytes) -> Any:
    """Read a member beside the readings; None where it is none."""
    try:
        return json.loads(data, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
