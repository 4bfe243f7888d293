"""A part of a page that is made from the code: between two marks, which are comments there."""

from pathlib import Path

from services.ops.failures import CommandFailed


def put_into(path: Path, table: str, begin: str, end: str) -> None:
    """Put a table between the marks of a page. Raises CommandFailed where there are none."""
    text = path.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise CommandFailed(f"{path}: no {begin} and {end} in it", exit_code=2)
    path.write_text(f"{before}{begin}\n{table}{end}{after}", encoding="utf-8")
