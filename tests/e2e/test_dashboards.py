"""The dashboards on a cluster: as ConfigMaps, and with what the cluster's own kubelets say of our pods.

Prometheus runs beside the tests and scrapes the kubelets through the API server. What kube-state-metrics
would say is not there; nor are throttling and network, which not every kubelet tells of single containers,
and volumes that are directories of their node have no figures.
"""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import yaml
from e2e.cluster import PATIENCE_S, Namespace, nodes, until
from e2e.release import QUICK, Release, merged
from observability import find_program
from servers import Absent, free_port

from charts.dashboards.__main__ import BOARDS, FILES
from charts.dashboards.answers import Prometheus, QueryFailed, Series, Target, Window, read_board, targets_of

SCRAPE_S: Final = 5
FROM_KUBELETS: Final = ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes")


@pytest.fixture(scope="module")
def release(namespace: Namespace) -> Release:
    """Install a release with its dashboards."""
    release = Release(namespace, "seen")
    release.install(merged(QUICK, {"dashboards": {"enabled": True}}))
    return release


@pytest.fixture
def prometheus(release: Release, tmp_path: Path) -> Iterator[Prometheus]:  # noqa: ARG001 - pods to look at
    """Run a Prometheus that scrapes every kubelet through the API server."""
    try:
        program = find_program("prometheus")
    except Absent as why:
        pytest.skip(f"{why}: the kubelets are not scraped")
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(
            subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
        )
        stack.callback(proxy.kill)
        assert proxy.stdout is not None
        found = re.search(r"127\.0\.0\.1:\d+", proxy.stdout.readline())
        assert found is not None
        jobs = [
            {
                "job_name": f"{node}-{what}",
                "metrics_path": f"/api/v1/nodes/{node}/proxy/metrics/{what}",
                "static_configs": [{"targets": [found[0]], "labels": {"node": node}}],
            }
            for node in nodes()
            for what in ("cadvisor", "resource")
        ]
        config = tmp_path / "prometheus.yaml"
        scrape = {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"}
        config.write_text(yaml.safe_dump({"global": scrape, "scrape_configs": jobs}), encoding="utf-8")
        port = free_port()
        options = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = stack.enter_context(
                subprocess.Popen(
                    [program, *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
                )
            )
        stack.callback(process.kill)
        yield Prometheus(f"http://127.0.0.1:{port}")


def test_each_dashboard_is_a_config_map_that_grafana_s_sidecar_finds(release: Release) -> None:
    """With the JSON of the file, whole."""
    found = release.namespace.get("configmaps", "--selector=grafana_dashboard=1")
    boards = {name: json.loads(text) for one in found for name, text in one["data"].items()}
    assert set(boards) == {f"{board.name}.json" for board in BOARDS}
    assert all(boards[name] == read_board(FILES / name) for name in boards)


def test_what_the_kubelets_say_of_our_pods_is_on_the_dashboard(
    release: Release, prometheus: Prometheus
) -> None:
    """Processor time and memory of every container, and of each once."""
    board = read_board(FILES / "kubernetes.json")
    targets = [
        target
        for target in targets_of(board)
        if any(name in target.expression for name in FROM_KUBELETS) and "kube_" not in target.expression
    ]
    assert len(targets) == len(FROM_KUBELETS)
    began = time.time() - SCRAPE_S
    for target in targets:
        series = until(
            partial(_of_every_container, release, prometheus, target, began), PATIENCE_S, target.name
        )
        assert len({tuple(sorted(one.labels.items())) for one in series}) == len(series)


def _of_every_container(
    release: Release, prometheus: Prometheus, target: Target, began: float
) -> list[Series] | None:
    """Ask a query; None while it has not told of every container of the release."""
    window = Window(began, time.time(), SCRAPE_S)
    try:
        series = prometheus.answer(target, read_board(FILES / "kubernetes.json"), window)
    except QueryFailed:  # it has only begun
        return None
    told = {(one.labels["pod"], one.labels["container"]) for one in series}
    there = {(pod.name, one["name"]) for pod in release.pods() for one in pod.containers}
    return (
        [one for one in series if one.labels["pod"].startswith(f"{release.name}-")] if there <= told else None
    )
