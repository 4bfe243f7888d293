"""What pages tell people to type: it is run by a test, or a reason says why not, and its options exist."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from services.contract.consuming.letter import DeadLetter
from services.ops.app import COMMANDS
from services.ops.lazy import load
from services.producer import __main__ as producer
from services.runtime.telemetry.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

RUN: Final = {
    "tutorial/first-pipeline.md": "tests/acceptance/test_pages.py",
    "tutorial/cluster.md": "tests/e2e/test_tutorial.py",
    "tutorial/own-data.md": "tests/acceptance/test_pages.py",
    "tutorial/own-step.md": "tests/acceptance/test_pages.py",
    "how-to/poison-event.md": "tests/acceptance/test_pages.py",
    "how-to/scaling.md": "tests/acceptance/test_pages.py",
    "how-to/upgrade.md": "tests/acceptance/test_pages.py",
    "how-to/wrong-deploy.md": "tests/acceptance/test_pages.py",
    "backup.md": "tests/acceptance/test_backup.py",
    "devices.md": "tests/acceptance/test_http_door.py",
    "moving-to-postgres.md": "tests/acceptance/test_moving.py",
    "postgres.md": "tests/acceptance/test_postgres.py",
    "steps.md": "tests/integration/consumer/test_steps.py",
    "your-data.md": "tests/acceptance/test_your_data.py",
}
"""By whom the commands in blocks `sh` and `console` are run, and that of the transcript in steps.md."""

_CLUSTER: Final = "a cluster; tests/e2e does the same with the same values there"
NOT_RUN: Final = {
    "how-to/scaling.md": f"a terminal to watch; {_CLUSTER}",
    "how-to/upgrade.md": _CLUSTER,
    "how-to/wrong-deploy.md": "letters of a producer that nobody has here; test_replay.py has such ones",
    "devices.md": _CLUSTER,
    "kubernetes.md": _CLUSTER,
    "moving-to-postgres.md": _CLUSTER,
    "observe.md": "Docker, or a terminal; test_observe.py and test_status_watch.py do the same",
    "tracing.md": "a collector and Jaeger; tests/acceptance/test_traces.py has both",
    "your-data.md": "files of somebody's own; tests/acceptance/test_run.py has such ones",
}
"""What the commands need that stand in other blocks."""

_PROGRAMS: Final = frozenset(
    (
        "curl",
        "docker",
        "helm",
        "kind",
        "kubectl",
        "make",
        "minikube",
        "pip",
        "python",
        "redis-cli",
        "tail",
        "telemetry",
        "uv",
    )
)


class _Loader(yaml.SafeLoader):
    """Reads the site's settings, whose tags name functions."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
SITE: Final = yaml.load((ROOT / "website" / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader


def _pages(entry: Any) -> Iterator[str]:
    """Give the pages of a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    else:
        for one in entry.values() if isinstance(entry, dict) else entry:
            yield from _pages(one)


NAVIGATION: Final = {name: list(_pages(part)) for one in SITE["nav"] for name, part in one.items()}
TASKS: Final = [*NAVIGATION["Tutorial"], *NAVIGATION["How to"]]


def blocks(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Give the language and the lines of each block, continued lines as one."""
    text = page.read_text(encoding="utf-8")
    for _, language, body in re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE):
        yield language, body.replace("\\\n", " ").splitlines()


def commands(lines: list[str], *, of_any: bool = False) -> Iterator[list[str]]:
    """Give the words of each line that calls a program; of a transcript of what was typed."""
    is_transcript = any(line.startswith("$ ") for line in lines)
    for line in lines:
        typed = line.removeprefix("$ ") if line.startswith("$ ") else ("" if is_transcript else line.strip())
        try:
            words = shlex.split(typed, comments=True)
        except ValueError:  # a text over several lines
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words and (words[0] in _PROGRAMS or of_any):
            yield words


def test_the_four_kinds_are_there() -> None:
    """And every page of a task exists."""
    assert list(NAVIGATION) == ["Start here", "Tutorial", "How to", "Reference", "Explanation", "The project"]
    assert [page for page in TASKS if not (DOCS / page).is_file()] == []


@pytest.mark.parametrize("page", sorted(TASKS))
def test_the_commands_of_a_page_are_run_or_say_why_not(page: str) -> None:
    """By a test that reads them from the page."""
    kinds = [
        language for language, lines in blocks(DOCS / page) if any(commands(lines, of_any=language == "sh"))
    ]
    if {"sh", "console"} & set(kinds):
        assert page in RUN
    if "" in kinds:
        assert page in NOT_RUN or page == "steps.md"
    else:
        assert page not in NOT_RUN
    if page in RUN:
        name = page.partition("/")[2] or page
        assert name in (ROOT / RUN[page]).read_text(encoding="utf-8")


def test_nothing_is_listed_that_is_gone() -> None:
    """Nor a page of another kind."""
    assert {*RUN, *NOT_RUN} <= set(TASKS)


ALL: Final = sorted(
    path
    for path in (
        *DOCS.rglob("*.md"),
        ROOT / "README.md",
        ROOT / "examples" / "README.md",
        ROOT / "CONTRIBUTING.md",
    )
    if path.parent.name != "decisions" and path.name != "benchmarks.md"  # they tell what was
)


def _telemetry(words: list[str]) -> Iterator[list[str]]:
    """Find the words of a `telemetry` command, also behind `kubectl exec ... --`."""
    if words[0] == "kubectl" and "--" in words:
        words = words[words.index("--") + 1 :]
    if words and words[0] == "telemetry":
        yield [word for word in words[1:] if word != "&"]


def _used(page: Path) -> Iterator[list[str]]:
    """Give every `telemetry` command of a page, in a block or within the text."""
    text = page.read_text(encoding="utf-8")
    for _, lines in blocks(page):
        for words in commands(lines):
            yield from _telemetry(words)
    for code in re.findall(r"(?<!`)`(telemetry [^`\n]+)`(?!`)", text):
        try:
            yield from _telemetry(shlex.split(code))
        except ValueError:
            continue


def _options(words: list[str]) -> tuple[set[str], list[str]]:
    """Give the options of the command that words name, and what is left of the words."""
    target, _ = COMMANDS[words[0]]
    found, rest = load(target), words[1:]
    while rest and rest[0] in getattr(found, "commands", {}):
        found = found.commands[rest.pop(0)]
    made = found.make_context("telemetry", [], resilient_parsing=True).command
    return {name for one in made.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}, rest


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    """Of every page, whoever runs it."""
    wrong = []
    for words in _used(page):
        if not re.fullmatch(r"[a-z]+", words[0]):
            continue
        if words[0] not in COMMANDS:
            wrong.append(words)
            continue
        options, rest = _options(words)
        end = next((at for at, word in enumerate(rest) if word in {"|", "||", ">", ";", "2>"}), len(rest))
        given = {
            word.partition("=")[0].strip("[],.") for word in rest[:end] if word.strip("[").startswith("--")
        }
        if not given <= options:
            wrong.append([*words, "has no", *sorted(given - options)])
    assert wrong == []


VALUES: Final = yaml.safe_load((ROOT / "charts/telemetry-pipeline/values.yaml").read_text(encoding="utf-8"))
VALUES["redis"] = (
    yaml.safe_load((ROOT / "charts/telemetry-pipeline/charts/redis/values.yaml").read_text(encoding="utf-8"))
    | VALUES["redis"]
)


def _is_value(key: str) -> bool:
    at: Any = VALUES
    for part in re.split(r"(?<!\\)\.", re.sub(r"\[\d+\]", "", key)):
        if not isinstance(at, dict) or not at:
            return True  # what is in it is free
        if part not in at:
            return False
        at = at[part]
    return True


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_value_that_a_page_sets_is_one_of_the_chart(page: Path) -> None:
    """Whether it is right for the cluster is another question."""
    keys = {
        pair.partition("=")[0]
        for _, lines in blocks(page)
        for words in commands(lines)
        if words[0] == "helm"
        for option, pair in itertools.pairwise(words)
        if option in {"--set", "--set-string", "--set-file", "--set-json"}
    }
    assert [key for key in sorted(keys) if not _is_value(key)] == []


def _table(page: str, heading: str) -> list[list[str]]:
    """Give the cells of the first table below a heading, without its head."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    (table, *_) = re.findall(r"^\|.*\n\| -.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_event_page_has_every_reason_with_its_stage() -> None:
    """In the order in which they are found out."""
    (dead,) = (one for one in CATALOGUE if one.name == "telemetry_consumer_dead_events_total")
    told = {(f"`{reason}`", f"`{stage}`") for stage, reason in dead.combinations}
    assert {(reason, stage) for reason, stage, _ in _table("event.md", "Reasons")} == told


def test_the_tables_page_has_every_table_and_every_field_of_a_letter() -> None:
    """Of both stores, by the SQL that makes them."""
    stores = ROOT / "services" / "stores"
    sqlite = (stores / "sqlite" / "schema.sql").read_text(encoding="utf-8")
    postgres = "".join(
        file.read_text(encoding="utf-8")
        for file in sorted((stores / "postgres" / "migrations").glob("*.sql"))
    )
    rows = _table("tables.md", "The other tables")

    def named(column: int) -> set[str]:
        return {name for row in rows if row[column] for name in re.findall(r"`(\w+)`", row[0])}

    assert named(1) | {"telemetry_events"} == set(re.findall(r"^CREATE TABLE (\w+)", sqlite, re.MULTILINE))
    assert named(2) | {"events"} == set(re.findall(r"^CREATE TABLE telemetry\.(\w+)", postgres, re.MULTILINE))
    fields = {name for row in _table("tables.md", "A dead letter") for name in re.findall(r"`(\w+)`", row[0])}
    assert fields == set(DeadLetter.__dataclass_fields__)


def test_the_exit_codes_are_those_that_the_programs_tell() -> None:
    """In their own words."""
    page = " ".join((DOCS / "exit-codes.md").read_text(encoding="utf-8").split())
    told = " ".join((producer.__doc__ or "").partition("Exit codes: ")[2].split())
    codes = re.findall(r"(\d) ([^;.]+?)(?: \([\w/.]+\))?[;.]", told)
    assert [code for code, _ in codes] == ["0", "1", "2", "3", "4"]
    for code, meaning in codes:
        assert re.search(rf"\| {code} \| {re.escape(meaning)}", page), meaning
