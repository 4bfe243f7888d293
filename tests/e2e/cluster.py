"""A Kubernetes cluster by kubectl and Helm, as people type them.

Nothing is waited for by the clock alone: `until` asks again and again, with a deadline.
"""

import atexit
import functools
import http.client
import json
import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[2]
CHART: Final = "charts/telemetry-pipeline"
VALKEY: Final = "valkey/valkey:8.1"
POSTGRES: Final = "postgres:17"
PATIENCE_S: Final = 120.0
"""How long anything may take that has no shorter limit of its own: the machine may be busy."""

Manifest = dict[str, Any]

_POLL_S: Final = 0.5


class CommandFailed(AssertionError):
    """A command ended with an error; the message is what it said."""

    def __init__(self, command: str, output: str, errors: str) -> None:
        self.output = output
        super().__init__(f"{command}\n{output}\n{errors}".strip())


def run(*command: str, stdin: str = "", timeout_s: float = PATIENCE_S) -> str:
    """Run a program from the root of the repository, and give its output. Raises CommandFailed."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(shlex.join(command), "", f"no end within {timeout_s:g} s") from None
    if done.returncode != 0:
        raise CommandFailed(shlex.join(command), done.stdout, done.stderr)
    return done.stdout


def run_given(variable: str, *arguments: str, timeout_s: float = 600.0) -> bool:
    """Run the command that an environment variable holds; False where it holds none."""
    command = shlex.split(os.environ.get(variable, ""))
    if command:
        run(*command, *arguments, timeout_s=timeout_s)
    return bool(command)


def until(ask: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """Ask until the answer is true, and give it; a command that fails meanwhile is asked again.

    Raises AssertionError naming `what` after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        why = ""
        try:
            if answer := ask():
                return answer
        except CommandFailed as failed:
            why = f"\n{failed}"
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}{why}")
        time.sleep(_POLL_S)


def holds(ask: Callable[[], Any], for_s: float, what: str) -> None:
    """See that the answer stays true for so long. Raises AssertionError naming `what`."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert ask(), f"no longer: {what}"
        time.sleep(_POLL_S)


def kubectl(*arguments: str, stdin: str = "", timeout_s: float = PATIENCE_S) -> str:
    """Run kubectl. Raises CommandFailed."""
    return run("kubectl", *arguments, stdin=stdin, timeout_s=timeout_s)


@functools.cache
def _proxy() -> str:
    """Have kubectl pass requests on to the cluster, until the tests end; gives its host and port."""
    process = subprocess.Popen(("kubectl", "proxy", "--port=0"), stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        raise CommandFailed("kubectl proxy", "", f"it ended with {process.wait()}")
    return said.split()[-1]


def asked(path: str, **parameters: str) -> str:
    """Get something from the cluster's API itself. Raises CommandFailed.

    For what is looked at again and again: a start of kubectl takes a third of a second of the processor.
    """
    target = f"{path}?{urlencode(parameters)}"
    connection = http.client.HTTPConnection(_proxy(), timeout=PATIENCE_S)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise CommandFailed(target, "", str(error)) from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise CommandFailed(target, text, f"status {answer.status}")
    return text


def nodes() -> list[str]:
    """Name the nodes that pods are put on."""
    found = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
    return [one["metadata"]["name"] for one in found if not one["spec"].get("taints")]


def on_node(node: str) -> dict[str, str]:
    """Give the node selector of one node."""
    return {"kubernetes.io/hostname": node}


def has_api(name: str) -> bool:
    """Tell whether an aggregated API or the group of a custom resource answers."""
    try:
        kubectl("get", "--raw", f"/apis/{name}")
    except CommandFailed:
        return False
    return True


def app_version() -> str:
    """Read the version that the chart installs: the tag of our images."""
    shown = run("helm", "show", "chart", CHART)
    (line,) = (line for line in shown.splitlines() if line.startswith("appVersion:"))
    return line.partition(":")[2].strip().strip("\"'")


def our_images() -> tuple[str, str]:
    """Name the images of the producer and the consumer: of the chart's tag, or of the one asked for."""
    tag = os.environ.get("TELEMETRY_E2E_TAG") or app_version()
    return f"telemetry-producer:{tag}", f"telemetry-consumer:{tag}"


@dataclass(frozen=True)
class Namespace:
    """A namespace of one's own, which lets restricted pods in and no others."""

    name: str
    helm_program: str = "helm"
    """Helm 4, Helm 3, or what else is asked."""

    def kubectl(self, *arguments: str, stdin: str = "", timeout_s: float = PATIENCE_S) -> str:
        """Run kubectl in it. Raises CommandFailed."""
        return kubectl("--namespace", self.name, *arguments, stdin=stdin, timeout_s=timeout_s)

    def get(self, *what: str) -> Any:
        """Get an object, or the list of those that are selected."""
        found = json.loads(self.kubectl("get", *what, "--output=json"))
        return found["items"] if found["kind"] == "List" else found

    def pods(self, selector: str) -> list[Any]:
        """Get the pods that are selected by their labels. Raises CommandFailed."""
        found = asked(f"/api/v1/namespaces/{self.name}/pods", labelSelector=selector)
        return list(json.loads(found)["items"])

    def helm(self, *arguments: str, stdin: str = "", timeout_s: float = PATIENCE_S) -> str:
        """Run Helm in it. Raises CommandFailed."""
        return run(self.helm_program, "--namespace", self.name, *arguments, stdin=stdin, timeout_s=timeout_s)

    def apply(self, *manifests: Manifest) -> None:
        """Apply manifests."""
        together = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.kubectl("apply", "--filename=-", stdin=json.dumps(together))

    def releases(self) -> set[str]:
        """Name the releases in it, in whatever state; Helm 3 and 4 list them by different options."""
        records = self.get("secrets", "--selector=owner=helm")
        return {one["metadata"]["labels"]["name"] for one in records}

    def report(self) -> str:
        """Tell what is there, for somebody who looks for the cause of a failure."""
        texts = []
        for command in (
            ("get", "all,pvc,networkpolicy", "--output=wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", "--selector=app.kubernetes.io/instance", "--all-containers", "--prefix", "--tail=15",
             "--max-log-requests=50", "--ignore-errors"),
        ):  # fmt: skip
            try:
                texts.append("\n".join(self.kubectl(*command).splitlines()[-60:]))
            except CommandFailed as failed:
                texts.append(str(failed))
        return "\n".join(texts)


OPEN: Final[list[Namespace]] = []
"""Namespaces that tests have made and use."""
CLOSED: Final[list[Namespace]] = []
"""Namespaces that are being deleted."""


@contextmanager
def new_namespace(helm_program: str = "helm", prefix: str = "telemetry-e2e") -> Iterator[Namespace]:
    """Make a namespace; when it closes, all that is in it goes."""
    one = Namespace(f"{prefix}-{uuid.uuid4().hex[:8]}", helm_program)
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": one.name, "labels": labels},
    }
    kubectl("create", "--filename=-", stdin=json.dumps(manifest))
    OPEN.append(one)
    try:
        yield one
    finally:
        OPEN.remove(one)
        CLOSED.append(one)
        try:
            for name in one.releases():
                one.helm("uninstall", name)
        finally:
            # Volumes take their time; the next tests need not wait for that.
            kubectl("delete", "namespace", one.name, "--wait=false")


def server_pod(name: str, image: str, *command: str, **more: Any) -> Manifest:
    """Write the spec of a pod that the restricted pod security lets in."""
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        **more.pop("container", {}),
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        **more,
    }
