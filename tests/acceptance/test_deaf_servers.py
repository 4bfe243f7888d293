"""A server that is frozen, busy, or sends a byte a second: SIGTERM is heard, and /livez answers."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import redis
from acceptance.rig import PATIENCE_S, Process, Rig, free_port
from proxy import Proxy, Weather
from servers import eventually

HEARD_S = 2.0
"""How long after SIGTERM a process may take, that has nothing else to finish."""
STARTING_TO_END_S = 1.0
"""What an interpreter with its threads needs to end, on a busy machine."""


@contextmanager
def _frozen(rig: Rig, proxy: Proxy) -> Iterator[None]:
    del proxy
    rig.server.pause()
    try:
        yield
    finally:
        rig.server.resume()


@contextmanager
def _busy(rig: Rig, proxy: Proxy) -> Iterator[None]:
    """Run a script without an end: from its threshold on, the server answers BUSY to all."""
    del proxy
    client = rig.server.client(timeout_s=60.0)

    def run() -> None:
        with contextlib.suppress(redis.RedisError):
            client.execute_command("EVAL", "while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    with contextlib.closing(rig.server.client()) as other:

        def says_busy() -> bool:
            try:
                other.ping()
            except redis.ResponseError as error:
                return str(error).startswith("BUSY")
            return False

        eventually(says_busy, PATIENCE_S, "the server is busy")
        try:
            yield
        finally:
            other.execute_command("SCRIPT", "KILL")
            thread.join()
            client.close()


def _dripping(rig: Rig, proxy: Proxy) -> AbstractContextManager[None]:
    del rig
    return proxy.in_weather(Weather(piece_bytes=1, pause_s=1.0))


def _silent(rig: Rig, proxy: Proxy) -> AbstractContextManager[None]:
    del rig
    return proxy.in_weather(Weather(is_open=False))


WAYS: dict[str, Callable[[Rig, Proxy], AbstractContextManager[None]]] = {
    "frozen": _frozen,
    "busy": _busy,
    "dripping": _dripping,
    "silent": _silent,
}


@pytest.fixture
def proxy(rig: Rig) -> Iterator[Proxy]:
    """Put a network between; the server gets BUSY early."""
    rig.client.config_set("busy-reply-threshold", 50)
    one = Proxy(rig.server)
    rig.environment |= {"REDIS_PORT": str(one.port), "REDIS_TIMEOUT_S": "5", "CLAIM_IDLE_MS": "30000"}
    yield one
    one.close()


def _producer(rig: Rig, **environment: str) -> Process:
    command = [*rig.python, "-m", "services.producer", "--rate", "200", "--duration", "0"]
    return rig.start("producer", command, {"INVALID_RATIO": "0.1", "BATCH_SIZE": "20", **environment})


def _ends_in_time(process: Process) -> None:
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0, process.text[-3000:]
    took = time.monotonic() - began
    assert took < HEARD_S + STARTING_TO_END_S, f"it took {took:.1f} s: {process.text[-2000:]}"


@pytest.mark.parametrize("letters", ["file", "stream"])
@pytest.mark.parametrize("way", WAYS)
def test_sigterm_is_heard_whatever_the_server_does(rig: Rig, proxy: Proxy, way: str, letters: str) -> None:
    """Producer and consumer are alive meanwhile, and end in two seconds; nothing is lost or doubled."""
    ports = [str(free_port()) for _ in range(2)]
    settings = {"DEAD_LETTERS": letters}
    consumer = rig.consumer(CONSUMER_METRICS_PORT=ports[0], SLEEP_INTERVAL="2", **settings)
    producer = _producer(rig, PRODUCER_METRICS_PORT=ports[1])
    rig.wait_for_rows(200)
    with WAYS[way](rig, proxy):
        # With letters of a batch in hand, a consumer waits for them to be written.
        eventually(
            lambda: consumer.lines("redis_unavailable") or consumer.lines("write_unavailable"),
            PATIENCE_S,
            "the consumer says that the server is away",
        )
        producer.says("redis_unavailable")
        assert consumer.probe("/livez")[0] == 200
        _ends_in_time(producer)
        _ends_in_time(consumer)
    again = rig.consumer(SLEEP_INTERVAL="0.05", **settings)
    eventually(lambda: rig.audit().total.undelivered == 0 and not rig.pending(), PATIENCE_S, "all is settled")
    again.stop()
    total = rig.audit().total
    if letters == "file":
        assert (total.missing, total.pending, total.undelivered) == (0, 0, 0), total
    rig.assert_integrity()
