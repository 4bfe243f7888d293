"""What is around the code: workflows, the parts of a release, what a commit is checked by."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from services import __version__

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def _run(*command: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_actionlint_finds_nothing_in_the_workflows() -> None:
    """`.ci/tools` builds it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actionlint"
    program = shutil.which("actionlint") or shutil.which("actionlint", path=str(cache))
    if program is None:
        pytest.skip("no actionlint here, so the workflows are not linted")
    done = _run(program, *map(str, WORKFLOWS))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_uses_actions_by_commit_and_asks_for_its_rights(file: Path) -> None:
    """A tag can be moved by whoever owns the action."""
    text = file.read_text(encoding="utf-8")
    used = re.findall(r"uses: (?!\./)(\S+)(.*)", text)
    assert used
    assert [
        action
        for action, comment in used
        if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) or not re.fullmatch(r" # v[\d.]+", comment)
    ] == []
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


def _jobs(workflow: str) -> dict[str, Any]:
    text = (ROOT / ".github" / "workflows" / workflow).read_text(encoding="utf-8")
    jobs: dict[str, Any] = yaml.safe_load(text)["jobs"]
    return jobs


def test_nothing_is_published_of_a_commit_that_fails_the_checks() -> None:
    """They run for the tag: whoever pushes it may not have waited for those of the branch."""
    jobs = _jobs("release.yml")
    assert jobs["checks"] == {"uses": "./.github/workflows/checks.yml"}
    assert jobs["build"]["needs"] == "checks"
    assert jobs["publish"]["needs"] == "build"


def test_the_checks_are_what_make_check_runs_and_the_site() -> None:
    """`make site` ends with an error where a link is broken."""
    commands = [step.get("run", "") for job in _jobs("checks.yml").values() for step in job["steps"]]
    made = {
        target
        for text in commands
        for line in re.findall(r"^make (.+)$", text, re.MULTILINE)
        for target in line.split()
    }
    (parts,) = re.findall(r"^check: (.+?) ##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert made >= {*parts.split(), "site"}


def test_nothing_is_tracked_that_is_ignored() -> None:
    """A link in the place of an environment would replace the environment of whoever takes the commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("no repository here")
    done = _run("git", "ls-files", "--cached", "--ignored", "--exclude-standard")
    assert (done.returncode, done.stdout) == (0, "")


def test_an_action_has_one_commit_everywhere() -> None:
    """Otherwise one of them was forgotten."""
    used = {use for file in WORKFLOWS for use in re.findall(r"uses: (\S+)@(\S+)", file.read_text("utf-8"))}
    assert len(used) == len(dict(used))


def test_all_pythons_that_the_package_names_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert _jobs("checks.yml")["test"]["strategy"]["matrix"]["python"] == named
    assert project["requires-python"] == f">={named[0]}"


def test_the_hooks_of_a_push_are_what_make_check_runs_and_those_of_a_commit_leave_out_the_tests() -> None:
    """A hook without a stage of its own is run at both."""
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert config["default_install_hook_types"] == ["pre-commit", "pre-push"]
    stages = {hook["entry"]: hook.get("stages") for hook in config["repos"][0]["hooks"]}
    assert stages.pop("make test") == ["pre-push"]
    assert set(stages.values()) == {None}
    assert re.findall(r"^check: (.+?) ##", rules, re.MULTILINE) == ["lint types test"]
    hooks = {entry.removesuffix(" --force-exclude") for entry in stages}
    made = re.findall(r"^(?:lint|types): .*\n((?:\t.*\n)+)", rules, re.MULTILINE)
    lines = [line.strip(" .") for part in made for line in part.split("\n") if line]
    assert hooks == {line.strip("\t@").replace("$(BIN)", ".venv/bin").removesuffix(" .") for line in lines}


def test_kind_is_given_every_image_that_a_test_loads() -> None:
    """`kind load docker-image` takes only what Docker has, and fails otherwise."""
    tests = "".join(file.read_text("utf-8") for file in sorted((ROOT / "tests" / "e2e").glob("*.py")))
    named = dict(re.findall(r'^(\w+): Final = "([^"]+)"$', tests, re.MULTILINE))
    loads = re.findall(r'run_given\("TELEMETRY_E2E_LOAD", (.+)\)$', tests, re.MULTILINE)
    loaded = {one for load in loads for one in load.split(", ") if one != "*our_images()"}
    wanted = {one.strip('"') if one.startswith('"') else named[one] for one in loaded}
    assert len(wanted) >= 5
    script = (ROOT / ".ci" / "kind").read_text("utf-8")
    assert wanted <= set(re.findall(r"^docker pull --quiet (\S+)$", script, re.MULTILINE))


@pytest.fixture
def kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs first on the PATH that answer as for a cluster of kind; gives the file of its rules."""
    nodes = {
        f"telemetry-tests-{name}": number
        for number, name in enumerate(("control-plane", "worker", "worker2"))
    }
    rules = tmp_path / "rules"
    answers = {
        "kind": f"printf '%s\\n' {' '.join(nodes)}",
        "kubectl": 'case "$3" in\n'
        + "".join(f"{node}) printf 10.244.{number}.0/24 ;;\n" for node, number in nodes.items())
        + "*) exit 1 ;;\nesac",
        "docker": f"""touch {rules}
node=$2 verb=$5; shift 5
case $verb in
--insert) echo "$node $*" >> {rules} ;;
--delete) grep -qxF "$node $*" {rules} || exit 1
    grep -vxF "$node $*" {rules} > {rules}.new; mv {rules}.new {rules} ;;
*) exit 9 ;;
esac""",
    }
    for name, script in answers.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return rules


def test_kind_cuts_two_nodes_off_from_each_other_and_ends_it(kind: Path) -> None:
    """Each drops what comes from the other's pods; and the tests are told how."""
    done = _run(".ci/kind", "partition", "telemetry-tests-worker", "telemetry-tests-worker2")
    assert (done.returncode, done.stderr) == (0, "")
    assert kind.read_text("utf-8").splitlines() == [
        "telemetry-tests-worker FORWARD --source 10.244.2.0/24 --jump DROP",
        "telemetry-tests-worker2 FORWARD --source 10.244.1.0/24 --jump DROP",
    ]
    for _ in range(2):  # also where nothing is cut
        done = _run(".ci/kind", "heal")
        assert (done.returncode, done.stderr, kind.read_text("utf-8")) == (0, "", "")
    script = (ROOT / ".ci" / "kind").read_text("utf-8")
    assert (
        'TELEMETRY_E2E_PARTITION="$PWD/.ci/kind partition" TELEMETRY_E2E_HEAL="$PWD/.ci/kind heal"\n'
        in script
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy what the check of a release reads."""
    for name in (
        "services/__init__.py",
        "charts/telemetry-pipeline/Chart.yaml",
        "Dockerfile.producer",
        "Dockerfile.consumer",
        ".ci/release",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    text = f"# Changelog\n\n## [Unreleased]\n\n## [{__version__}] - 2026-12-01\n\n- One.\n\n- Two.\n\n"
    text += "## [0.0.9] - 2026-11-01\n\n- Old.\n"
    (tmp_path / "CHANGELOG.md").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_notes_of_a_release_are_its_section_of_the_changelog(copy: Path) -> None:
    assert _run(".ci/release", "notes", __version__, cwd=copy).stdout == "- One.\n\n- Two.\n\n"
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, notes = re.findall(r"^## \[(.+?)\].*\n\n((?:(?!## ).*\n)+)", text, re.MULTILINE)[0]
    assert _run(".ci/release", "notes", version).stdout == notes != ""


def test_the_headings_of_the_changelog_are_those_of_keep_a_changelog() -> None:
    """What its readers' tools look for: a version with its day, and what is in none yet."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    wrong = [one for one in versions if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", one)]
    assert versions
    assert wrong in ([], [versions[0]])
    assert set(wrong) <= {"[Unreleased]"}
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_a_tag_is_checked_against_every_place_that_names_the_version(copy: Path) -> None:
    """Each is forgotten once."""
    tag = f"v{__version__}"
    done = _run(".ci/release", "check", tag, cwd=copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert "such as v0.1.0" in _run(".ci/release", "check", __version__, cwd=copy).stderr
    for name, old, new in (
        ("services/__init__.py", f'"{__version__}"', '"9.9.9"'),
        ("charts/telemetry-pipeline/Chart.yaml", f"\nversion: {__version__}", "\nversion: 9.9.9"),
        ("charts/telemetry-pipeline/Chart.yaml", f'appVersion: "{__version__}"', 'appVersion: "9.9.9"'),
        ("Dockerfile.producer", f"ARG VERSION={__version__}", "ARG VERSION=9.9.9"),
        ("Dockerfile.consumer", f"ARG VERSION={__version__}", "ARG VERSION=9.9.9"),
        ("CHANGELOG.md", f"## [{__version__}] - 2026-12-01", "## [9.9.9] - 2026-12-01"),
        ("CHANGELOG.md", f"## [{__version__}] - 2026-12-01", f"## [{__version__}] - soon"),
        ("CHANGELOG.md", "- One.\n\n- Two.\n", ""),
    ):
        text = (copy / name).read_text(encoding="utf-8")
        assert old in text
        (copy / name).write_text(text.replace(old, new), encoding="utf-8")
        done = _run(".ci/release", "check", tag, cwd=copy)
        assert done.returncode == 1, (name, new)
        assert name in done.stderr
        (copy / name).write_text(text, encoding="utf-8")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program that answers as `docker` does before it on the PATH; its answers are files here."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'cd {tmp_path} && echo "$@" >> asked\n'
        'case "$1 $2 $3" in\n'
        '"buildx imagetools inspect") cat "$(echo "$4" | tr : -)" ;;\n'
        '"run --rm "*@sha256:*) echo "Redis server v=$(cat version) sha=00000000:0 malloc=jemalloc" ;;\n'
        "*) exit 9 ;;\nesac\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for name, digit in (("python-3.13-slim", "a"), ("redis-8.2", "b")):
        (tmp_path / name).write_text(f"sha256:{digit * 64}\n", encoding="utf-8")
    (tmp_path / "version").write_text("8.2.8", encoding="utf-8")
    return tmp_path


def test_a_release_looks_up_the_digests_of_the_images_below_it(registry: Path) -> None:
    """Of the tags that the repository names; the version of Redis is that of the very image."""
    done = _run(".ci/release", "bases")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"python:3.13-slim@sha256:{'a' * 64}\nredis:8.2@sha256:{'b' * 64}\n"
    assert f"run --rm redis:8.2@sha256:{'b' * 64} redis-server" in (registry / "asked").read_text("utf-8")
    assert f"redis:{_redis_of_compose()}" == "redis:8.2"
    for service in ("producer", "consumer"):
        assert "\nARG PYTHON_IMAGE=python:3.13-slim\n" in (ROOT / f"Dockerfile.{service}").read_text("utf-8")


def _redis_of_compose() -> str:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return str(services["redis"]["image"]).removeprefix("redis:")


@pytest.mark.parametrize("version", ["8.2.7", "7.4.10", ""])
def test_a_release_refuses_a_redis_without_its_fixes(registry: Path, version: str) -> None:
    (registry / "version").write_text(version, encoding="utf-8")
    done = _run(".ci/release", "bases")
    assert done.returncode == 1
    assert "8.2.8 is the oldest" in done.stderr
    assert "redis" not in done.stdout


def test_a_release_refuses_an_image_without_a_digest(registry: Path) -> None:
    """A registry that answers something else is no reason to take the tag."""
    (registry / "python-3.13-slim").write_text("<no value>", encoding="utf-8")
    done = _run(".ci/release", "bases")
    assert (done.returncode, done.stdout) == (1, "")
    assert "python:3.13-slim has no digest" in done.stderr


PAGES = [
    ROOT / line
    for line in _run("git", "ls-files", "-co", "--exclude-standard", "*.md").stdout.split()
    if (ROOT / line).is_file()
]


def _anchors(page: Path) -> set[str]:
    """Name the headings of a page as a host links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    """Those within the repository."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        if not there.exists() or (anchor and anchor not in _anchors(there)):
            broken.append(target)
    assert broken == []
