"""A release of the chart, and what must hold of it whatever happens to it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from e2e.cluster import CHART, PATIENCE_S, CommandFailed, Namespace, asked, until

Values = Mapping[str, Any]

QUICK: Final[Values] = {
    "settings": {"redisTimeoutS": 2},
    "producer": {
        # Few enough for two releases beside each other on two processors.
        "settings": {"rate": 200, "invalidRatio": 0.01},
        "readinessProbe": {"periodSeconds": 1},
        "resources": {"requests": {"cpu": "20m"}},
    },
    "consumer": {
        # The longest batch then takes 13 s, so what a killed consumer leaves is soon taken over.
        "settings": {
            "maxRetries": 1,
            "sqliteBusyTimeoutMs": 2000,
            "claimIdleMs": 13_000,
            "claimIntervalS": 1,
            "retentionIntervalS": 2,
        },
        "readinessProbe": {"periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m"}},
    },
    "redis": {"resources": {"requests": {"cpu": "50m"}}},
}
"""Production's settings with shorter waits, and some invalid events among many valid ones."""

_EXHAUSTED: Final = {"retries_exhausted", "deliveries_exhausted", "conflict"}
"""Reasons of dead letters that no disturbance may cause: the events were good."""

# Runs in a consumer's container. It counts by other means than the audit does.
_COUNT: Final = """
import collections, json, os, sqlite3
from services.brokers.redis.server.connection import connect
from services.runtime.settings import ConsumerSettings, load, read_sources
settings = load(ConsumerSettings, read_sources())
reasons = collections.Counter()
count = "SELECT count(*), count(DISTINCT event_id) FROM "
if url := os.environ.get("DATABASE_URL"):
    import psycopg
    password = open(os.environ["DATABASE_PASSWORD_FILE"]).read().strip()
    database = psycopg.connect(url, password=password)
    rows, distinct = database.execute(count + "telemetry.events").fetchone()
    reasons.update(dict(database.execute(
        "SELECT reason, count(*) FROM telemetry.dead_letters GROUP BY reason").fetchall()))
else:
    database = sqlite3.connect(f"file:{settings.database}?mode=ro", uri=True, timeout=30)
    rows, distinct = database.execute(count + "telemetry_events").fetchone()
    if settings.dead_letter_file.exists():
        with open(settings.dead_letter_file) as letters:
            reasons.update(json.loads(line)["reason"] for line in letters if line.strip())
added = connect(settings).xinfo_stream(settings.stream_name)["entries-added"]
print(json.dumps({"rows": rows, "distinct": distinct, "added": added, "reasons": reasons}))
"""


def merged(*layers: Values) -> dict[str, Any]:
    """Lay values over values, as Helm does."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(value, Mapping) and isinstance(old, Mapping)
            result[key] = merged(old or {}, value) if both else value
    return result


def _tagged(values: Values) -> Values:
    """Give values with the tag of our images that is asked for, if one is."""
    tag = os.environ.get("TELEMETRY_E2E_TAG")
    image = {"image": {"tag": tag}}
    return merged({"producer": image, "consumer": image}, values) if tag else values


@dataclass(frozen=True)
class Pod:
    """A pod as it was when we asked."""

    namespace: Namespace
    document: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def node(self) -> str:
        return str(self.document["spec"].get("nodeName", ""))

    @property
    def ip(self) -> str:
        return str(self.document["status"].get("podIP", ""))

    @property
    def is_ready(self) -> bool:
        conditions = self.document["status"].get("conditions", ())
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        return ready and "deletionTimestamp" not in self.document["metadata"]

    @property
    def containers(self) -> list[dict[str, Any]]:
        """The statuses of its containers."""
        return list(self.document["status"].get("containerStatuses", ()))

    @property
    def restarts(self) -> int:
        return sum(one["restartCount"] for one in self.containers)

    def logs(self, container: str, *, previous: bool = False) -> list[str]:
        """Give the lines of a container's log. Raises CommandFailed where there is none."""
        path = f"/api/v1/namespaces/{self.namespace.name}/pods/{self.name}/log"
        return asked(path, container=container, previous=json.dumps(previous)).splitlines()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Give the log lines about an event; the pod is of a service of ours."""
        service = self.document["metadata"]["labels"]["app.kubernetes.io/component"]
        return [line for line in map(json.loads, self.logs(service)) if line["message"] == event]

    def assert_log(self) -> None:
        """See that services log JSON lines, and that nothing logs a traceback."""
        for one in self.containers:
            if not one["state"].keys() & {"running", "terminated"}:
                continue
            lines = self.logs(one["name"])
            if one["restartCount"] and "terminated" in one["lastState"]:
                lines = self.logs(one["name"], previous=True) + lines
            where = f"{self.name}/{one['name']}"
            tracebacks = [number for number, line in enumerate(lines) if "Traceback" in line]
            assert not tracebacks, f"{where}: {lines[tracebacks[0] :][:30]}"
            if one["name"] in {"producer", "consumer"}:
                assert lines, f"{where} says nothing"
                strange = [line for line in lines if not _is_log_line(line)]
                assert not strange, f"{where}: {strange[:30]}"


def _is_log_line(text: str) -> bool:
    try:
        line = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(line, dict)
        and {"asctime", "name", "levelname", "message", "service", "version"} <= line.keys()
    )


@dataclass(frozen=True)
class Release:
    """A release of the chart in a namespace, installed or not."""

    namespace: Namespace
    name: str = "demo"

    # What people type

    def install(self, values: Values, *options: str, timeout_s: int = int(PATIENCE_S)) -> None:
        """Install it, and wait until it is ready."""
        self._helm("install", values, "--wait", f"--timeout={timeout_s}s", *options, timeout_s=timeout_s)

    def start(self, values: Values) -> None:
        """Install it, and wait for nothing: it is not to become ready."""
        self._helm("install", values)

    def upgrade(self, values: Values, *options: str) -> None:
        """Upgrade it to these values, and wait until it is ready."""
        self._helm("upgrade", values, "--wait", f"--timeout={int(PATIENCE_S)}s", *options)

    def test(self) -> str:
        """Run `helm test`, and give what it says."""
        return self.namespace.helm("test", self.name, "--logs", f"--timeout={int(PATIENCE_S)}s")

    def scale(self, component: str, replicas: int) -> None:
        """Scale a Deployment, and wait until that many pods are ready and no others are there."""
        self.namespace.kubectl("scale", f"deployment/{self.name}-{component}", f"--replicas={replicas}")
        self.ready(component, replicas)

    def consumer(self, *command: str) -> str:
        """Run a command in a consumer. Raises CommandFailed."""
        target = f"deployment/{self.name}-consumer"
        return self.namespace.kubectl("exec", target, "--container=consumer", "--", *command)

    def _helm(self, what: str, values: Values, *options: str, timeout_s: float = PATIENCE_S) -> None:
        arguments = (what, self.name, CHART, "--values=-", *options)
        self.namespace.helm(*arguments, stdin=json.dumps(_tagged(values)), timeout_s=timeout_s + 30)

    # What is there

    def pods(self, component: str = "") -> list[Pod]:
        """Give its pods, or those of a component, `redis` included."""
        selector = f"app.kubernetes.io/instance={self.name}"
        if component:
            selector += f",app.kubernetes.io/component={component}"
        return [Pod(self.namespace, one) for one in self.namespace.pods(selector)]

    def pod(self, component: str) -> Pod:
        """Give the only pod of a component."""
        (one,) = self.pods(component)
        return one

    def ready(self, component: str, replicas: int = 1, timeout_s: float = PATIENCE_S) -> list[Pod]:
        """Wait until a component has so many pods, all of them ready; give them."""

        def all_ready() -> list[Pod] | bool:
            pods = self.pods(component)
            return len(pods) == replicas and all(pod.is_ready for pod in pods) and (pods or True)

        found = until(all_ready, timeout_s, f"{replicas} ready pods of {component}")
        return found if isinstance(found, list) else []

    def audit(self) -> dict[str, Any]:
        """Audit it beside whatever runs, and see that nothing is missing and that the sum is exact."""
        try:
            text = self.consumer("telemetry", "audit", "--json")
        except CommandFailed as failed:
            # It exits with 1 where an event is missing, and says which.
            if not failed.output.startswith("{"):
                raise
            text = failed.output
        found: dict[str, Any] = json.loads(text)
        places = ("stored", "dead", "conflicts", "purged", "pending", "undelivered")
        assert found["missing"] == 0, found
        assert found["published"] == sum(found[place] for place in places), found
        return found

    def flows(self, events: int = 200) -> dict[str, Any]:
        """Wait until so many more events are stored than now; give the audit."""
        before = until(self.audit, PATIENCE_S, "an audit in a consumer")["stored"]

        def more() -> dict[str, Any] | None:
            found = self.audit()
            return found if found["stored"] >= before + events else None

        return until(more, PATIENCE_S, f"{events} more events stored")

    # What must hold

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Let the producers stand still meanwhile."""
        before = self.namespace.get(f"deployment/{self.name}-producer")["spec"]["replicas"]
        self.scale("producer", 0)
        yield
        self.scale("producer", before)

    def assert_nothing_is_lost(self) -> dict[str, Any]:
        """See that all that was published is kept, once; events flow before and after. Give the audit."""
        self.flows()
        self.assert_logs()
        with self.quiet():
            return self.settled()

    def settled(self) -> dict[str, Any]:
        """Wait until nothing waits in the stream, and see that everything is kept, once."""

        def nothing_waits() -> dict[str, Any] | None:
            found = self.audit()
            return None if found["pending"] or found["undelivered"] else found

        found = until(nothing_waits, PATIENCE_S, "all is settled")
        counted = json.loads(self.consumer("python", "-c", _COUNT))
        assert counted["rows"] == counted["distinct"] == found["stored"], (found, counted)
        assert (found["unknown_rows"], found["notes"]) == (0, []), found
        # Each event was published once, whatever became of the answers to the producers.
        assert counted["added"] == found["published"], (found, counted)
        assert not counted["reasons"].keys() & _EXHAUSTED, counted
        return found

    def assert_logs(self) -> None:
        """See that all pods log as they should; but not those that an autoscaler takes away meanwhile."""
        for pod in self.pods():
            try:
                pod.assert_log()
            except CommandFailed:
                if pod.name in {one.name for one in self.pods()}:
                    raise
