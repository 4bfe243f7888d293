"""The chart as `helm template` renders it, and what one asks of the result.

Rendering starts a process, so each set of values is rendered once for all tests: change nothing in what is
given.
"""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts" / "telemetry-pipeline"
REDIS_CHART: Final = CHART / "charts" / "redis"
NAMESPACE: Final = "telemetry"

FEATURES: Final = sorted(CHART.glob("ci/*-values.yaml"))
EXAMPLES: Final = [CHART / "values-kind.yaml", CHART / "values-production.yaml"]

Manifest = dict[str, Any]
Values = Mapping[str, Any]

POSTGRES: Final[Values] = {"database": {"existingSecret": "pg"}}
EXTERNAL: Final[Values] = {"redis": {"enabled": False}, "externalRedis": {"host": "redis.example.com"}}

_TIMEOUT_S: Final = 180.0
"""A server takes the manifests of all sets in 10 s, and the machine may be busy."""


def absent(message: str) -> NoReturn:
    """Skip for want of a tool, but where all have to be there."""
    if os.environ.get("TELEMETRY_TESTS_REQUIRE_CLUSTER") == "1":
        pytest.fail(message)
    pytest.skip(message)


def run(*command: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a program, whatever its exit code."""
    return subprocess.run(
        command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )


def need(program: str, purpose: str) -> None:
    """Ask for a program; the reason says what is not tested without it."""
    if shutil.which(program) is None:
        absent(f"no {program} here, so {purpose}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML, and refuses a key that is there twice: who reads it next may take either."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        written = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = sorted({key for key in written if written.count(key) > 1})
        assert not twice, f"{twice} twice {node.start_mark}"
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> list[Any]:
    """Read all documents of a text. Raises AssertionError where a key is there twice."""
    return [one for one in yaml.load_all(text, _Loader) if one is not None]


def read_values(file: Path) -> Manifest:
    """Read a values file."""
    (values,) = load_yaml(file.read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


def merged(*parts: Values) -> Manifest:
    """Merge values as Helm merges values files: later ones win, key by key."""
    result: Manifest = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def nested(path: str, value: Any) -> Manifest:
    """Make values of one key: `consumer.keda.enabled`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def template(
    values: Values | None = None, release: str = "demo", options: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """Do `helm template`, whatever comes of it."""
    return _template(json.dumps(values or {}), release, options)


def template_anew(values: Values, release: str = "demo") -> str:
    """Do `helm template` again, although it was done."""
    return _template.__wrapped__(json.dumps(values), release, ()).stdout


@functools.cache
def _template(values: str, release: str, options: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    command = ("helm", "template", release, str(CHART), "--namespace", NAMESPACE, "--values", "-", *options)
    return run(*command, stdin=values)


def refusal(values: Values) -> str:
    """Give what is said about values that are refused."""
    done = template(values)
    assert done.returncode != 0, f"these values are accepted: {values}"
    return done.stderr


@dataclass(frozen=True, eq=False)
class Pod:
    """What one workload says of its pods."""

    owner: Manifest

    @property
    def kind(self) -> str:
        """The kind of the workload."""
        return str(self.owner["kind"])

    @property
    def name(self) -> str:
        """The name of the workload."""
        return str(self.owner["metadata"]["name"])

    @property
    def _template(self) -> Manifest:
        if self.kind == "Pod":
            return self.owner
        spec: Manifest = self.owner["spec"]
        if self.kind == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        template: Manifest = spec["template"]
        return template

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the pods."""
        return self._template["metadata"].get("labels") or {}

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of the pods."""
        return self._template["metadata"].get("annotations") or {}

    @property
    def spec(self) -> Manifest:
        """The specification of the pods."""
        return self._template["spec"]  # type: ignore[no-any-return]

    @property
    def containers(self) -> list[Manifest]:
        """All containers, those of the initialisation first."""
        return [*(self.spec.get("initContainers") or []), *self.spec["containers"]]

    @property
    def main(self) -> Manifest:
        """The first container: that of the service."""
        return self.spec["containers"][0]  # type: ignore[no-any-return]

    def identity(self) -> str:
        """Give all that makes Kubernetes replace the pods when it changes."""
        return json.dumps(self._template, sort_keys=True)


class Rendered:
    """The manifests of one rendering."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.all: list[Manifest] = load_yaml(text)

    def of(self, kind: str, component: str | None = None) -> list[Manifest]:
        """Give the manifests of a kind, all or those of one component."""
        return [
            one
            for one in self.all
            if one["kind"] == kind and component in {None, labels_of(one).get("app.kubernetes.io/component")}
        ]

    def one(self, kind: str, component: str | None = None) -> Manifest:
        """Give the only manifest of a kind."""
        (found,) = self.of(kind, component)
        return found

    def named(self, kind: str, name: str) -> Manifest:
        """Give a manifest by its name."""
        (found,) = (one for one in self.of(kind) if one["metadata"]["name"] == name)
        return found

    @property
    def pods(self) -> list[Pod]:
        """The pods of every workload."""
        return list(self._pods())

    def _pods(self) -> Iterator[Pod]:
        for one in self.all:
            if one["kind"] in {"Pod", "Deployment", "StatefulSet", "Job", "CronJob", "DaemonSet"}:
                yield Pod(one)

    @property
    def lasting_pods(self) -> list[Pod]:
        """The pods of every workload that is no hook of Helm."""
        return [pod for pod in self.pods if "helm.sh/hook" not in annotations_of(pod.owner)]

    def pod(self, component: str) -> Pod:
        """Give the pods of a component."""
        (found,) = (
            pod for pod in self.lasting_pods if pod.labels.get("app.kubernetes.io/component") == component
        )
        return found

    def environment(self, component: str) -> dict[str, str]:
        """Give what the service of a component finds in its environment.

        What comes from a Secret or from the pod's own fields is its origin in angle brackets.
        """
        container = self.pod(component).main
        found: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            if reference := source.get("configMapRef"):
                named = [one for one in self.of("ConfigMap") if one["metadata"]["name"] == reference["name"]]
                assert named or reference.get("optional"), reference
                for one in named:
                    found |= {f"{source.get('prefix', '')}{key}": text for key, text in one["data"].items()}
        for variable in container.get("env") or []:
            found[variable["name"]] = variable.get("value") or _origin(variable.get("valueFrom") or {})
        assert all(isinstance(text, str) for text in found.values()), found
        return found

    def file(self, component: str, path: str) -> str | None:
        """Give a file that a ConfigMap puts into the container of a component."""
        pod = self.pod(component)
        folder, _, name = path.rpartition("/")
        for mount in pod.main.get("volumeMounts") or []:
            if mount["mountPath"] in {folder, path}:
                (volume,) = (one for one in pod.spec["volumes"] if one["name"] == mount["name"])
                data = self.named("ConfigMap", volume["configMap"]["name"])["data"]
                paths = {item["path"]: item["key"] for item in volume["configMap"].get("items") or []}
                return str(data[paths.get(name, name)])
        return None


def _origin(source: Manifest) -> str:
    for kind, reference in source.items():
        if kind == "secretKeyRef":
            return f"<secret {reference['name']} {reference['key']}>"
        return f"<{kind} {json.dumps(reference)}>"
    return ""


def labels_of(manifest: Manifest) -> dict[str, str]:
    """Give the labels of an object."""
    return manifest["metadata"].get("labels") or {}


def annotations_of(manifest: Manifest) -> dict[str, str]:
    """Give the annotations of an object."""
    return manifest["metadata"].get("annotations") or {}


def render(values: Values | None = None, release: str = "demo") -> Rendered:
    """Render values that have to be accepted."""
    return _rendered(json.dumps(values or {}), release)


@functools.cache
def _rendered(values: str, release: str) -> Rendered:
    done = _template(values, release, ())
    assert done.returncode == 0, done.stderr
    return Rendered(done.stdout)


def name_of(file: Path) -> str:
    """Name a values file in the name of a test."""
    return file.stem.removesuffix("-values").removeprefix("values-")


SETS: Final[dict[str, Manifest]] = {"default": {}} | {
    name_of(file): read_values(file) for file in [*FEATURES, *EXAMPLES]
}
"""Every set of values that is in the repository, by name."""


def source_of(rendered: Rendered, path: str) -> tuple[str, str, str]:
    """Give the kind, the name and the key that a file of the producer comes from."""
    pod = rendered.pod("producer")
    folder, _, name = path.rpartition("/")
    (mount,) = (one for one in pod.main["volumeMounts"] if one["mountPath"] == folder)
    assert mount["readOnly"] is True
    (volume,) = (one for one in pod.spec["volumes"] if one["name"] == mount["name"])
    kind = "secret" if "secret" in volume else "configMap"
    (key,) = (item["key"] for item in volume[kind]["items"] if item["path"] == name)
    return kind, volume[kind].get("secretName") or volume[kind]["name"], key
