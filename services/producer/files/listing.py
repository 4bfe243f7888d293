"""Which files are meant: names, patterns and folders, in order, each once."""

import glob
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISLNK
from typing import Final

from services.producer.files.inputs import STANDARD_INPUT

_PATTERN: Final = re.compile(r"[*?\[]")


def files_of(given: Sequence[str], errors: list[str]) -> list[str]:
    """List the files that `--from` names: a folder is expanded, and a pattern that is no file's name.

    Of a folder it is the files that lie in it, but for hidden ones; of a pattern all that it fits, where `**`
    is folders of any depth. Each is sorted by name. What fits nothing goes into `errors`.
    """
    found: dict[Path | str, str] = {}
    for text in given:
        for name in _expanded(text, errors):
            found.setdefault(name if name == STANDARD_INPUT else Path(name).absolute(), name)
    if STANDARD_INPUT in found and len(found) > 1:
        errors.append("--from -: standard input is read alone; leave out the files, or pass them to it")
    return list(found.values())


def is_one_file(text: str) -> bool:
    """Tell whether `--from` names a file itself, and no folder or pattern that files may come to."""
    path = Path(text)
    return not path.is_dir() and not (_PATTERN.search(text) and not path.exists())


def links_within(paths: Iterable[Path]) -> list[Path]:
    """List the links that lead to a file that is another one of the paths, or that another link leads to."""
    files: set[tuple[int, int]] = set()
    links = []
    for path in sorted(paths):
        with suppress(OSError):  # it is gone by now
            about = path.lstat()
            if S_ISLNK(about.st_mode):
                links.append(path)
            else:
                files.add((about.st_dev, about.st_ino))
    within = []
    for path in links:
        with suppress(OSError):
            about = path.stat()
            if (file := (about.st_dev, about.st_ino)) in files:
                within.append(path)
            files.add(file)
    return within


def _expanded(text: str, errors: list[str]) -> list[str]:
    path = Path(text)
    if text == STANDARD_INPUT or not text:
        return [text]
    try:
        if path.is_dir():
            names = [one for one in sorted(path.iterdir()) if not one.name.startswith(".") and one.is_file()]
            what = "no file is in this folder"
        elif _PATTERN.search(text) and not path.exists():
            found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - also of an absolute pattern
            names = [one for one in map(Path, found) if one.is_file()]
            what = "no file has such a name"
        else:
            return [text]
    except OSError as error:
        errors.append(f"--from {text}: {error.strerror}")
        return []
    if not names:
        errors.append(f"--from {text}: {what}")
    return [str(one) for one in names]
