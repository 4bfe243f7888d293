"""Devices that send to a release: the commands of the page, and an update under load that cuts no request."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from e2e.cluster import PATIENCE_S, ROOT, Manifest, Namespace, our_images, server_pod, until
from e2e.conftest import NewNamespace
from e2e.pages import blocks_of, typed
from e2e.release import Release, Values, merged
from servers import free_port

_PAGE: Final = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
_TOKEN: Final = "at least 16 characters"  # noqa: S105 - that of the page
_CLIENTS: Final = 4
"""Of each kind: with one connection for all requests, and with another for each."""

# Sends until it is told to stop, and counts what it is answered. Each event has a time of its own.
_SEND: Final = """
import collections, http.client, json, os, threading, time
answers, lock, begun = collections.Counter(), threading.Lock(), time.time()

def send(name, keeps):
    connection, number = None, 0
    while not os.path.exists("/tmp/stop"):
        number += 1
        body = json.dumps({"device_id": name, "zone": "north", "kpi": "temperature", "value": 20,
                           "ts": round(begun + number / 1000, 3)})
        said = ""
        try:
            connection = connection or http.client.HTTPConnection("demo-http", 8080, timeout=30)
            connection.request("POST", "/v1/events", body, {
                "Content-Type": "application/json", "Authorization": "Bearer TOKEN",
                "Connection": "keep-alive" if keeps else "close"})
            answer = connection.getresponse()
            said = f"{answer.status} {answer.read().decode().strip()}"
        except (OSError, http.client.HTTPException) as error:
            said, connection = f"no answer: {error!r}", None
        with lock:
            answers[said] += 1
        time.sleep(0.02)

threads = [threading.Thread(target=send, args=(f"plant-{number}", number % 2)) for number in range(CLIENTS)]
for one in threads: one.start()
while any(one.is_alive() for one in threads):
    time.sleep(0.5)
    with lock:
        print(json.dumps(answers), flush=True)
""".replace("TOKEN", _TOKEN).replace("CLIENTS", str(2 * _CLIENTS))


def _commands(port: int) -> str:
    """Give the commands of the page from outside of the cluster, with a port that is free here."""
    found = "\n".join(blocks_of("devices.md", "## On Kubernetes")[:2])
    assert (found.count("demo-http 8080"), found.count("127.0.0.1:8080")) == (1, 2)
    return found.replace("demo-http 8080", f"demo-http {port}:8080").replace(
        "127.0.0.1:8080", f"127.0.0.1:{port}"
    )


def _tokens() -> str:
    found = re.search(r"^```toml\n(\[gateway-1\].*?)^```$", _PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    assert _TOKEN in found[1]
    return found[1]


@pytest.fixture(scope="module")
def release(new: NewNamespace) -> Release:
    """Give a release that is not there yet, in a namespace of its own."""
    return Release(new())


@pytest.fixture(scope="module")
def told(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the commands of the page as they stand; give what they say."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "tokens.toml").write_text(_tokens(), encoding="utf-8")
    with typed(release.namespace, folder, _commands(free_port())) as said:
        yield said


def test_the_commands_of_the_page_run_as_they_stand(told: str) -> None:
    """From nothing to a reading that is stored."""
    assert '{"published": 1}' in told or '{"published":1}' in told
    assert "plant-1" in told
    assert "plant-2" in told.splitlines()[-1]


def _sender() -> Manifest:
    spec = server_pod("python", our_images()[1], "python", "-c", _SEND, restartPolicy="Never")
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sender"}, "spec": spec}


def _answers(namespace: Namespace) -> dict[str, int]:
    """Give how often the senders were answered what, up to now."""
    lines = namespace.kubectl("logs", "sender", "--tail=1").splitlines()
    found: dict[str, int] = json.loads(lines[-1]) if lines else {}
    return found


@pytest.mark.usefixtures("told")
def test_an_update_under_load_cuts_no_request_and_loses_no_event(release: Release) -> None:
    """With connections that are kept and with new ones; every request is answered with success."""
    namespace = release.namespace
    values: Values = {"producer": {"mode": "http", "replicas": 2, "http": {"tokens": _tokens()}}}
    release.upgrade(values)
    before = {pod.name for pod in release.ready("producer", 2)}
    namespace.apply(_sender())

    def answered(more_than: int = 0) -> bool:
        return sum(_answers(namespace).values()) > more_than

    until(answered, PATIENCE_S, "the senders are answered")
    release.upgrade(merged(values, {"producer": {"http": {"settings": {"lingerMs": 4}}}}))
    after = until(lambda: _replaced(release, before), PATIENCE_S, "all pods are new ones")
    assert len(after) == 2
    now = sum(_answers(namespace).values())
    until(lambda: answered(now + 50), PATIENCE_S, "the senders are answered by the new pods")
    namespace.kubectl("exec", "sender", "--", "touch", "/tmp/stop")  # noqa: S108 - of its container
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/sender", "--timeout=60s")
    answers = _answers(namespace)
    assert {text for text in answers if not text.startswith("200 ")} == set(), answers
    found = release.settled()
    assert found["stored"] == sum(answers.values()) + 2  # and those of the page
    release.assert_logs()


def _replaced(release: Release, before: set[str]) -> list[Any] | None:
    """Give the pods once none of those before is left."""
    pods = release.pods("producer")
    return None if before & {pod.name for pod in pods} else pods
