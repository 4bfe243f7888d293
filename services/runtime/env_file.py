r"""The `.env` file, read by the rules of python-dotenv: about those of a shell and of docker compose.

    NAME=value            blanks around both are dropped; `export` before it too
    NAME=value # comment  a # behind a blank begins a comment; `a#b` is a value
    NAME='a # b'          quotes keep what is between them, over several lines too; \' and \\ are escapes
    NAME="a\nb"           and here \n, \t, \" and the like as well
    NAME=${OTHER}         stays as it is: nothing is put in its place

What is wrong is named by its line. Nothing of the line is shown: it may be a password that was put wrongly.
"""

import io
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from services.runtime.small_files import FileUnreadable, read_small

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEWLINE: Final = re.compile(r"\r\n|\n|\r")
_LONGEST_LINE: Final = 8192
"""Characters. The rules take time with the square of a line's blanks."""


def read_env_file(path: Path, names: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Read the values of a file by their names, and say of each line what is wrong with it.

    Of a wrong line the name is told where it is one of `names`. Where there is no file there is neither.
    """
    try:
        text = read_small(path)
    except FileUnreadable as error:
        return {}, [f"{path}: {error}"]
    if not text:
        return {}, []
    for number, line in enumerate(_NEWLINE.split(text), start=1):
        if len(line) > _LONGEST_LINE:
            return {}, [f"{path}:{number}: the line is longer than {_LONGEST_LINE:,} characters"]

    from dotenv.parser import parse_stream  # noqa: PLC0415 - most processes have no such file

    values: dict[str, str] = {}
    errors = []
    for one in parse_stream(io.StringIO(text, newline="")):
        written = one.original.string.lstrip()
        before = one.original.string[: len(one.original.string) - len(written)]
        number = one.original.line + len(_NEWLINE.findall(before))
        if one.key is None and not one.error:  # a comment, or blank
            continue
        if one.key is None or one.value is None or not _NAME.fullmatch(one.key):
            errors.append(f"{path}:{number}: {_about(written, names)}write NAME=value, with quotes closed")
        elif "\0" in one.value:
            errors.append(f"{path}:{number}: {_about(written, names)}there is a NUL in it")
        else:
            values[one.key] = one.value
    return values, errors


def _about(written: str, names: Collection[str]) -> str:
    """Name the setting that a wrong line is about."""
    found = _NAME.match(re.sub(r"^export\s+", "", written))
    return f"{found[0]}: " if found and found[0] in names else ""
