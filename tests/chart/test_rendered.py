"""The manifests in k8s/ are what the chart makes of their values, and kubectl builds them as they are."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
SETS: Final = ("demo", "production", "replay")

Manifest = dict[str, Any]


def _run(*command: str, cwd: Path = ROOT) -> str:
    """Run a tool that not every machine has; skip without it."""
    if shutil.which(command[0]) is None or shutil.which("helm") is None:
        pytest.skip(f"no {command[0]} or no helm on this machine")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _manifests(text: str) -> dict[tuple[str, str], Manifest]:
    """Give the manifests by kind and name; none may be there twice."""
    documents = [one for one in yaml.safe_load_all(text) if one is not None]
    found = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    assert len(found) == len(documents)
    return found


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do `make rendered` on a copy."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("k8s", "charts"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "Makefile", copy)
    for file in copy.glob("k8s/*/rendered.yaml"):
        file.unlink()
    _run("make", "rendered", cwd=copy)
    return copy


def test_every_set_of_values_is_rendered() -> None:
    """There is none that these tests do not know."""
    assert {path.parent.name for path in ROOT.glob("k8s/*/values.yaml")} == set(SETS)
    assert {path.parent.name for path in ROOT.glob("k8s/*/rendered.yaml")} == set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_the_manifests_are_those_of_the_chart(fresh: Path, name: str) -> None:
    """Otherwise: make rendered. Comments and order are no difference: they vary with the version of Helm."""
    kept = _manifests((ROOT / "k8s" / name / "rendered.yaml").read_text(encoding="utf-8"))
    assert kept == _manifests((fresh / "k8s" / name / "rendered.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SETS)
def test_no_password_and_no_test_is_in_the_manifests(name: str) -> None:
    """A password that Helm made up would be another at each rendering; `helm test` needs Helm."""
    kept = _manifests((ROOT / "k8s" / name / "rendered.yaml").read_text(encoding="utf-8"))
    assert [key for key in kept if key[0] == "Secret"] == []
    assert [
        key for key, one in kept.items() if "helm.sh/hook" in one["metadata"].get("annotations", {})
    ] == []


@pytest.mark.parametrize("name", SETS)
def test_kubectl_builds_all_of_it_in_one_namespace(name: str) -> None:
    """A namespace that lets in restricted pods only."""
    built = _manifests(_run("kubectl", "kustomize", f"k8s/{name}"))
    namespace = built.pop(("Namespace", "telemetry"))
    labels = namespace["metadata"]["labels"]
    modes = ("enforce", "audit", "warn")
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in modes} == {"restricted"}
    assert {one["metadata"]["namespace"] for one in built.values()} == {"telemetry"}


@pytest.mark.parametrize("name", ["demo", "replay"])
def test_what_the_demonstrations_refer_to_is_there(name: str) -> None:
    """Secrets and ConfigMaps, in a namespace that was empty before."""
    built = _manifests(_run("kubectl", "kustomize", f"k8s/{name}"))
    assert set(_referred_to(list(built.values()))) <= built.keys()


def _referred_to(node: Any) -> list[tuple[str, str]]:
    """Give the kinds and names in every reference to a Secret or ConfigMap, at any depth."""
    if isinstance(node, list):
        return [found for one in node for found in _referred_to(one)]
    if not isinstance(node, dict):
        return []
    found = [pair for one in node.values() for pair in _referred_to(one)]
    for kind, keys in (
        ("Secret", ("secretKeyRef", "secretRef", "secret")),
        ("ConfigMap", ("configMapKeyRef", "configMapRef", "configMap")),
    ):
        for key in keys:
            if isinstance(reference := node.get(key), dict) and not reference.get("optional"):
                name = reference.get("name") or reference.get("secretName")
                found += [(kind, str(name))] if name else []
    return found
