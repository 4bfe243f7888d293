"""A real Prometheus that scrapes real processes and evaluates the chart's rules, and a real Alertmanager.

The rules wait for minutes and hours, which no test can. So they are evaluated in a copy in which every
duration is shorter by one factor: windows, `for`, offsets, and the thresholds that are times. Those are told
from other numbers by how they are written: `10 * 60` is ten minutes, and `256 * 2^20` is 256 MiB, for which
there is a factor too.

Programs are found on the PATH. Where they are not, the tests of them are skipped, and say so; with
TELEMETRY_TESTS_REQUIRE_OBSERVABILITY=1 they fail.
"""

import contextlib
import json
import math
import os
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import yaml
from observability import Receiver, find_program, needed
from servers import Absent, eventually, free_port

__all__ = ["RULES", "Alertmanager", "Prometheus", "Promtool", "Scale", "Webhook", "needed", "running"]

ROOT: Final = Path(__file__).parents[1]
RULES: Final = ROOT / "charts" / "telemetry-pipeline" / "files" / "rules"

_START_S: Final = 60.0
_UNITS_S: Final = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "y": 31536000.0,
}
_DURATION: Final = r"(?:\d+(?:ms|[smhdwy]))+"
_IN_AN_EXPRESSION: Final = re.compile(
    rf"(?P<before>\[|:|offset\s+)(?P<duration>{_DURATION})\b|(?P<seconds>\d+) \* (?:60|3600)\b"
    r"|(?P<bytes>\d+) \* 2\^"
)

Document = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """How much shorter times are, and how much smaller sizes, than in the rules as they are written."""

    times: float = 1.0
    sizes: float = 1.0

    def duration(self, text: str) -> str:
        """Shorten a duration as Prometheus writes it: `1h30m`."""
        seconds = sum(
            int(number) * _UNITS_S[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", text)
        )
        return f"{max(1, round(seconds / self.times * 1000))}ms"

    def expression(self, text: str) -> str:
        """Shorten every window, offset and threshold of an expression."""

        def scaled(found: re.Match[str]) -> str:
            if duration := found["duration"]:
                return f"{found['before']}{self.duration(duration)}"
            if found["bytes"]:
                return found[0].replace(found["bytes"], f"{int(found['bytes']) / self.sizes:.6f}", 1)
            return found[0].replace(found["seconds"], f"{int(found['seconds']) / self.times:.6f}", 1)

        return _IN_AN_EXPRESSION.sub(scaled, text)

    def rules(self, document: Document) -> Document:
        """Copy a file of rules, with all its times shorter."""
        return {"groups": [self._group(group) for group in document["groups"]]}

    def _group(self, group: Document) -> Document:
        scaled = {**group, "rules": [self._rule(rule) for rule in group["rules"]]}
        if "interval" in group:
            scaled["interval"] = self.duration(group["interval"])
        return scaled

    def _rule(self, rule: Document) -> Document:
        scaled = {**rule, "expr": self.expression(rule["expr"])}
        for name in ("for", "keep_firing_for"):
            if name in rule:
                scaled[name] = self.duration(rule[name])
        return scaled


def read_rules(file: Path) -> Document:
    """Read a file of rules."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def rules_of(kind: str) -> list[Document]:
    """Give every rule of a kind, `alert` or `record`, of all files."""
    documents = [read_rules(file) for file in sorted(RULES.glob("*.yaml"))]
    return [
        rule
        for document in documents
        for group in document["groups"]
        for rule in group["rules"]
        if kind in rule
    ]


@dataclass(frozen=True)
class Sample:
    """One series of an answer, with its newest value."""

    labels: Mapping[str, str]
    value: float


class _Program:
    """A program with an HTTP interface, and its output in a file. It ends with `stop`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, path: str, **parameters: str) -> Any:
        """Ask for a document. Raises AssertionError with the answer where it is an error."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        try:
            with self._open(path + query) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None

    def _run(self, program: Path, *arguments: str) -> None:
        output = self.folder / f"{self._name}.log"
        with output.open("ab") as log:
            self._process = subprocess.Popen(
                [program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        eventually(lambda: self._serves(output), _START_S, f"{self._name} serves")

    def _serves(self, output: Path) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, output.read_text(encoding="utf-8")[-3000:]
        try:
            with self._open("/-/ready"):
                return True
        except OSError:  # a refusal to answer yet is one too
            return False

    def _open(self, path: str) -> Any:
        return urllib.request.urlopen(self.address + path, timeout=30)  # noqa: S310 - our own program


class Prometheus(_Program):
    """A Prometheus. Targets come and go by `scrape`; times are shorter by `scale`."""

    def __init__(self, folder: Path, scale: Scale | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, "prometheus")
        self.scale = scale or Scale()
        self._jobs: dict[str, tuple[list[int], dict[str, str]]] = {}

    def start(
        self, *, interval_s: float = 0.5, rules: Sequence[Path] = (), alertmanager: int | None = None
    ) -> None:
        """Start it with a copy of these rules, and wait until it serves. Raises Absent.

        `interval_s` is the time between two scrapes, and between two evaluations; `alertmanager` a port.
        """
        program = find_program("prometheus")
        for file in rules:
            copy = self.folder / f"rules-{file.name}"
            copy.write_text(yaml.safe_dump(self.scale.rules(read_rules(file))), encoding="utf-8")
        interval = f"{round(interval_s * 1000)}ms"
        self._write_targets()
        config: Document = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": ["rules-*.yaml"],
            "scrape_configs": [{"job_name": "files", "file_sd_configs": [{"files": ["targets.json"]}]}],
        }
        if alertmanager is not None:
            peers = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
            config["alerting"] = {"alertmanagers": peers}
        path = self.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        self._run(
            program,
            f"--config.file={path}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            # How long a series counts after its last sample: shorter by the same factor.
            f"--query.lookback-delta={self.scale.duration('5m')}",
            f"--rules.alert.resend-delay={self.scale.duration('1m')}",
            "--enable-feature=exemplar-storage",
        )

    def scrape(self, job: str, *ports: int, **labels: str) -> None:
        """Scrape these ports of this machine as a job, in place of what the job had before.

        A running Prometheus takes 5 s to see it, so name what is known before the start.
        """
        self._jobs[job] = (list(ports), labels)
        self._write_targets()

    def _write_targets(self) -> None:
        targets = [
            {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"job": job, **labels}}
            for job, (ports, labels) in self._jobs.items()
        ]
        # It watches this file: it never sees half of it.
        new = self.folder / "targets.new"
        new.write_text(json.dumps(targets), encoding="utf-8")
        os.replace(new, self.folder / "targets.json")  # noqa: PTH105 - the name says what it does

    def query(self, expression: str, at: str = "") -> list[Sample]:
        """Ask for the values of now, or of a time as RFC 3339 has it; a scalar is one sample without labels.

        Raises AssertionError.
        """
        data = self.ask("/api/v1/query", query=expression, **({"time": at} if at else {}))["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    def query_range(
        self, expression: str, start: float, end: float, step_s: float
    ) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        """Ask for values over a time, Unix seconds: labels, and pairs of time and value.

        Raises AssertionError.
        """
        answer = self.ask(
            "/api/v1/query_range", query=expression, start=str(start), end=str(end), step=str(step_s)
        )
        return [
            (one["metric"], [(float(at), float(value)) for at, value in one["values"]])
            for one in answer["data"]["result"]
        ]

    def value(self, expression: str) -> float:
        """Ask for a single value; NaN where there is none yet."""
        samples = self.query(expression)
        return samples[0].value if samples else math.nan

    def has_fired(self) -> dict[str, set[str]]:
        """Name the alerts that fire or have fired since the start, by their release."""
        found: dict[str, set[str]] = {}
        for one in self.query('last_over_time(ALERTS{alertstate="firing"}[1h])'):
            found.setdefault(one.labels.get("release", ""), set()).add(one.labels["alertname"])
        return found

    def broken_rules(self) -> dict[str, str]:
        """Give the error of each rule that can't be evaluated."""
        groups = self.ask("/api/v1/rules")["data"]["groups"]
        return {
            rule["name"]: rule["lastError"]
            for group in groups
            for rule in group["rules"]
            if rule.get("lastError")
        }


class Webhook(Receiver):
    """Takes what an Alertmanager sends."""

    @property
    def address(self) -> str:
        """Where it is to be sent to."""
        return f"http://127.0.0.1:{self.port}/"

    def alerts(self) -> list[Document]:
        """Give every alert that arrived."""
        return [alert for body in self.bodies for alert in json.loads(body)["alerts"]]


class Alertmanager(_Program):
    """An Alertmanager; Debian has it under a name of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, "alertmanager")

    def start(self, config: Document) -> None:
        """Start it, and wait until it serves. Raises Absent."""
        try:
            program = find_program("prometheus-alertmanager")
        except Absent:
            program = find_program("alertmanager")
        path = self.folder / "alertmanager.yml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        self._run(
            program,
            f"--config.file={path}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",  # alone: it looks for no peers
        )


@dataclass
class Promtool:
    """The tool that checks rules and runs their unit tests."""

    program: Path = field(init=False)

    def find(self) -> None:
        """Find it. Raises Absent."""
        self.program = find_program("promtool")

    def run(self, *arguments: str | Path, cwd: Path = ROOT) -> str:
        """Run it, and give what it says. Raises AssertionError with that where it finds something wrong."""
        done = subprocess.run(
            [self.program, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said


@contextlib.contextmanager
def running(folder: Path, purpose: str, scale: Scale | None = None, **options: Any) -> Iterator[Prometheus]:
    """Run a Prometheus; skip where there is none, unless CI has to have it."""
    with Prometheus(folder, scale) as one:
        needed(lambda: one.start(**options), purpose)
        yield one
