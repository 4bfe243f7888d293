"""The site of the docs: whole, without a broken link, and with nothing from another host."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.ops.app import COMMANDS

ROOT = Path(__file__).parents[2]


def build(settings: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    """Build a site as `make site` does."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--config-file", settings, "--site-dir", target],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the site."""
    target = tmp_path_factory.mktemp("site")
    done = build(ROOT / "website" / "mkdocs.yml", target)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    """No script, no font, no picture: it can be read without a network."""
    loads = re.compile(
        r"""<(?:script|img|iframe|source)\b[^>]*\ssrc=["']?(?:https?:)?//[^>]*>|<link\b(?=[^>]*\srel=["']?(?:stylesheet|pre|icon))"""
        r"""[^>]*\shref=["']?(?:https?:)?//[^>]*>|url\(["']?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*;"""
    )
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(files) > 100
    found = {str(file.relative_to(site)): loads.findall(file.read_text(encoding="utf-8")) for file in files}
    assert {name: loaded for name, loaded in found.items() if loaded} == {}
    assert loads.search('<link href="https://fonts.example.com/css" rel="stylesheet">')


def test_the_end_of_the_theme_is_in_the_decision() -> None:
    """The theme says its date by itself, and `make site` switches that off."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_MKDOCS_2_WARNING"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['mkdocs']; import material.templates"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (day,) = re.findall(r"reaches end of life on (\w+ \d+, \d{4})", done.stderr)
    (decision,) = (ROOT / "docs" / "decisions").glob("0079-*.md")
    assert f"end of life on {day}" in decision.read_text(encoding="utf-8")


def test_what_is_outside_of_the_docs_has_pages(site: Path) -> None:
    """Markdown, a file, and a folder; and links lead there."""
    start = (site / "index.html").read_text(encoding="utf-8")
    for target in (
        "repository/index.html",
        "repository/CHANGELOG.html",
        "decisions/index.html",
        "tables.html",
    ):
        assert f'href="{target}"' in start
        assert (site / target).is_file()
    readme = (site / "repository" / "index.html").read_text(encoding="utf-8")
    assert 'href="services/consumer/batch.py.html"' in readme
    assert 'href="../audit.html"' in readme
    shown = (site / "repository" / "services" / "consumer" / "batch.py.html").read_text(encoding="utf-8")
    assert re.sub("<[^>]+>", "", shown).count("def ") > 3
    decisions = (site / "decisions" / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        assert f'href="{page.stem}.html"' in decisions


def test_a_list_is_a_list_there_too(site: Path) -> None:
    """Hosts of repositories take lists that are indented by three blanks, and the site asks for four."""
    marked = re.compile(r"<p>(?:(?!</p>).)*\n(?:[-*] |\d+\. |\||```)(?:(?!</p>).)*", re.DOTALL)
    found = {
        str(page.relative_to(site)): marked.findall(page.read_text("utf-8")) for page in site.rglob("*.html")
    }
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_a_page_has_every_command_with_its_options(site: Path) -> None:
    """As `--help` shows them, those of groups too."""
    page = re.sub("<[^>]+>", "", (site / "options.html").read_text(encoding="utf-8"))
    for name in COMMANDS:
        assert f"Usage: telemetry {name}" in page
    assert "Usage: telemetry dlq replay" in page
    assert "--not-replayed" in page


def test_the_search_finds_pages_and_no_code(site: Path) -> None:
    """What a module says is found by the pages that name it."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    places = {one["location"].partition("#")[0] for one in index["docs"]}
    assert {"settings.html", "tutorial/first-pipeline.html", "repository/index.html"} <= places
    assert not [place for place in places if place.endswith(".py.html")]


def test_a_link_or_a_page_that_is_lost_is_an_error(tmp_path: Path) -> None:
    """Each of them is named."""
    (tmp_path / "website").mkdir()
    (tmp_path / "docs").mkdir()
    for name in ("mkdocs.yml", "outside.py"):
        text = (ROOT / "website" / name).read_text(encoding="utf-8")
        if name == "mkdocs.yml":
            text = text[: text.index("nav:\n  - Start")] + "nav: [README.md]\n"
            text = text.replace("hooks: [outside.py, options.py]", "hooks: [outside.py]")
        (tmp_path / "website" / name).write_text(text, encoding="utf-8")
    (tmp_path / "docs" / "forgotten.md").write_text("# Not in the navigation\n", encoding="utf-8")
    (tmp_path / "good.py").write_text("x = 1\n", encoding="utf-8")
    links = ("gone.md", "forgotten.md#gone", "../gone.py", "../good.py", "../good.py#gone")
    page = "# Links\n\n`[code](never.md)`\n\n```\n[block](never.md)\n```\n\n"
    (tmp_path / "docs" / "README.md").write_text(
        page + "".join(f"- [{link}]({link})\n" for link in links), encoding="utf-8"
    )
    done = build(tmp_path / "website" / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert said.count("WARNING") == 5
    for named in ("'gone.md'", "'forgotten.md#gone'", "'../gone.py'", "good.py.md#gone'", "forgotten.md\n"):
        assert named in said
    assert "never" not in said
