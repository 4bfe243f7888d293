"""Pages of the site for what is linked to from docs/ and lies elsewhere in the repository.

MkDocs knows one folder, docs/. A Markdown page elsewhere (the README, the chart's) becomes a page of the site
under `repository/`, a file becomes a page that shows it, and a folder without a README becomes a list of what
is in it. Links are rewritten on their way into the site; in the repository they lead to files as before. A
link that leads nowhere is left as it is, and MkDocs refuses it.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

_ROOT: Final = Path(__file__).resolve().parents[1]
_DOCS: Final = "docs/"
_ELSEWHERE: Final = "repository/"
# What is code is passed over; else a target, and the heading in it.
_LINK: Final = re.compile(
    r"(?P<code>^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[^\n]*$|(?P<ticks>`+)[^`].*?(?P=ticks)(?!`))"
    r"|(?<=\]\()(?P<target>[^)\s#:]+)(?P<heading>#[^)\s]*)?(?=\))",
    re.MULTILINE | re.DOTALL,
)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for everything that pages link to, and that has none yet."""
    waiting = [_DOCS + file.src_uri for file in files.documentation_pages() if file.abs_src_path]
    known = {_DOCS + file.src_uri for file in files}
    while waiting:
        for path in _targets(waiting.pop()):
            if path in known:
                continue
            known.add(path)
            files.append(_generated(config, path))
            if path.endswith(".md") or _is_bare_folder(path):
                waiting.append(path)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site."""
    del config, files
    here = page.file.src_uri

    def rewritten(path: str) -> str:
        return posixpath.relpath(_uri_of(path), posixpath.dirname(here) or ".")

    return _with_links(markdown, _path_of(here), rewritten)


def _with_links(markdown: str, path: str, rewrite: Callable[[str], str]) -> str:
    """Replace each link of a page that leads to something in the repository."""

    def replace(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None:
            return found[0]
        there = _resolved(path, target)
        return found[0] if there is None else rewrite(there) + (found["heading"] or "")

    return _LINK.sub(replace, markdown)


def _resolved(path: str, target: str) -> str | None:
    """Find what a link leads to: a path in the repository, or None. A folder is its README, if it has one."""
    there = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if there.startswith("..") or not (_ROOT / there).exists():
        return None
    if (_ROOT / there).is_dir() and (_ROOT / there / "README.md").exists():
        return f"{there}/README.md"
    return there


def _targets(path: str) -> Iterable[str]:
    """Give everything that a page links to."""
    found: list[str] = []

    def note(there: str) -> str:
        found.append(there)
        return there

    if _is_bare_folder(path):
        _with_links(_folder(path), f"{path}/index.md", note)
    else:
        _with_links((_ROOT / path).read_text(encoding="utf-8"), path, note)
    return found


def _is_bare_folder(path: str) -> bool:
    return (_ROOT / path).is_dir()


def _uri_of(path: str) -> str:
    """Name the page of the site for a path in the repository."""
    page = f"{path}/index.md" if _is_bare_folder(path) else path
    if page.startswith(_DOCS):
        return page.removeprefix(_DOCS)
    return _ELSEWHERE + (page if page.endswith(".md") else f"{page}.md")


def _path_of(uri: str) -> str:
    """Name what a page of the site is made of; of a list of a folder `index.md` in it, which is not there."""
    path = uri.removeprefix(_ELSEWHERE) if uri.startswith(_ELSEWHERE) else _DOCS + uri
    for made in ("", ".md"):
        if (_ROOT / path.removesuffix(made)).exists():
            return path.removesuffix(made)
    return path


def _generated(config: MkDocsConfig, path: str) -> File:
    if _is_bare_folder(path):
        # One of the docs has its place in the navigation.
        place = InclusionLevel.INCLUDED if path.startswith(_DOCS) else InclusionLevel.NOT_IN_NAV
        return File.generated(config, _uri_of(path), content=_folder(path), inclusion=place)
    text = (_ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return File.generated(config, _uri_of(path), content=text)
    head = f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n"
    shown = f"{head}~~~~~~{Path(path).suffix[1:]}\n{text.rstrip()}\n~~~~~~\n"
    return File.generated(config, _uri_of(path), content=shown, inclusion=InclusionLevel.NOT_IN_NAV)


def _folder(path: str) -> str:
    """List what is in a folder; pages by their titles."""
    return f"# {path}\n\n" + "".join(f"- {one}\n" for one in _entries(_ROOT / path))


def _entries(folder: Path) -> Iterator[str]:
    for one in sorted(folder.iterdir()):
        if one.suffix == ".md":
            title = one.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            yield f"[{title}]({one.name})"
        elif not one.name.startswith((".", "__")):
            yield f"`{one.name}`"
