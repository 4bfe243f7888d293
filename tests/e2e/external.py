"""A Valkey that is not of the chart: with a password, with a user who lacks a right, and with TLS."""

import base64
import hashlib
from pathlib import Path
from typing import Final

from e2e.cluster import VALKEY, Manifest, Namespace, run, server_pod

PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - it opens nothing else
LIMITED: Final = "limited"
"""A user who may neither publish nor read from a group."""
PORT: Final = 6379
TLS_PORT: Final = 6380

_CONFIG: Final = f"""
dir /data
appendonly yes
maxmemory-policy noeviction
port {PORT}
tls-port {TLS_PORT}
tls-cert-file /tls/tls.crt
tls-key-file /tls/tls.key
tls-auth-clients no
requirepass "{PASSWORD}"
user {LIMITED} on "#{{digest}}" ~* &* +@all -xadd -xreadgroup
"""


def deploy(namespace: Namespace, folder: Path) -> None:
    """Deploy the server as `external`, with the Secrets `external` (password) and `external-ca` (ca.crt)."""
    host = "external"
    key, certificate = certificate_for(host, folder)
    labels = {"app": host}
    mounts = [
        {"name": name, "mountPath": path}
        for name, path in (("config", "/config"), ("tls", "/tls"), ("data", "/data"))
    ]
    volumes = [
        {"name": "config", "secret": {"secretName": "external-config"}},
        {"name": "tls", "secret": {"secretName": "external-tls"}},
        {"name": "data", "emptyDir": {}},
    ]
    pod = server_pod(
        "valkey", VALKEY, "valkey-server", "/config/valkey.conf",
        container={"volumeMounts": mounts}, volumes=volumes,
    )  # fmt: skip
    namespace.apply(
        secret("external", password=PASSWORD),
        secret("external-ca", **{"ca.crt": certificate.read_text()}),
        secret("external-tls", **{"tls.crt": certificate.read_text(), "tls.key": key.read_text()}),
        secret("external-config", **{"valkey.conf": _config()}),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": host},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": host},
            "spec": {
                "selector": labels,
                "ports": [
                    {"name": "redis", "port": PORT},
                    {"name": "redis-tls", "port": TLS_PORT},
                ],
            },
        },
    )
    namespace.kubectl("rollout", "status", f"deployment/{host}", "--timeout=60s")


def certificate_for(host: str, folder: Path) -> tuple[Path, Path]:
    """Make a key and a certificate, which is its own authority; give their files."""
    key, certificate = folder / "tls.key", folder / "tls.crt"
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={host}"),
        *("-addext", f"subjectAltName=DNS:{host}", "-keyout", str(key), "-out", str(certificate)),
    )
    return key, certificate


def _config() -> str:
    return _CONFIG.format(digest=hashlib.sha256(PASSWORD.encode()).hexdigest())


def secret(name: str, **texts: str) -> Manifest:
    """Write a Secret."""
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
