"""Recognise a file that was published before: by its path as it is given, its mapping, and its content."""

from collections.abc import Callable
from pathlib import Path

from services.contract.producing.publishing import Replayed
from services.producer.files.decode import SourceUnusable
from services.producer.files.inputs import is_same, source_key
from services.producer.files.reading import Reading
from services.producer.wiring import Parts


class _NotGoneOn(Exception):
    """Nothing is gone on with: what lies there now is another file, or nothing of it was published."""


def take_over(parts: Parts, reading: Reading, file: Path, *, is_exact: bool) -> Replayed | None:
    """Go on with what is published of a file; None where nothing is. Raises SourceUnusable.

    A file that was published is refused unless somebody says what is to become of it.
    """
    return _ask(parts, reading, file, _checker(parts, reading, file, is_exact=is_exact))


def look_at(parts: Parts, reading: Reading, file: Path, *, is_exact: bool) -> None:
    """See that `take_over` would not refuse a file; nothing is changed. Raises SourceUnusable."""
    check = _checker(parts, reading, file, is_exact=is_exact)

    def only_check(found: Replayed) -> None:
        check(found)
        raise _NotGoneOn

    _ask(parts, reading, file, only_check)


def _ask(parts: Parts, reading: Reading, file: Path, check: Callable[[Replayed], None]) -> Replayed | None:
    if reading.again:
        return None
    try:
        return parts.side.take_over(source_key(file, reading.mapped), check)
    except _NotGoneOn:
        return None


def _checker(parts: Parts, reading: Reading, file: Path, *, is_exact: bool) -> Callable[[Replayed], None]:
    def check(found: Replayed) -> None:
        is_begun = bool(found.run.batches or found.offset or found.is_done)
        if not is_same(file, found.run.fingerprint, found.offset if is_exact else 0):
            if reading.resume and is_begun and not found.is_done:
                raise SourceUnusable(
                    f"{file}: not the file that was published up to line {found.line}, or it was changed "
                    "since; --again publishes it from its beginning, and so does another name"
                )
            parts.logger.warning("another_file", extra={"file": str(file)})
            raise _NotGoneOn
        if not reading.resume and is_begun:
            is_whole = found.is_done and found.offset >= (file.stat().st_size if is_exact else 0)
            how_far = "" if is_whole else f"up to line {found.line} "
            raise SourceUnusable(
                f"{file}: published {how_far}before, with this mapping (run {found.run.name}); "
                "--resume goes on behind that, --again publishes all of it once more"
            )
        if not reading.resume:
            raise _NotGoneOn

    return check
