"""What pages tell people to type: it is run by a test, or a reason says why not, and its options exist."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import yaml
from telemetry_cli import every_command

from services.consumer import __main__ as consumer
from services.contract.codec import OPTIONAL, REQUIRED
from services.contract.consuming.letter import DeadLetter
from services.contract.kpis import Kpi
from services.ops.app import COMMANDS, app
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
"""By whom the commands in blocks `sh` and `console` are run."""

Blocks = tuple[tuple[str, str], ...]
"""A page, and what stands in one block of it."""

TYPED: Final[dict[str, Blocks]] = {
    "acceptance/test_pages.py::test_the_status_is_watched_until_ctrl_c": (
        ("how-to/scaling.md", "status --watch"),
        ("observe.md", "status --watch"),
    ),
    "acceptance/test_pages.py::test_one_line_sends_traces_to_a_collector": (
        ("observe.md", "OTEL_LOGS_EXPORTER"),
        ("tracing.md", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ),
    "acceptance/test_your_data.py::test_several_files_go_in_by_one_command": (
        ("your-data.md", "--from monday.csv"),
    ),
    "acceptance/test_your_data.py::test_what_is_still_written_is_followed_until_ctrl_c": (
        ("your-data.md", "sensors.csv --follow"),
        ("your-data.md", "sensors --from"),
    ),
    "integration/consumer/test_steps.py::"
    "test_the_example_of_the_documentation_can_be_tried_as_it_is_written": (
        ("steps.md", "telemetry steps try"),
    ),
    "e2e/test_door.py::test_the_commands_of_the_page_run_as_they_stand": (
        ("devices.md", "--set producer.mode=http"),
        ("devices.md", "telemetry events --device plant-2"),
    ),
    "e2e/test_mqtt.py::test_pods_share_what_comes_and_one_that_is_scaled_away_leaves_nothing_behind": (
        ("devices.md", "--set producer.mode=mqtt"),
        ("devices.md", "service/broker 1883"),
        ("devices.md", "mqttEndSess"),
    ),
    "e2e/test_kubernetes_page.py::test_the_first_run_of_the_readme_and_of_the_page": (
        ("kubernetes.md", "make cluster images"),
        ("kubernetes.md", "kubectl get pods\n"),
        ("how-to/scaling.md", "kubectl scale"),
        ("how-to/upgrade.md", "helm upgrade"),
        ("kubernetes.md", "kubectl delete pvc"),
        ("../README.md", "make cluster images"),
    ),
    "e2e/test_kubernetes_page.py::test_consumers_on_every_node_with_the_secret_of_each_program": (
        ("kubernetes.md", "kubectl get pods --selector"),
        ("kubernetes.md", "database.keys.host=endpoint"),
        ("kubernetes.md", "generic demo-database"),
    ),
    "e2e/test_kubernetes_page.py::test_from_sqlite_to_postgresql": (
        ("kubernetes.md", "minikube start"),
        ("moving-to-postgres.md", "telemetry copy"),
        ("kubernetes.md", "job/demo-copy"),
    ),
    "e2e/test_kubernetes_page.py::test_a_redis_of_ones_own": (("kubernetes.md", "generic telemetry-redis"),),
    "e2e/test_kubernetes_page.py::test_from_the_charts_redis_to_another_and_back": (
        ("kubernetes.md", "scale deploy/demo-producer"),
    ),
    "e2e/test_kubernetes_page.py::test_a_password_that_changes": (
        ("kubernetes.md", "patch secret demo-redis"),
    ),
    "e2e/test_kubernetes_page.py::test_templates_that_are_rendered_without_a_cluster": (
        ("kubernetes.md", "generic demo-passwords"),
    ),
    "e2e/test_kubernetes_page.py::test_watching_it": (
        ("kubernetes.md", "serviceMonitor.enabled"),
        ("kubernetes.md", "create job audit-now"),
    ),
    "e2e/test_kubernetes_page.py::test_a_file_once_and_once_more_with_more_lines": (
        ("kubernetes.md", "--install demo"),
        ("kubernetes.md", "kubectl replace"),
    ),
    "e2e/test_kubernetes_page.py::test_a_group_that_was_renamed": (
        ("kubernetes.md", "telemetry groups remove"),
    ),
    "e2e/test_kubernetes_page.py::test_a_larger_volume": (("kubernetes.md", "kubectl patch pvc"),),
    "e2e/test_traces.py::test_a_stored_event_is_followed_from_its_log_line_to_its_row": (
        ("tracing.md", "k8s/jaeger.yaml"),
    ),
}
"""By whom blocks of another kind are run: these tests read them from the page as well."""

NEEDS_A_REGISTRY: Final[dict[str, Blocks]] = {
    "e2e/test_door.py::test_an_update_under_load_cuts_no_request_and_loses_no_event": (
        ("devices.md", "kubectl run curl"),
    ),
}
"""What runs an image that is in a registry alone: this test sends from a pod with another one."""

NEEDS_DOCKER: Final[dict[str, Blocks]] = {
    "acceptance/test_observe.py::test_a_run_is_seen_until_ctrl_c": (("observe.md", "make observe"),),
}
"""What gets Grafana and more from a registry where Docker is: this test has Prometheus alone."""

INSTEAD: Final = TYPED | NEEDS_A_REGISTRY | NEEDS_DOCKER
LISTED: Final = [*itertools.chain(*INSTEAD.values())]

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
    """By a test that reads them from the page; other blocks than `sh` and `console` are named one by one."""
    for language, lines in blocks(DOCS / page):
        if not language and any(commands(lines)):
            text = "\n".join(lines)
            assert len([1 for where, what in LISTED if where == page and what in text]) == 1, text
    kinds = [
        language for language, lines in blocks(DOCS / page) if any(commands(lines, of_any=language == "sh"))
    ]
    if {"sh", "console"} & set(kinds):
        assert page in RUN
    if page in RUN:
        name = page.partition("/")[2] or page
        assert name in (ROOT / RUN[page]).read_text(encoding="utf-8")


def test_nothing_is_listed_that_is_gone() -> None:
    """Nor a page of another kind, nor a block that now stands otherwise."""
    assert set(RUN) <= set(TASKS)
    for page, what in LISTED:
        found = [
            lines for language, lines in blocks(DOCS / page) if not language and what in "\n".join(lines)
        ]
        assert len(found) == 1, (page, what)


def test_the_tests_that_are_named_for_a_block_exist() -> None:
    """Who types a block names its page, and the heading above it or a text that is in it alone."""
    for test, found in INSTEAD.items():
        file, _, name = test.partition("::")
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"\ndef {name}(" in text, test
        for page, what in found if test in TYPED else ():
            assert page.rpartition("/")[2] in text, (test, page)
            assert what.strip() in text or _heading_above(page, what) in text, (test, page, what)


def _heading_above(page: str, what: str) -> str:
    """Give the heading that the one block with a text stands below."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = list(re.finditer(r"^```(\w*)\n.*?^```$", text, re.DOTALL | re.MULTILINE))
    (at,) = (one.start() for one in found if not one[1] and what in f"{one[0]}".replace("\\\n", " "))
    within = {line for one in found for line in one[0].splitlines()}
    above = [line for line in text[:at].splitlines() if line.startswith("#") and line not in within]
    return above[-1]


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
    """Give the cells of the first table below a heading or a line, without its head."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"{heading}\n")[2]
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


def test_the_event_page_has_every_field_and_every_key_of_a_kpi() -> None:
    """In their order, and it says which fields are optional."""
    fields = [(re.findall(r"`(\w+)`", names), form) for names, form in _table("event.md", "# The event")]
    assert [name for names, _ in fields for name in names] == [
        name.decode() for name in (*REQUIRED, *sorted(OPTIONAL))
    ]
    optional = {name for names, form in fields if form.startswith("optional: ") for name in names}
    assert optional == {name.decode() for name in OPTIONAL}
    keys = [key for names, _ in _table("event.md", "KPIs") for key in re.findall(r"`(\w+)`", names)]
    assert keys == [one for one in Kpi.__dataclass_fields__ if one != "name"]


def test_the_page_of_commands_has_every_command() -> None:
    """And no other."""
    told = set()
    for names, _ in _table("commands.md", "# The command `telemetry`"):
        above = ""
        for code in re.findall(r"`([^`]+)`", names):
            *first, last = re.findall(r"(?<![-\w])[a-z]+\b", re.sub(r"\[--.*?\]", "", code))
            if first:
                above = " ".join(first[1:])
                told |= {above} if "[" in code and above else set()
            told.add(f"{above} {last}".strip())
    groups = {"dlq", "steps"}  # which do nothing by themselves
    assert told == {name for name, _ in every_command()} - groups


@pytest.mark.parametrize(("program", "column"), [(producer, 1), (consumer, 2)])
def test_the_exit_codes_of_a_service_are_those_that_it_tells(program: ModuleType, column: int) -> None:
    """In its own words."""
    told = " ".join((program.__doc__ or "").partition("Exit codes: ")[2].split())
    codes = dict(re.findall(r"(\d) ([^;.]+?)(?: \([\w/.]+\))?[;.]", told))
    page = {row[0]: row[column] for row in _table("exit-codes.md", "The services") if row[column]}
    assert list(codes) == list(page)
    assert [code for code, meaning in codes.items() if not page[code].startswith(meaning)] == []


def test_the_exit_codes_of_the_command_are_those_that_it_tells() -> None:
    """In its own words: in its help, and what 1 means in the help of each command."""
    told = " ".join((app.info.epilog or "").split())
    codes = re.findall(r"(\d) (.+?)(?= \d |$)", told)
    assert codes == [(code, meaning) for code, meaning in _table("exit-codes.md", "The command `telemetry`")]
    ones = {
        f"`telemetry {name}`": found[1]
        for name, command in every_command()
        if (found := re.search(r"Exit code 1 if (.*)", " ".join((command.help or "").split())))
    }
    page = dict(_table("exit-codes.md", "What 1 means for each command:"))
    assert "no to a question" in page.pop("any")
    assert set(page) == set(ones)
    for name, meaning in page.items():
        first, _, _ = re.sub(r" \(.*?\)", "", meaning).partition(",")
        assert ones[name].startswith(re.split(r"[.:;]", first)[0]), name
