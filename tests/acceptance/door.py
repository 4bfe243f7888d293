"""A door that takes events by HTTP, and a client that sends again until it hears of success."""

import contextlib
import http.client
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import Any, Final, NamedTuple

from acceptance.rig import PATIENCE_S, Process, Rig
from servers import eventually, free_port

from services.ops.audit.result import Audit

JSON: Final = "application/json"


class Answer(NamedTuple):
    """What a server said; names of headers in small letters."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def post(
    address: str,
    body: bytes,
    kind: str = JSON,
    timeout_s: float = 30,
    context: ssl.SSLContext | None = None,
    **headers: str,
) -> Answer:
    """Send a body, and give the answer. Raises OSError where there is none."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, body, {"Content-Type": kind, **named}, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:  # noqa: S310 - ours
            return Answer(answer.status, answer.read().decode(), _named(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(), _named(error.headers))
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error


def _named(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class Door:
    """A door of a rig, which can be ended and started again at the same address.

    `context`: how its clients speak TLS; None: they don't.
    """

    def __init__(self, rig: Rig, context: ssl.SSLContext | None = None, **environment: str) -> None:
        self.context = context
        self._rig = rig
        self._environment = {
            "HTTP_PORT": str(free_port()),
            "PRODUCER_METRICS_PORT": "0",
            "HTTP_WAIT_S": "3",
            **environment,
        }
        self.port = int(self._environment["HTTP_PORT"])
        self.address = f"http{'' if context is None else 's'}://127.0.0.1:{self.port}"
        self.process = self.start()

    def start(self) -> Process:
        """Start it, and wait until it takes events."""
        command = [*self._rig.python, "-m", "services.producer", "--http"]
        self.process = self._rig.start("door", command, self._environment)
        self.process.says("producer_started")

        def answers() -> bool:
            ping = f"{self.address}/ping"
            with contextlib.suppress(OSError), urllib.request.urlopen(ping, timeout=5, context=self.context):  # noqa: S310
                return True
            return False

        eventually(answers, PATIENCE_S, "the door answers")
        return self.process

    def events(self, *events: Mapping[str, Any], **more: Any) -> Answer:
        """Send events as a list."""
        more = {"context": self.context, **more}
        return post(f"{self.address}/v1/events", json.dumps(events).encode(), **more)

    def lines(self, text: str, path: str = "/api/v2/write?org=o&bucket=b", **more: Any) -> Answer:
        """Send line protocol."""
        more = {"context": self.context, **more}
        return post(f"{self.address}{path}", text.encode(), kind="text/plain", **more)


def event(number: int, device: str = "d", **changes: Any) -> dict[str, Any]:
    """Give an event with a time of its own, another for each number."""
    return {
        "device_id": device, "zone": "z", "kpi": "temperature", "value": number % 100,
        "ts": 1_710_000_000 + number, **changes,
    }  # fmt: skip


class Client:
    """Sends batches of its own events, each again until it hears of success, as a gateway does."""

    def __init__(self, door: Door, name: str, size: int = 20) -> None:
        self.name = name
        self.confirmed = 0
        """Events of which success was heard."""
        self.statuses: list[int] = []
        self.is_over = threading.Event()
        self._door = door
        self._size = size
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self.is_over.is_set():
            batch = [event(number + one, self.name) for one in range(self._size)]
            if self._send(batch):
                number += self._size
                self.confirmed = number

    def _send(self, batch: list[dict[str, Any]]) -> bool:
        while True:
            status = 0
            with contextlib.suppress(OSError):
                status = self._door.events(*batch, timeout_s=10).status
            self.statuses.append(status)
            if status == 200:
                return True
            if self.is_over.is_set():
                return False
            time.sleep(0.02)

    def close(self) -> None:
        """Stop it, once its last batch has an answer."""
        self.is_over.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def confirm_more(clients: list[Client], events: int = 100) -> None:
    """Wait until each has heard success of some more."""
    before = [one.confirmed for one in clients]
    eventually(
        lambda: all(one.confirmed > was + events for one, was in zip(clients, before, strict=True)),
        PATIENCE_S,
        "more is confirmed",
    )


def settled(rig: Rig) -> Audit:
    """Wait until nothing waits any more, and see that nothing is missing."""

    def is_settled() -> bool:
        total = rig.audit().total
        return not (total.pending or total.undelivered)

    eventually(is_settled, PATIENCE_S, "all is settled")
    result = rig.audit()
    assert result.total.missing == 0, result
    assert result.total.published == result.total.stored + result.total.dead, result
    return result


def numbers(rig: Rig, device: str) -> list[int]:
    """Give the numbers of a sender's events that are stored, in order."""
    return sorted(int(row.ts) - 1_710_000_000 for row in rig.stored().values() if row.device_id == device)


def check_clients(rig: Rig, *clients: Client) -> None:
    """See that all of which a client heard success is stored, and nothing twice."""
    settled(rig)
    for one in clients:
        found = numbers(rig, one.name)
        assert found == list(range(len(found))), "one is there twice, or there is a gap"
        # Of its last batch it may not have heard.
        assert one.confirmed <= len(found) <= one.confirmed + 20
    assert rig.letters() == {}
