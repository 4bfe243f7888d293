"""`make observe` as a person types it, on a machine without Docker, beside `telemetry run`; and its files."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from acceptance.rig import PATIENCE_S, ROOT, Rig
from observability import find_program
from prometheus import RULES, needed, rules_of
from servers import Absent, eventually, free_port

from charts.dashboards.answers import Prometheus, QueryFailed
from charts.observe.__main__ import COMPOSE_FILE, HERE, local_config
from services.ops.run.targets import targets_folder

# Not installed anew, whatever the times of the files say.
MAKE = ["make", "-s", "-C", str(ROOT), f"VENV={sys.prefix}", "-o", f"{sys.prefix}/ready", "observe"]


class Typed:
    """A command at a terminal, with all that it starts there."""

    def __init__(self, command: list[str], environment: Mapping[str, str], output: Path) -> None:
        self._output = output
        with output.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "MAKEFLAGS": "", **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")

    def presses_ctrl_c(self) -> int:
        """Interrupt all that is at the terminal, and wait for the end."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=PATIENCE_S)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=PATIENCE_S)


@pytest.fixture
def observe(rig: Rig) -> Iterator[Callable[..., Typed]]:
    """Type `make observe`, with some environment."""
    typed: list[Typed] = []

    def start(options: str = "", **environment: str) -> Typed:
        output = rig.folder / f"observe.{len(typed)}.log"
        one = Typed([*MAKE, f"ARGS={options}"], {**rig.environment, **environment}, output)
        typed.append(one)
        return one

    yield start
    for one in typed:
        one.close()


def asked(prometheus: Prometheus, what: str, **parameters: str) -> Any:
    """Ask; None while nobody answers."""
    try:
        return prometheus.ask(what, **parameters)
    except QueryFailed:
        return None


def healthy(prometheus: Prometheus) -> set[str]:
    """Name the targets that are up."""
    found = asked(prometheus, "targets") or {"activeTargets": []}
    return {one["labels"]["pod"] for one in found["activeTargets"] if one["health"] == "up"}


def test_a_run_is_seen_until_ctrl_c(rig: Rig, observe: Callable[..., Typed]) -> None:
    """All processes are scraped, and the chart's rules loaded; afterwards nothing is left."""
    needed(lambda: void(find_program("prometheus")), "make observe is not tried without Docker")
    port = free_port()
    typed = observe("--with prometheus", PROMETHEUS_PORT=str(port))
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    eventually(lambda: "Ctrl-C ends it" in typed.text, PATIENCE_S, typed.text)
    assert healthy(prometheus) == set()

    command = [sys.executable, "-m", "services.ops", "run", "--duration", "0", "--replicas", "2"]
    running = rig.start("run", command, {})
    everything = {"producer", "consumer-1", "consumer-2"}
    eventually(lambda: healthy(prometheus) == everything, PATIENCE_S, "all processes are up")
    loaded = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded if rule["type"] == "alerting"} == {
        rule["alert"] for rule in rules_of("alert")
    }
    assert len(loaded) == len(rules_of("alert")) + len(rules_of("record"))
    stored = 'sum(telemetry_consumer_settled_events_total{outcome="stored"}) > 0'
    eventually(lambda: prometheus.ask("query", query=stored)["result"], PATIENCE_S, "events are seen")

    running.signal(signal.SIGINT)
    assert running.wait() == 0
    eventually(lambda: not prometheus.ask("targets")["activeTargets"], PATIENCE_S, "what ended is no target")
    typed.presses_ctrl_c()
    assert asked(prometheus, "targets") is None
    assert "Traceback" not in typed.text
    assert not [pid for pid in Path("/proc").glob("[0-9]*/cmdline") if str(rig.data).encode() in read(pid)]


def test_a_port_that_is_taken_is_told(rig: Rig, observe: Callable[..., Typed]) -> None:
    """With Prometheus' own words, and what to do."""
    needed(lambda: void(find_program("prometheus")), "make observe is not tried without Docker")
    typed = observe("--with prometheus", PROMETHEUS_PORT=str(rig.server.port))
    assert typed.process.wait(timeout=PATIENCE_S) != 0
    assert "address already in use" in typed.text
    assert "make observe PROMETHEUS_PORT=" in typed.text
    assert "Traceback" not in typed.text


def test_without_docker_and_prometheus_one_is_told_what_to_install(
    tmp_path: Path, observe: Callable[..., Typed]
) -> None:
    """A machine that has neither: the PATH has make's shell alone."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "make", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    typed = observe(PATH=str(programs))
    assert typed.process.wait(timeout=PATIENCE_S) != 0
    assert "neither Docker with compose nor Prometheus is here. Install Docker" in typed.text
    assert "Traceback" not in typed.text


def test_prometheus_takes_both_configurations(tmp_path: Path) -> None:
    """The container's, and the one that is made of it for this machine."""
    needed(lambda: void(find_program("promtool")), "the configurations are not checked")
    # In the container's folders: the rules beside the configuration, and the targets.
    shutil.copy(HERE / "prometheus.yaml", tmp_path)
    shutil.copytree(RULES, tmp_path / "rules")
    local = tmp_path / "local.yaml"
    local.write_text(yaml.safe_dump(local_config(targets_folder(tmp_path))), encoding="utf-8")
    for config in (tmp_path / "prometheus.yaml", local):
        done = run("promtool", "check", "config", str(config))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("rules found") == len(list(RULES.glob("*.yaml")))


def test_the_collector_takes_its_configuration() -> None:
    """By the real one, of the version that compose names."""
    needed(lambda: void(find_program("otelcol")), "the collector's configuration is not checked")
    (config,) = (
        volume.split(":")[0]
        for volume in compose()["services"]["collector"]["volumes"]
        if "otelcol" in volume
    )
    environment = {**os.environ, **compose()["services"]["collector"]["environment"]}
    done = subprocess.run(
        [find_program("otelcol"), "validate", f"--config={HERE / config}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_compose_takes_its_file() -> None:
    """`docker compose config`: the schema, the variables, the paths."""
    try:
        docker = find_program("docker")
    except Absent as why:
        pytest.skip(f"{why}: the compose file is read, and not checked")
    if run(str(docker), "compose", "version").returncode != 0:
        pytest.skip("no docker compose: the compose file is read, and not checked")
    done = run(str(docker), "compose", "--file", str(COMPOSE_FILE), "config", "--quiet")
    assert done.returncode == 0, done.stderr


def test_what_compose_mounts_is_there() -> None:
    """A path that isn't would be made as an empty folder, and nobody told."""
    for name, service in compose()["services"].items():
        assert ":" in service["image"], f"{name} has no version"
        for volume in service.get("volumes", ()):
            place = volume.rpartition(":/")[0]
            if not place.startswith("${"):
                assert (HERE / place).exists(), f"{name}: {place}"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is open to others"


def test_grafana_is_given_what_the_dashboards_ask_for() -> None:
    """A data source of each kind, ways from exemplars to traces to logs and back; and the dashboards."""
    sources = {one["type"]: one for one in read_yaml("datasources/datasources.yaml")["datasources"]}
    assert set(sources) == {"prometheus", "jaeger", "loki"}
    services = compose()["services"]
    for kind, port in (("prometheus", 9090), ("jaeger", 16686), ("loki", 3100)):
        assert sources[kind]["url"] == f"http://{kind}:{port}"
        assert kind in services
    uids = {one["uid"] for one in sources.values()}
    (exemplar,) = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    derived, of_event = sources["loki"]["jsonData"]["derivedFields"]
    to_logs = sources["jaeger"]["jsonData"]["tracesToLogsV2"]
    assert exemplar["name"] == "trace_id"
    assert {one["datasourceUid"] for one in (exemplar, derived, of_event, to_logs)} <= uids
    assert (derived["matcherRegex"], of_event["matcherRegex"]) == ("trace_id", "event_trace_id")
    scraped = yaml.safe_load((HERE / "prometheus.yaml").read_text(encoding="utf-8"))
    assert sources["prometheus"]["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
    (provider,) = read_yaml("dashboards/dashboards.yaml")["providers"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in services["grafana"]["volumes"]}
    assert (HERE / mounted[provider["options"]["path"]] / "overview.json").is_file()
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/overview.json"


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    return document


def read_yaml(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((HERE / "grafana" / name).read_text(encoding="utf-8"))
    return document


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def void(_: object) -> None:
    """Want a program to be there, and nothing of it."""
