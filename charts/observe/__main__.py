"""`make observe`: see what `make run` does, until Ctrl-C.

    with Docker      collector, Prometheus, Jaeger, Loki and Grafana with the dashboards (compose.yaml)
    without it       the Prometheus on the PATH, with the same targets and rules

    DATA_DIR/observe/targets.json     where the running processes serve their metrics; by `telemetry run`
    DATA_DIR/observe/prometheus.yaml  the configuration of the Prometheus on the PATH, and its data beside it

`make run` may be started before or after it, and as often as one likes.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from services.ops.run.targets import make_targets_folder
from services.runtime.own_files import private_files
from services.runtime.screen import answer, remark
from services.runtime.settings import ConsumerSettings, SettingsInvalid, load, read_sources

HERE: Final = Path(__file__).resolve().parent
RULES: Final = HERE.parent / "telemetry-pipeline" / "files" / "rules"
COMPOSE_FILE: Final = HERE / "compose.yaml"

_PROBE_S: Final = 20.0
_START_S: Final = 60.0
_GRACE_S: Final = 30.0
_LOOK_S: Final = 0.1
_PORTS: Final = {
    "GRAFANA_PORT": "3000",
    "PROMETHEUS_PORT": "9090",
    "JAEGER_PORT": "16686",
    "OTLP_GRPC_PORT": "4317",
    "OTLP_HTTP_PORT": "4318",
}

Way = Literal["docker", "prometheus"]


class ObserveFailed(Exception):
    """It can't be started; the message says what to install or change."""


def main() -> int:
    """Run it. Exit code 1 when it can't be started or ends by itself, 2 for a wrong setting."""
    parser = argparse.ArgumentParser(
        prog="make observe", description="See what `make run` does, until Ctrl-C."
    )
    parser.add_argument(
        "--with", dest="way", choices=["docker", "prometheus"], help="instead of what is found"
    )
    way: Way | None = parser.parse_args().way
    try:
        data_dir = load(ConsumerSettings, read_sources()).data_dir.resolve()
        ports = {name: os.environ.get(name) or port for name, port in _PORTS.items()}
        with private_files():
            folder = make_targets_folder(data_dir)
        with _interruptible():
            if (way or _found()) == "docker":
                _observe_with_docker(folder, ports)
            else:
                _observe_with_prometheus(folder, ports["PROMETHEUS_PORT"])
    except KeyboardInterrupt:  # the way to end it
        return 0
    except SettingsInvalid as error:
        remark(*error.lines)
        return 2
    except (ObserveFailed, OSError) as error:
        remark(f"make observe: {error}")
        return 1
    return 0


def _found() -> Way:
    """Find out what this machine has. Raises ObserveFailed when it has neither."""
    if _has_compose():
        return "docker"
    if shutil.which("prometheus"):
        answer("no Docker with compose that answers, so Prometheus alone: no Grafana, no traces, no logs")
        return "prometheus"
    raise ObserveFailed(
        "neither Docker with compose nor Prometheus is here. Install Docker "
        "(https://docs.docker.com/get-docker) for all of it, or Prometheus (Debian: apt install prometheus; "
        "macOS: brew install prometheus) for metrics and alerts alone. "
        "`telemetry status --watch` needs neither."
    )


def _has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    for question in (["compose", "version"], ["info"]):
        try:
            done = subprocess.run(["docker", *question], capture_output=True, timeout=_PROBE_S, check=False)
        except subprocess.TimeoutExpired:
            return False
        if done.returncode != 0:
            return False
    return True


def _observe_with_docker(folder: Path, ports: Mapping[str, str]) -> None:
    compose = ["docker", "compose", "--file", str(COMPOSE_FILE)]
    environment = {**os.environ, **ports, "OBSERVE_TARGETS": str(folder)}
    try:
        if subprocess.run([*compose, "up", "--detach", "--wait"], env=environment, check=False).returncode:
            raise ObserveFailed(
                "docker compose could not start it, for the reason above. Where a port is taken, name others "
                f"by {', '.join(ports)}. `make observe ARGS='--with prometheus'` does without Docker."
            )
        answer(f"Grafana     http://127.0.0.1:{ports['GRAFANA_PORT']}")
        answer(f"Prometheus  http://127.0.0.1:{ports['PROMETHEUS_PORT']}")
        answer(f"Jaeger      http://127.0.0.1:{ports['JAEGER_PORT']}")
        endpoint = f"http://127.0.0.1:{ports['OTLP_HTTP_PORT']}"
        answer("Beside it, with traces and logs:")
        reached = _reached_by_containers()
        metrics = f"METRICS_HOST={reached} " if reached else ""
        answer(f"  {metrics}OTEL_EXPORTER_OTLP_ENDPOINT={endpoint} OTEL_LOGS_EXPORTER=otlp make run")
        answer("Ctrl-C ends it", flush=True)
        while True:
            time.sleep(_LOOK_S)
    finally:
        subprocess.run([*compose, "down"], env=environment, check=False)


def _reached_by_containers() -> str:
    """Give the address at which containers find this host: on Linux that of Docker's bridge, not 127.0.0.1.

    Empty where it is none of ours: Docker Desktop leads them to 127.0.0.1.
    """
    asked = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    try:
        with socket.socket() as probe:
            probe.bind((found, 0))
    except OSError:
        return ""
    return found


def _observe_with_prometheus(folder: Path, port: str) -> None:
    program = shutil.which("prometheus")
    if program is None:
        raise ObserveFailed(
            "no prometheus on the PATH (Debian: apt install prometheus; macOS: brew install prometheus)"
        )
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(local_config(folder)), encoding="utf-8")
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches it by us
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until(lambda: _is_ready(address), process, log)
        answer(f"Prometheus  {address}/targets, {address}/alerts, {address}/graph")
        answer("Beside it: make run. Ctrl-C ends it", flush=True)
        _wait_until(lambda: False, process, log, for_ever=True)
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def local_config(folder: Path) -> dict[str, Any]:
    """Take the configuration of the container, with the folders of this machine."""
    config: dict[str, Any] = yaml.safe_load((HERE / "prometheus.yaml").read_text(encoding="utf-8"))
    config["rule_files"] = [str(RULES / "*.yaml")]
    (scraped,) = config["scrape_configs"]
    (found,) = scraped["file_sd_configs"]
    found["files"] = [str(folder / "*.json")]
    del scraped["relabel_configs"]
    return config


def _wait_until(
    condition: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path, *, for_ever: bool = False
) -> None:
    """Wait; a process that ends meanwhile is told with its last words."""
    deadline = time.monotonic() + _START_S
    while not condition():
        if process.poll() is not None:
            words = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
            raise ObserveFailed(
                f"Prometheus ended:\n{words}\nWhere its port is taken: make observe PROMETHEUS_PORT=..."
            )
        if not for_ever and time.monotonic() > deadline:
            raise ObserveFailed(f"Prometheus is not ready after {_START_S:.0f} s; its log is {log}")
        time.sleep(_LOOK_S)


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/-/ready", timeout=5):  # noqa: S310 - our own
            return True
    except OSError:
        return False


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end it as Ctrl-C does, so that nothing stays behind."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
