"""Cut a stream of bytes into records, in bounded memory, knowing where each of them ends.

A record is a line; in CSV a quoted field may hold line feeds, and the record is then several lines.
A line that is too long is passed over, not kept. A quote that is never closed spoils its own line and
none of those after it: reading goes on at the next line. So it does where another stray quote closes it: then
what lies between them are rows by themselves, or the whole is none.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

Half = Literal["take", "wait", "refuse"]
"""A last line without an end is a line like others, or is left for later, as its writer may go on with it, or
is none, as nobody will.
"""

MAX_RECORD_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 16
_LINE_BYTES: Final = 512
"""Of an ordinary line, at most."""
_MOST_LINES: Final = 10_000
"""Of one record. An empty line is a byte of the file, and a hundred here."""
_TURN_BYTES: Final = 1 << 22
"""Without a line feed in them: then whoever reads has something else to see to for once."""


class Bytes(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes | None:
        """Give at most `size` bytes; empty at the end; None when there are none just now."""
        ...


class Record(NamedTuple):
    """One record, or what is wrong with it."""

    data: bytes
    line: int
    """Where it starts, from 1."""
    end: int
    """The byte behind it."""
    end_line: int
    """How many lines are behind it."""
    problem: str = ""
    is_terminated: bool = True
    """False for a last line without a line feed, or with a quote open: its writer may go on with it."""
    around: tuple[Any, ...] = ()
    """In JSON, the objects that it lies in, the innermost first, each without what stands behind it."""


class _Line(NamedTuple):
    data: bytes
    size: int
    problem: str
    is_terminated: bool


@dataclass(slots=True)
class Quotes:
    """How cells are quoted, and what tells a quoted line feed from a quote that was never closed."""

    delimiter: bytes = b","
    quote: bytes = b'"'
    comment: bytes = b""
    """A line that begins so opens no quote; empty: none."""
    is_row: Callable[[bytes], bool] = lambda _: False
    """Whether a line is a whole row by itself: then it is no part of the row before it."""
    fits: Callable[[bytes], bool] = lambda _: True
    """Whether several lines together are a row."""


class Records:
    """Reads records from `offset` on, which is behind `line` lines. Without `quotes` each line is one."""

    def __init__(
        self,
        source: Bytes,
        *,
        quotes: Quotes | None = None,
        offset: int = 0,
        line: int = 0,
        max_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self.offset = offset
        self.line = line
        self.is_too_long = False
        """Whether the line that is being read is passed over already."""
        self._source = source
        self.quotes = quotes
        """May be changed between two records."""
        self._max_bytes = max_bytes
        self._waiting: deque[_Line] = deque()
        # How many lines at its beginning close no quote that is open before them, and their bytes: that is of
        # the lines alone, so each is looked at once, however many lines open a quote.
        self._open_lines = 0
        self._open_bytes = 0
        self._chunk = b""
        """Of which the lines from `_at` on are still to be given; between two lines alone."""
        self._at = 0
        self._all = self._read()

    def __iter__(self) -> Iterator[Record | None]:
        """Give each record; None each time that the source has nothing just now, or a line no end for long.

        Asked again, it goes on where it was.
        """
        return self._all

    def ahead(self, most: int) -> bytes:
        """Give at most so many of the next lines, whole and with their line feeds, and stay before them.

        Only what was read already, and no more than so many ordinary lines have: there may be more.
        """
        if self._waiting or self._at >= len(self._chunk):
            return b""
        rest = self._chunk[self._at : self._at + most * _LINE_BYTES]
        return rest[: len(rest) - len(rest.split(b"\n", most)[-1])]

    def pass_over(self, size: int, lines: int) -> None:
        """Go on behind so many bytes and lines of those that lie ahead."""
        self._at += size
        self.offset += size
        self.line += lines

    def _read(self) -> Iterator[Record | None]:
        lines = self._lines()
        while True:
            line = self._waiting.popleft() if self._waiting else next(lines, _END)
            if self._open_lines and line is not None:
                self._open_lines -= 1
                self._open_bytes -= len(line.data)
            if line is None:
                yield None
            elif line is _END:
                return
            elif self.quotes is None or self.quotes.quote not in line.data:
                # Most lines are a record each.
                self.line += 1
                self.offset += line.size
                yield Record(line.data, self.line, self.offset, self.line, line.problem, line.is_terminated)
            else:
                yield from self._record(line, lines)

    def _record(self, first: _Line, lines: Iterator[_Line | None]) -> Iterator[Record | None]:
        """Give the record that begins with a line, taking the lines that belong to it."""
        quotes = self.quotes
        is_open = (
            quotes is not None
            and not first.problem
            and ends_in_quotes(first.data, is_open=False, delimiter=quotes.delimiter, quote=quotes.quote)
            and not (quotes.comment and first.data.lstrip().startswith(quotes.comment))
        )
        is_cut = False
        while (
            is_open
            and quotes is not None
            and len(first.data) + self._open_bytes <= self._max_bytes
            and self._open_lines < _MOST_LINES
        ):
            if self._open_lines == len(self._waiting):
                fresh = next(lines, _END)
                if fresh is None:
                    yield None
                    continue
                if fresh is _END:
                    is_cut = True
                    break
                self._waiting.append(fresh)
            line = self._waiting[self._open_lines]
            if line.problem or quotes.is_row(line.data):
                break
            if ends_in_quotes(line.data, is_open=True, delimiter=quotes.delimiter, quote=quotes.quote):
                self._open_lines += 1
                self._open_bytes += len(line.data)
                continue
            # Lines that close no quote open none either, so none of them is joined with this one again.
            count, self._open_lines, self._open_bytes = self._open_lines + 1, 0, 0
            together = [first, *(self._waiting[at] for at in range(count))]
            if not quotes.fits(b"".join(one.data for one in together)):
                break
            for _ in range(count):
                self._waiting.popleft()
            yield self._take(together, "")
            return
        one = self._take([first], "a quote is opened and never closed" if is_open else first.problem)
        yield one._replace(is_terminated=one.is_terminated and not is_cut)

    def _take(self, lines: list[_Line], problem: str) -> Record:
        starts = self.line + 1
        self.line += len(lines)
        self.offset += sum(line.size for line in lines)
        data = lines[0].data if len(lines) == 1 else b"".join(line.data for line in lines)
        return Record(data, starts, self.offset, self.line, problem, lines[-1].is_terminated)

    def _lines(self) -> Iterator[_Line | None]:
        """Give each line with its line feed; None when there is nothing just now."""
        pending = bytearray()
        passed_over = unseen = 0
        while True:
            chunk = self._source.read(_CHUNK_BYTES)
            if chunk is None:
                yield None
                continue
            if not chunk:
                break
            # Between two lines somebody else may have gone on in it (`pass_over`).
            self._chunk, self._at = chunk, 0
            while (end := chunk.find(b"\n", start := self._at) + 1) > 0:
                self._at = end
                unseen = 0
                if pending or passed_over:
                    line = self._line(bytes(pending + chunk[start:end]), passed_over, is_terminated=True)
                    pending.clear()
                    passed_over = 0
                    self.is_too_long = False
                    yield line
                else:
                    yield self._line(chunk[start:end], 0, is_terminated=True)
            pending += chunk[start:]
            unseen += len(chunk) - start
            self._chunk, self._at = b"", 0
            if len(pending) > self._max_bytes:
                passed_over += len(pending)
                pending.clear()
                self.is_too_long = True
            if unseen >= _TURN_BYTES:
                unseen = 0
                yield None
        if pending or passed_over:
            yield self._line(bytes(pending), passed_over, is_terminated=False)

    def _line(self, data: bytes, passed_over: int, *, is_terminated: bool) -> _Line:
        size = len(data) + passed_over
        if size > self._max_bytes:
            return _Line(b"", size, f"longer than {self._max_bytes} bytes", is_terminated)
        return _Line(data, size, "", is_terminated)


_END: Final = _Line(b"", 0, "end", is_terminated=True)


def ends_in_quotes(line: bytes, *, is_open: bool, delimiter: bytes = b",", quote: bytes = b'"') -> bool:
    """Tell whether a quoted field is still open at a line's end. `is_open`: whether it was before.

    Blanks may stand before a quote that opens.
    """
    if quote not in line:
        return is_open
    at = 0
    is_begun = not is_open
    while True:
        if is_begun:
            while line[at : at + 1] == b" ":
                at += 1
            is_open = line.startswith(quote, at)
            at += is_open
        if is_open:
            at = _behind_quotes(line, at, quote)
            if at < 0:
                return True
        found = line.find(delimiter, at)
        if found < 0:
            return False
        at, is_begun = found + len(delimiter), True


def _behind_quotes(line: bytes, at: int, quote: bytes) -> int:
    """Find where a quoted field ends, from inside it; -1 when it doesn't in this line."""
    while True:
        at = line.find(quote, at) + 1
        if at == 0:
            return -1
        if line[at : at + 1] != quote:
            return at
        at += 1
