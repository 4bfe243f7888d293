"""A server that has an IPv6 address and no other, however the address is written."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.rig import PATIENCE_S, Rig
from servers import Absent, LocalServer, eventually, local_binary


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Give a pipeline whose server listens on [::1] alone."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        binary = local_binary()
    except (OSError, Absent) as why:
        pytest.skip(f"no server on [::1] here: {why}")
    server = LocalServer(binary, tmp_path / "server", name="ipv6")
    server.host = "::1"
    server.start()
    one = Rig(server, tmp_path)
    yield one
    one.close()
    server.kill()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("REDIS_HOST", "::1"),
        ("REDIS_HOST", "[::1]"),
        ("REDIS_URL", "redis://[::1]:{port}"),
        ("BROKER_URL", "redis://[::1]:{port}/0"),
    ],
)
def test_all_parts_of_a_pipeline_reach_it(rig: Rig, name: str, text: str) -> None:
    """Producer, consumer and command by the same setting; what they say of it has the brackets."""
    rig.environment[name] = text.format(port=rig.server.port)
    if name != "REDIS_HOST":
        del rig.environment["REDIS_HOST"], rig.environment["REDIS_PORT"]
    consumer = rig.consumer()
    command = [*rig.python, "-m", "services.producer", "--rate", "200", "--duration", "0"]
    producer = rig.start("producer", command, {"PRODUCER_METRICS_PORT": "0"})
    rig.wait_for_rows(100)
    producer.signal(signal.SIGTERM)
    assert producer.wait() == 0, producer.text
    audit = rig.start("audit", [*rig.python, "-m", "services.ops", "audit", "--wait", f"{PATIENCE_S:g}"], {})
    assert audit.wait() == 0, audit.text
    assert " missing=0" in audit.text
    rig.server.kill()
    eventually(lambda: consumer.lines("redis_unavailable"), PATIENCE_S, "it says that the server is away")
    assert f"[::1]:{rig.server.port}" in consumer.lines("redis_unavailable")[0]["error"]
