"""The cluster that KUBECONFIG names, asked for once; no test here where it is not to be used.

TELEMETRY_E2E=1              use the cluster: namespaces are made and deleted, and a node is drained
TELEMETRY_TESTS_REQUIRE_CLUSTER=1   the same, and fail where there is none
TELEMETRY_E2E_LOAD           command that takes images from Docker to the nodes: kind load docker-image
TELEMETRY_E2E_TAG            tag of our images; without, the version of the chart
TELEMETRY_E2E_KEDA           command that installs KEDA where it is not there
TELEMETRY_E2E_PARTITION      command that cuts the pods of two nodes off from each other; given their names
TELEMETRY_E2E_HEAL           command that ends it
TELEMETRY_E2E_SHORT=1        what of docs/kubernetes.md needs no server of one's own, with one Helm
TELEMETRY_E2E_POLICIES=1     the cluster has to enforce NetworkPolicies; otherwise it is found out
"""

import fcntl
import json
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn, Protocol

import pytest
from e2e.cluster import (
    CLOSED,
    OPEN,
    PATIENCE_S,
    VALKEY,
    CommandFailed,
    Namespace,
    kubectl,
    new_namespace,
    our_images,
    run_given,
)

GROWING: Final = f"telemetry-e2e-growing-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
"""A StorageClass whose volumes may grow; a worker takes its own away when it ends."""


class NewNamespace(Protocol):
    """Makes a namespace, for the Helm that is named."""

    def __call__(self, helm_program: str = "helm", prefix: str = "telemetry-e2e") -> Namespace: ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that is marked `alone` run while no other does, however many workers there are."""
    turns = item.config.cache.mkdir("cluster")
    kind = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    with (turns / "next").open("w") as following, (turns / "turn").open("w") as turn:
        # Who waits for the others to end is the next one: they start nothing before it.
        fcntl.flock(following, fcntl.LOCK_EX)
        fcntl.flock(turn, kind)
        fcntl.flock(following, fcntl.LOCK_UN)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell what is in the cluster where a test fails: it is gone afterwards."""
    report = yield
    if report.failed:
        report.sections += [(f"namespace {one.name}", one.report()) for one in OPEN]
    if report.skipped and isinstance(report.longrepr, tuple):
        # One place for all of them: pytest then says it in one line.
        report.longrepr = (__file__, 1, report.longrepr[2])
    return report


def _absent(message: str) -> NoReturn:
    if os.environ.get("TELEMETRY_TESTS_REQUIRE_CLUSTER") == "1":
        pytest.fail(message)
    pytest.skip(message)


def _bring_images(once: Path) -> None:
    """Take the images to the nodes: one worker does it, and the others wait for it."""
    with once.open("a+") as brought:
        fcntl.flock(brought, fcntl.LOCK_EX)
        if not os.fstat(brought.fileno()).st_size:
            run_given("TELEMETRY_E2E_LOAD", *our_images(), "redis:8.2", VALKEY)
            brought.write("brought")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Iterator[None]:
    """Ask for the cluster, and bring the images there."""
    wanted = ("TELEMETRY_E2E", "TELEMETRY_TESTS_REQUIRE_CLUSTER")
    if not any(os.environ.get(name) == "1" for name in wanted):
        pytest.skip("TELEMETRY_E2E=1 runs these on the cluster that KUBECONFIG names: it drains a node of it")
    if not os.environ.get("KUBECONFIG"):
        _absent("no KUBECONFIG, so the chart is not run on a cluster")
    for program in ("kubectl", "helm"):
        if shutil.which(program) is None:
            _absent(f"no {program} here, so the chart is not run on a cluster")
    try:
        kubectl("version")
    except CommandFailed as failed:
        _absent(f"the cluster of KUBECONFIG does not answer: {failed}")
    _bring_images(tmp_path_factory.getbasetemp().parent / f"images-{testrun_uid}")
    yield
    for one in CLOSED:
        kubectl("wait", "--for=delete", f"namespace/{one.name}", f"--timeout={PATIENCE_S:g}s")


@pytest.fixture(scope="module")
def new(cluster: None) -> Iterator[NewNamespace]:  # noqa: ARG001 - it decides whether there is one
    """Make namespaces, which go with the last test of the module."""
    with ExitStack() as stack:
        yield lambda helm_program="helm", prefix="telemetry-e2e": stack.enter_context(
            new_namespace(helm_program, prefix)
        )


@pytest.fixture(scope="module", params=["helm", "helm3"])
def helm_program(request: pytest.FixtureRequest, cluster: None) -> str:  # noqa: ARG001 - it decides whether there is one
    """Give each Helm in turn: the one that is called so, and Helm 3.18 as `helm3`."""
    if shutil.which(request.param) is None:
        _absent(f"no {request.param} here, so upgrades are not tried with it")
    return str(request.param)


@pytest.fixture(scope="session")
def growing(cluster: None) -> Iterator[str]:  # noqa: ARG001 - it decides whether there is one
    """Make a StorageClass whose volumes may grow; else the same as the cluster's default. Give its name."""
    classes = json.loads(kubectl("get", "storageclasses", "--output=json"))["items"]
    is_default = "storageclass.kubernetes.io/is-default-class"
    (default,) = (one for one in classes if one["metadata"].get("annotations", {}).get(is_default) == "true")
    growing = {
        **{key: default[key] for key in ("apiVersion", "kind", "provisioner", "reclaimPolicy")},
        "volumeBindingMode": default["volumeBindingMode"],
        "metadata": {"name": GROWING},
        "allowVolumeExpansion": True,
    }
    kubectl("apply", "--filename=-", stdin=json.dumps(growing))
    yield GROWING
    kubectl("delete", "storageclass", GROWING)


@pytest.fixture(scope="module")
def namespace(new: NewNamespace) -> Namespace:
    """Give an empty namespace that all tests of the module share."""
    return new()
