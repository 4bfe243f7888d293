"""skaffold.yaml and the values that it deploys with fit the chart, the Dockerfiles and the folders."""

import re
import shutil
import subprocess
from functools import reduce
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
CONFIG: Final = yaml.safe_load((ROOT / "skaffold.yaml").read_text(encoding="utf-8"))
(RELEASE,) = CONFIG["deploy"]["helm"]["releases"]
PROFILES: Final = {profile["name"]: profile for profile in CONFIG["profiles"]}


def _rendered(*values: str) -> list[dict[str, Any]]:
    """Render the chart as skaffold has it rendered, but for the images."""
    if shutil.which("helm") is None:
        pytest.skip("no helm on this machine")
    files = [part for file in values for part in ("--values", file)]
    command = ["helm", "template", RELEASE["name"], RELEASE["chartPath"], *files, "--skip-tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


def test_images_are_put_where_the_chart_has_them() -> None:
    """For each image: repository, tag and digest, by the name that skaffold gives the variable."""
    values = yaml.safe_load((ROOT / RELEASE["chartPath"] / "values.yaml").read_text(encoding="utf-8"))
    expected = {
        f"{service}.image.{part}": f"{{{{.IMAGE_{variable}_telemetry_{service}}}}}"
        for service in ("producer", "consumer")
        for part, variable in (("repository", "REPO"), ("tag", "TAG"), ("digest", "DIGEST"))
    }
    assert [one["image"] for one in CONFIG["build"]["artifacts"]] == [
        "telemetry-producer",
        "telemetry-consumer",
    ]
    assert RELEASE["setValueTemplates"] == expected
    for key in expected:
        assert isinstance(reduce(lambda node, part: node[part], key.split("."), values), str)


@pytest.mark.parametrize("artifact", CONFIG["build"]["artifacts"], ids=lambda one: str(one["image"]))
def test_images_have_the_stage_and_the_folder_that_files_are_synced_to(artifact: dict[str, Any]) -> None:
    """Where the reloader watches them."""
    dockerfile = (ROOT / artifact["docker"]["dockerfile"]).read_text(encoding="utf-8")
    assert re.search(rf"^FROM \S+ AS {artifact['docker']['target']}$", dockerfile, re.MULTILINE)
    (rule,) = artifact["sync"]["manual"]
    assert (rule["src"], rule["dest"]) == ("services/**/*.py", "/app")
    assert re.search(
        r"^COPY services/__init__\.py( services/\w+\.py)* /app/services/$", dockerfile, re.MULTILINE
    )


def test_ports_are_forwarded_from_what_the_chart_makes() -> None:
    """Each resource is there under its name, with its port."""
    made = {(one["kind"].lower(), one["metadata"]["name"]): one for one in _rendered(*RELEASE["valuesFiles"])}
    for entry in CONFIG["portForward"]:
        resource = made[entry["resourceType"], entry["resourceName"]]
        assert re.search(rf"(containerPort|port): {entry['port']}$", yaml.dump(resource), re.MULTILINE)


def test_containers_that_files_are_synced_to_can_be_written_to() -> None:
    """And nothing but that differs in their security."""
    for one in _rendered(*RELEASE["valuesFiles"]):
        if one["kind"] == "Deployment":
            (container,) = one["spec"]["template"]["spec"]["containers"]
            assert container["securityContext"]["readOnlyRootFilesystem"] is False
            assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_profile_replay_publishes_a_file() -> None:
    """Its paths are there, what it patches is what it says, and the chart makes a Job of it."""
    profile = PROFILES["replay"]
    for path in profile["manifests"]["kustomize"]["paths"]:
        assert (ROOT / path / "kustomization.yaml").is_file()
    add, remove = profile["patches"]
    assert (add["path"], remove["path"]) == ("/deploy/helm/releases/0/valuesFiles/-", "/portForward/1")
    assert CONFIG["portForward"][1]["resourceName"] == "demo-producer"
    kinds = [one["kind"] for one in _rendered(*RELEASE["valuesFiles"], add["value"])]
    assert kinds.count("Job") == 1
