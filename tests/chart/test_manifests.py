"""Helm's own lint, and the manifests against the schemas of a real cluster."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from chart.rendering import CHART, EXAMPLES, FEATURES, SETS, absent, merged, name_of, need, render, run

pytestmark = pytest.mark.usefixtures("helm")

CUSTOM: Final = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
"""Kinds that a cluster has only where somebody installed them."""

_IN_DEFAULT: Final = {"metadata": {"namespace": "default"}}
_INT_OR_STRING: Final = {"oneOf": [{"type": "string"}, {"type": "integer"}]}


@pytest.mark.parametrize(
    "file", [None, *FEATURES, *EXAMPLES], ids=lambda file: name_of(file) if file else "default"
)
def test_helm_finds_nothing_to_complain_about(file: Path | None) -> None:
    """`helm lint --strict`: warnings are errors."""
    options = ("--values", str(file)) if file else ()
    done = run("helm", "lint", str(CHART), "--strict", "--quiet", *options)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster() -> None:
    """Ask for the cluster that KUBECONFIG names."""
    missing = "the manifests are not checked against a cluster"
    need("kubectl", missing)
    if not os.environ.get("KUBECONFIG"):
        absent(f"no KUBECONFIG, so {missing}")
    asked = run("kubectl", "version", "--request-timeout=10s")
    if asked.returncode != 0:
        absent(f"the cluster of KUBECONFIG does not answer, so {missing}: {asked.stderr[-200:]}")


@pytest.fixture(scope="module")
def schemas(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - it is asked
    """Write a strict schema for each kind that the cluster has, made of its own OpenAPI."""
    need("kubeconform", "the manifests are not checked against the schemas of the cluster")
    asked = run("kubectl", "get", "--raw", "/openapi/v2")
    assert asked.returncode == 0, asked.stderr
    folder = tmp_path_factory.mktemp("schemas")
    definitions = {name: _strict(one) for name, one in json.loads(asked.stdout)["definitions"].items()}
    for name, one in definitions.items():
        kinds = one.get("x-kubernetes-group-version-kind") or []
        if len(kinds) == 1:  # options of requests have one for each version
            (kind,) = kinds
            group = kind["group"].split(".")[0]
            file = "-".join(part for part in (kind["kind"], group, kind["version"]) if part).lower()
            schema = {"$ref": f"#/definitions/{name}", "definitions": _reachable(name, definitions)}
            (folder / f"{file}.json").write_text(json.dumps(schema), encoding="utf-8")
    return folder


def _strict(definition: Any) -> Any:
    """Make a definition refuse what it does not know, and take numbers where the cluster does."""
    if isinstance(definition, list):
        return [_strict(one) for one in definition]
    if not isinstance(definition, dict):
        return definition
    if definition.get("format") == "int-or-string" or definition.get("x-kubernetes-int-or-string"):
        return _INT_OR_STRING
    strict = {key: _strict(value) for key, value in definition.items() if key != "description"}
    if isinstance(definition.get("description"), str) and definition["description"].startswith("Quantity is"):
        return {"type": ["string", "number"]}
    if "properties" in definition and not definition.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


def _reachable(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Give a definition and all that it refers to."""
    found: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        if (one := waiting.pop()) not in found:
            found[one] = definitions[one]
            waiting += _references(definitions[one])
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for one in node.values():
            yield from _references(one)
    if isinstance(node, list):
        for one in node:
            yield from _references(one)


def _known(manifest: dict[str, Any], schemas: Path) -> bool:
    group, _, version = manifest["apiVersion"].rpartition("/")
    parts = (manifest["kind"], group.split(".")[0], version)
    return (schemas / f"{'-'.join(part for part in parts if part).lower()}.json").is_file()


def _documents(manifests: list[Any]) -> str:
    """Write manifests as JSON, which everybody reads alike: to some readers of YAML, y is true."""
    return "\n---\n".join(json.dumps(one) for one in manifests)


def _conform(manifests: str, schemas: Path) -> str:
    """Do `kubeconform -strict`, and give what it says; empty where all is right."""
    location = f"{schemas}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    done = run("kubeconform", "-strict", "-schema-location", location, stdin=manifests)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _every_set() -> list[Any]:
    """Give the manifests of every set of values; the name of the release says of which."""
    return [one for name, values in SETS.items() for one in render(values, release=f"only-{name}").all]


def test_manifests_fit_the_schemas_of_the_cluster(schemas: Path) -> None:
    """Every field is known and of its type; kinds that the cluster lacks have a test of their own."""
    manifests = [one for one in _every_set() if one["kind"] not in CUSTOM]
    assert len(manifests) > 10 * len(SETS)
    assert [one for one in manifests if not _known(one, schemas)] == []
    assert _conform(_documents(manifests), schemas) == ""


@pytest.mark.parametrize("kind", sorted(CUSTOM))
def test_custom_resources_fit_the_schemas_of_the_cluster(kind: str, schemas: Path) -> None:
    """Where the cluster has them."""
    found = [one for values in SETS.values() for one in render(values).all if one["kind"] == kind]
    if not found:
        pytest.skip(f"the chart makes no {kind}: there is no file for one yet")
    if not _known(found[0], schemas):
        pytest.skip(f"this cluster has no schema of {kind} ({found[0]['apiVersion']}), so it is not checked")
    assert _conform(_documents(found), schemas) == ""


def test_a_manifest_that_does_not_fit_is_seen(schemas: Path) -> None:
    """A field that is misspelt, and one of another type."""
    deployment = render().one("Deployment", "consumer")
    misspelt = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    assert "replica" in _conform(_documents([misspelt]), schemas)
    mistyped = {**deployment, "spec": {**deployment["spec"], "replicas": "1"}}
    assert "replicas" in _conform(_documents([mistyped]), schemas)


def test_the_cluster_would_take_the_manifests(schemas: Path) -> None:
    """As Helm 4 gives them, applied on the server, which checks more than types; nothing is kept of it."""
    # A pod by itself needs its ServiceAccount, which is not there.
    manifests = [one for one in _every_set() if _known(one, schemas) and one["kind"] != "Pod"]
    done = run(
        *("kubectl", "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-"),
        stdin=_documents([merged(one, _IN_DEFAULT) for one in manifests]),
    )
    assert done.returncode == 0, done.stderr
