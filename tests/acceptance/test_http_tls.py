"""The door's TLS: certificates that change under load, clients that show theirs, and those that never end."""

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from acceptance.door import Client, Door, check_clients, confirm_more, event
from acceptance.memory import peak_bytes
from acceptance.rig import PATIENCE_S, Rig
from certificates import Authority, Signed
from servers import eventually

SUBJECT = "IP:127.0.0.1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Give one that clients trust."""
    return Authority(tmp_path)


def put(signed: Signed, folder: Path) -> dict[str, str]:
    """Put a pair where the door has it; gives the settings."""
    folder.mkdir(exist_ok=True)
    for source, name in ((signed.certificate, "tls.crt"), (signed.key, "tls.key")):
        shutil.copy(source, folder / "new")
        (folder / "new").replace(folder / name)
    return {"HTTP_CERT_FILE": str(folder / "tls.crt"), "HTTP_KEY_FILE": str(folder / "tls.key")}


def shown_by(connection: http.client.HTTPSConnection) -> str:
    """Tell the name of the certificate that a connection was answered with."""
    certificate: Any = connection.sock.getpeercert()
    return str(dict(pair for one in certificate["subject"] for pair in one)["commonName"])


def shown_to_new_ones(door: Door) -> str:
    """Tell that of a new connection."""
    connection = http.client.HTTPSConnection("127.0.0.1", door.port, context=door.context, timeout=PATIENCE_S)
    connection.connect()
    try:
        return shown_by(connection)
    finally:
        connection.close()


def test_a_certificate_is_rotated_under_load(rig: Rig, authority: Authority) -> None:
    """No request fails, and what is open goes on; a pair that can't be used is told, and changes nothing."""
    pairs = authority.folder / "pair"
    settings = put(authority.sign("first", SUBJECT), pairs)
    door = Door(rig, ssl.create_default_context(cafile=str(authority.file)), **settings)
    rig.consumer()
    clients = [Client(door, f"client-{number}") for number in range(3)]
    kept = http.client.HTTPSConnection("127.0.0.1", door.port, context=door.context, timeout=PATIENCE_S)

    def send(number: int) -> None:
        kept.request(
            "POST", "/v1/events", json.dumps(event(number, "kept")), {"Content-Type": "application/json"}
        )
        assert kept.getresponse().read() == b'{"published": 1}\n'
        assert shown_by(kept) == "first"

    send(0)
    socket_of_kept = kept.sock
    second, third = authority.sign("second", SUBJECT), authority.sign("third", SUBJECT)
    put(second, pairs)
    eventually(lambda: shown_to_new_ones(door) == "second", PATIENCE_S, "new ones see the second")
    send(1)
    shutil.copy(third.key, pairs / "tls.key")
    door.process.says("certificate_unusable")
    (line,) = door.process.lines("certificate_unusable")
    assert "it is not the key of" in line["error"]
    assert shown_to_new_ones(door) == "second"
    confirm_more(clients, 40)
    put(third, pairs)
    eventually(lambda: shown_to_new_ones(door) == "third", PATIENCE_S, "new ones see the third")
    send(2)
    assert kept.sock is socket_of_kept
    kept.close()
    confirm_more(clients, 40)
    for one in clients:
        one.close()
    check_clients(rig, *clients)
    assert {status for one in clients for status in one.statuses} == {200}
    assert len(door.process.lines("certificate_unusable")) == 1


def test_clients_show_certificates_where_an_authority_is_named(rig: Rig, authority: Authority) -> None:
    """They need no token then, on any address. Who shows none, or another authority's, is turned away."""
    folder = authority.folder / "other"
    folder.mkdir()
    other = Authority(folder)
    context = ssl.create_default_context(cafile=str(authority.file))
    gateway = authority.sign("gateway", "DNS:gateway")
    context.load_cert_chain(*gateway)
    settings = put(authority.sign("door", SUBJECT), authority.folder / "pair")
    settings |= {"HTTP_CLIENT_CA_FILE": str(authority.file), "HTTP_HOST": "0.0.0.0"}
    door = Door(rig, context, **settings)
    assert door.events(event(1)).status == 200
    nobody = ssl.create_default_context(cafile=str(authority.file))
    stranger = ssl.create_default_context(cafile=str(authority.file))
    stranger.load_cert_chain(*other.sign("stranger", "DNS:stranger"))
    for one in (nobody, stranger):
        with pytest.raises(OSError, match=r"alert|reset|EOF|Broken|closed"):
            door.events(event(2), context=one)
    door.process.says("handshake_failed")
    curl = ["curl", "-sS", "--max-time", "20", "--cacert", str(authority.file)]
    own = ["--cert", str(gateway.certificate), "--key", str(gateway.key)]
    for number, version in enumerate(("--http1.1", "--http2"), 3):
        sent = ["--json", json.dumps(event(number)), f"{door.address}/v1/events"]
        done = subprocess.run([*curl, *own, version, *sent], capture_output=True, check=True)
        assert done.stdout == b'{"published": 1}\n'
    before = peak_bytes(door.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            held = http.client.HTTPSConnection("127.0.0.1", door.port, context=context, timeout=PATIENCE_S)
            stack.callback(held.close)
            held.connect()
        assert not before or peak_bytes(door.process.pid) - before < 16 << 20, "each has a large buffer"
    plain = [*curl, f"http://127.0.0.1:{door.port}/ping"]
    assert subprocess.run(plain, capture_output=True, check=False).returncode != 0, "it speaks TLS alone"
    assert rig.client.xlen("telemetry_stream") == 3


def test_who_never_ends_a_handshake_keeps_nobody_out(rig: Rig, authority: Authority) -> None:
    """They count as connections from their first moment, and are closed in time."""
    door = Door(
        rig,
        ssl.create_default_context(cafile=str(authority.file)),
        HTTP_CONNECTIONS="20",
        HTTP_READ_TIMEOUT_S="2",
        **put(authority.sign("door", SUBJECT), authority.folder / "pair"),
    )
    held = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(60)]
    for number, one in enumerate(held[40:]):
        one.sendall(b"\x16\x03\x01"[: number % 4])
    assert door.events(event(1)).status == 200
    for one in held:
        one.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionError):
            assert one.recv(1) == b""
        one.close()
    assert door.events(event(2)).status == 200
