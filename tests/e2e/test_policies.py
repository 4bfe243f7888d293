"""Network policies, where the cluster enforces them: what must talk talks, and a stranger reaches nothing."""

import os
from typing import Final

import pytest
from e2e.cluster import PATIENCE_S, Manifest, Namespace, our_images, server_pod, until
from e2e.conftest import NewNamespace
from e2e.release import QUICK, Release, merged

_IDLE: Final = "import time; time.sleep(3600)"
_SERVE: Final = ("python", "-m", "http.server", "8080")

# Says what it was answered: an open port alone may be anybody's.
_ASK: Final = """
import socket, sys
host, port, text = sys.argv[1:]
try:
    with socket.create_connection((host, int(port)), timeout=2) as connection:
        connection.settimeout(2)
        connection.sendall(text.encode() + b"\\r\\n\\r\\n")
        print(connection.recv(100))
except OSError as error:
    print(error)
"""
_REDIS: Final = ("PING", ("+PONG", "-NOAUTH"))
_HTTP: Final = ("GET /metrics HTTP/1.0", ("HTTP/1.0 200", "HTTP/1.1 200"))
_LATER_S: Final = 15.0
"""How long a new policy may take to count."""


def _pod(name: str, *command: str) -> Manifest:
    spec = server_pod("python", our_images()[1], *command)
    metadata = {"name": name, "labels": {"role": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _reaches(namespace: Namespace, host: str, port: int, how: tuple[str, tuple[str, ...]]) -> bool:
    """Tell whether the stranger of a namespace is answered."""
    question, answers = how
    said = namespace.kubectl("exec", "stranger", "--", "python", "-c", _ASK, host, str(port), question)
    return any(answer in said for answer in answers)


@pytest.fixture(scope="module")
def strangers(new: NewNamespace) -> list[Namespace]:
    """Give two namespaces with a stranger in each, in a cluster that is seen to enforce policies."""
    here, elsewhere = new(), new()
    for one in (here, elsewhere):
        one.apply(_pod("stranger", "python", "-c", _IDLE))
    here.apply(_pod("target", *_SERVE))
    for one, name in ((here, "stranger"), (elsewhere, "stranger"), (here, "target")):
        one.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    ip = here.get("pod/target")["status"]["podIP"]
    page = ("GET / HTTP/1.0", _HTTP[1])
    until(lambda: _reaches(here, ip, 8080, page), _LATER_S, "pods reach each other without a policy")
    here.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "probe"},
            "spec": {"podSelector": {"matchLabels": {"role": "target"}}, "policyTypes": ["Ingress"]},
        }
    )
    try:
        until(lambda: not _reaches(here, ip, 8080, page), _LATER_S, "a policy is enforced")
    except AssertionError:
        if os.environ.get("TELEMETRY_E2E_POLICIES") == "1":
            raise
        pytest.skip("this cluster enforces no NetworkPolicy")
    here.kubectl("delete", "networkpolicy/probe", "pod/target")
    return [here, elsewhere]


@pytest.fixture(scope="module")
def release(strangers: list[Namespace]) -> Release:
    """Install a release beside a stranger, without its policies at first."""
    one = Release(strangers[0])
    off = {"networkPolicy": {"enabled": False}}
    one.install(merged(QUICK, off, {"redis": off}))
    return one


def _reached(release: Release, stranger: Namespace) -> set[str]:
    """Name the parts of the release that a stranger is answered by."""
    asked = {
        "redis": (release.pod("redis").ip, 6379, _REDIS),
        "producer": (release.pod("producer").ip, 8001, _HTTP),
        "consumer": (release.pods("consumer")[0].ip, 8000, _HTTP),
    }
    return {part for part, (ip, port, how) in asked.items() if _reaches(stranger, ip, port, how)}


def test_without_policies_a_stranger_reaches_everything(release: Release, strangers: list[Namespace]) -> None:
    """Otherwise the other tests here would prove nothing."""
    for stranger in strangers:
        assert _reached(release, stranger) == {"redis", "producer", "consumer"}


def test_with_policies_a_stranger_reaches_nothing_and_events_flow(
    release: Release, strangers: list[Namespace]
) -> None:
    """Neither from the same namespace nor from another; the release itself works as before."""
    release.upgrade(QUICK)
    for stranger in strangers:
        until(lambda one=stranger: not _reached(release, one), _LATER_S, "a stranger reaches nothing")  # type: ignore[misc]
    release.assert_nothing_is_lost()
    for stranger in strangers:
        assert _reached(release, stranger) == set()


def test_helm_test_passes_with_policies(release: Release) -> None:
    """Its pods may do what they have to."""
    assert "missing=0" in release.test()
    release.assert_nothing_is_lost()


def test_who_may_read_the_metrics_reads_them_and_nothing_else(
    release: Release, strangers: list[Namespace]
) -> None:
    """By a peer under networkPolicy.metricsFrom."""
    here, elsewhere = strangers
    peer = {"podSelector": {"matchLabels": {"role": "stranger"}}}
    release.upgrade(merged(QUICK, {"networkPolicy": {"metricsFrom": [peer]}}))
    until(lambda: _reached(release, here) == {"producer", "consumer"}, PATIENCE_S, "the peer reads metrics")
    assert _reached(release, elsewhere) == set()
    release.assert_nothing_is_lost()
