"""A PostgreSQL that is not of the chart, as CloudNativePG leaves one: with TLS, an authority and a Secret."""

import json
from pathlib import Path
from typing import Any, Final

from e2e.cluster import POSTGRES, Manifest, Namespace, on_node, server_pod
from e2e.external import certificate_for, secret

HOST: Final = "pg-rw"
SECRET: Final = "pg-app"  # noqa: S105 - the name of a Secret
CA_SECRET: Final = "pg-ca"  # noqa: S105 - as above
POD: Final = "pg-0"
DATABASE: Final = "telemetry"
USER: Final = "app"
PORT: Final = 5432

PASSWORD: Final = "correct horse / battery @ staple"  # noqa: S105 - it opens nothing else
_UID: Final = 999
_TLS: Final = ("-c", "ssl=on", "-c", "ssl_cert_file=/tls/tls.crt", "-c", "ssl_key_file=/tls/tls.key")


def deploy(namespace: Namespace, folder: Path, node: str) -> None:
    """Deploy the server on a node, with its volume, and wait until it answers."""
    key, certificate = certificate_for(HOST, folder)
    uri = f"postgresql://{USER}@{HOST}:{PORT}/{DATABASE}"
    namespace.apply(
        secret(SECRET, username=USER, password=PASSWORD, dbname=DATABASE, host=HOST, port=str(PORT), uri=uri),
        secret(CA_SECRET, **{"ca.crt": certificate.read_text()}),
        secret("pg-server", **{"tls.crt": certificate.read_text(), "tls.key": key.read_text()}),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": HOST},
            "spec": {"selector": {"app": "pg"}, "ports": [{"port": PORT}]},
        },
        _stateful_set(node),
    )
    namespace.kubectl("rollout", "status", "statefulset/pg", "--timeout=120s", timeout_s=130)


def _stateful_set(node: str) -> Manifest:
    owner = {"runAsUser": _UID, "runAsGroup": _UID, "fsGroup": _UID}
    container = {
        "env": [
            {"name": "POSTGRES_USER", "value": USER},
            {"name": "POSTGRES_DB", "value": DATABASE},
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
            {
                "name": "POSTGRES_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "password"}},
            },
        ],
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
            {"name": "tls", "mountPath": "/tls"},
        ],
        "readinessProbe": {
            "exec": {"command": ["pg_isready", "--username", USER, "--host", "127.0.0.1"]},
            "periodSeconds": 1,
            # The machine may be busy, and a database that is not ready is out of reach.
            "timeoutSeconds": 30,
        },
    }
    pod = server_pod(
        "postgres", POSTGRES, "docker-entrypoint.sh", "postgres", *_TLS,
        container=container,
        volumes=[{"name": "tls", "secret": {"secretName": "pg-server", "defaultMode": 0o440}}],
        nodeSelector=on_node(node),
    )  # fmt: skip
    pod["securityContext"] |= owner
    # Never 0: a successor could then start on the same files before its predecessor has ended.
    pod["terminationGracePeriodSeconds"] = 1
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "pg"},
        "spec": {
            "serviceName": "pg",
            "selector": {"matchLabels": {"app": "pg"}},
            "template": {"metadata": {"labels": {"app": "pg"}}, "spec": pod},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


def query(namespace: Namespace, sql: str, database: str = DATABASE, **variables: object) -> Any:
    """Ask the server something that has one answer; what is no number is a text. `:name` is a variable."""
    command = ["psql", "--username", USER, "--dbname", database, "--no-psqlrc", "--tuples-only", "--no-align"]
    command += ["--set=ON_ERROR_STOP=1"]
    command += [f"--set={name}={value}" for name, value in variables.items()]
    said = namespace.kubectl("exec", "--stdin", POD, "--", *command, stdin=sql).strip()
    try:
        return json.loads(said)
    except ValueError:
        return said


_PAUSES: Final = """
SELECT coalesce(max(pause_s), 0) FROM (
    SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY at)) AS pause_s FROM (
        SELECT to_timestamp(:since) AS at
        UNION SELECT stored_at FROM telemetry.events WHERE stored_at > to_timestamp(:since)))
"""


def longest_pause_s(namespace: Namespace, since: float) -> float:
    """Tell how long nothing was stored at most, in seconds, from a time (Unix seconds) until the last row."""
    return float(query(namespace, _PAUSES, since=since))
