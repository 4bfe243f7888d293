"""The door for HTTP: real clients, and faults. What was answered with success is stored, and once."""

import contextlib
import gzip
import http.client
import itertools
import json
import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from acceptance.door import (
    JSON,
    Answer,
    Client,
    Door,
    check_clients,
    confirm_more,
    event,
    numbers,
    post,
    settled,
)
from acceptance.memory import peak_bytes
from acceptance.pages import blocks_of, run_blocks
from acceptance.rig import PATIENCE_S, Rig
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from servers import eventually, free_port

from services.producer.http.serving import make_room_for

TOKEN = "0123456789abcdef-gateway"  # noqa: S105 - of a test


def curl(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run curl; gives the status and the body."""
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", *arguments],
        input=stdin, capture_output=True, check=True,
    )  # fmt: skip
    text, _, status = done.stdout.decode().rpartition("\n")
    return int(status), text


def test_what_curl_sends_is_stored(rig: Rig) -> None:
    """One event, a list, JSON lines, packed and not; and each answer says how many are in the stream."""
    probes = free_port()
    address = f"{Door(rig, PRODUCER_METRICS_PORT=str(probes)).address}/v1/events"
    rig.consumer()
    lines = "".join(f"{json.dumps(event(number))}\n" for number in range(10, 15)).encode()
    ndjson = "content-type: application/x-ndjson"
    assert curl("--json", json.dumps(event(1)), address) == (200, '{"published": 1}\n')
    assert curl("--json", json.dumps([event(2), event(3)]), address) == (200, '{"published": 2}\n')
    assert curl("-H", ndjson, "--data-binary", "@-", address, stdin=lines) == (200, '{"published": 5}\n')
    packed = gzip.compress(json.dumps([event(4)]).encode())
    head = ("-H", "content-type: application/json", "-H", "content-encoding: gzip", "--data-binary", "@-")
    assert curl(*head, address, stdin=packed) == (200, '{"published": 1}\n')
    status, text = curl("--json", json.dumps([event(5), event(6, value="cold")]), address)
    assert status == 207
    assert (json.loads(text)["published"], json.loads(text)["errors"][0]["position"]) == (1, 2)
    assert curl("-d", json.dumps(event(7)), address)[0] == 415
    described = json.loads(curl(f"http://127.0.0.1:{probes}/openapi.json")[1])
    assert described["paths"]["/v1/events"]["post"]["responses"].keys() >= {"200", "207", "415"}
    assert "POST /v1/events" in curl(f"http://127.0.0.1:{probes}/docs")[1]
    settled(rig)
    assert numbers(rig, "d") == [1, 2, 3, 4, 5, 10, 11, 12, 13, 14]


def test_the_commands_of_the_page_run_as_they_stand(rig: Rig) -> None:
    """But for the port, which another program of this machine may have. Both readings are stored."""
    port = str(free_port())
    own = [block for block in blocks_of("devices.md") if "mosquitto_pub" not in block]
    commands = [block.replace("127.0.0.1:8080", f"127.0.0.1:{port}") for block in own]
    assert len(commands) == 2
    assert all(port in block for block in commands)
    stored = "until [ $(telemetry events --json | grep -c oven-) = 2 ]; do sleep 0.2; done"
    done = run_blocks(rig, [*commands, stored, "kill %1", "wait %1"], HTTP_PORT=port)
    assert done.returncode == 0, done.stderr
    assert '{"published": 1}' in done.stdout
    assert {(row.device_id, row.value) for row in rig.stored().values()} == {
        ("oven-1", 21.5),
        ("oven-2", 22.5),
    }
    assert "missing=0" in (rig.folder / "run.log").read_text(encoding="utf-8")


def test_a_repeated_request_is_no_second_row_where_its_events_have_times(rig: Rig) -> None:
    """Without a time an event can't be told from the next reading."""
    door = Door(rig)
    rig.consumer()
    for _ in range(3):
        assert door.events(event(1), event(2)).status == 200
        assert door.lines("m,host=h temperature=1 1710000000000000000").status == 204
    timeless = {name: value for name, value in event(3, "timeless").items() if name != "ts"}
    for _ in range(2):
        assert door.events(timeless).status == 200
    total = settled(rig).total
    assert (total.published, total.stored) == (5, 5)
    assert sorted(row.device_id for row in rig.stored().values()) == ["d", "d", "h", "timeless", "timeless"]


def test_the_context_of_a_request_goes_into_its_events(rig: Rig) -> None:
    """Where it is sampled: who traces a request finds its events in the same trace."""
    door = Door(rig)
    traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for number, context in enumerate((traced, f"{traced[:-1]}0", "nonsense")):
        assert door.events(event(number), traceparent=context).status == 200
    entries: Any = rig.client.xrange("telemetry_stream")
    assert [fields.get(b"traceparent") for _, fields in entries] == [traced.encode(), None, None]


def test_the_official_client_of_influxdb_writes_to_it(rig: Rig, tmp_path: Path) -> None:
    """With its token, points and precisions, packed; and it hears which line is bad."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[gateway]\ntoken = "{TOKEN}"\n', encoding="utf-8")
    door = Door(rig, HTTP_TOKENS_FILE=str(tokens))
    rig.consumer()
    with InfluxDBClient(door.address, TOKEN, org="plant", enable_gzip=True) as client:
        assert client.ping()
        with pytest.deprecated_call():
            assert client.health().status == "pass"
        write = client.write_api(write_options=SYNCHRONOUS)
        for precision, time_ in ((WritePrecision.S, 1_710_000_001), (WritePrecision.MS, 1_710_000_002_000)):
            point = Point("weather").tag("device", "d").tag("zone", "z").field("temperature", 21.5)
            write.write("bucket", record=point.time(time_, precision), write_precision=precision)
        many = [
            Point("weather").tag("device", "d").field("humidity", 40).time(1_710_000_010 + one, "s")
            for one in range(500)
        ]
        write.write("bucket", record=many, write_precision="s")
        with pytest.raises(ApiException) as raised:
            write.write("bucket", record="weather,device=d humidity=41 1710000003\nbad", write_precision="s")
        assert raised.value.status == 400
        assert "line 2: not line protocol" in str(raised.value.body)
    with InfluxDBClient(door.address, "another-token-of-nobody", org="plant") as client:
        with pytest.raises(ApiException) as raised:
            client.write_api(write_options=SYNCHRONOUS).write("bucket", record="weather,device=d humidity=1")
        assert raised.value.status == 401
    settled(rig)
    assert numbers(rig, "d") == [1, 2, 3, *range(10, 510)]


JS_CLIENT = """
import { createRequire } from "node:module"
const { InfluxDB, Point } = createRequire(process.argv[2] + "/")("@influxdata/influxdb-client")
const [url, token] = process.argv.slice(3)
const options = { maxRetries: 0, gzipThreshold: 1 }
const write = new InfluxDB({ url, token }).getWriteApi("plant", "any", "s", options)
for (let n = 0; n < 100; n++) {
  const point = new Point("weather").tag("device", "js").floatField("temperature", 20)
  write.writePoint(point.timestamp(1710000000 + n))
}
await write.close()
"""


def test_the_official_client_of_influxdb_for_javascript_writes_to_it(rig: Rig, tmp_path: Path) -> None:
    """Packed, and again: nothing is there twice. It hears of a token that nobody has."""
    place = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "influxdb-client-js"
        / "node_modules"
    )
    if not which("node") or not (place / "@influxdata" / "influxdb-client").is_dir():
        why = "no JavaScript client here: .ci/machine installs it where there is npm"
        if os.environ.get("CI") == "true" and which("npm"):
            pytest.fail(why)
        pytest.skip(why)
    script, tokens = tmp_path / "send.mjs", tmp_path / "tokens.toml"
    script.write_text(JS_CLIENT, encoding="utf-8")
    tokens.write_text(f'[gateway]\ntoken = "{TOKEN}"\n', encoding="utf-8")
    door = Door(rig, HTTP_TOKENS_FILE=str(tokens))
    rig.consumer()
    for token, code in ((TOKEN, 0), (TOKEN, 0), ("another-token-of-nobody", 1)):
        done = subprocess.run(["node", script, place, door.address, token], capture_output=True, check=False)
        assert done.returncode == code, done.stderr
    settled(rig)
    assert numbers(rig, "js") == list(range(100))


def test_version_one_of_influxdbs_interface(rig: Rig, tmp_path: Path) -> None:
    """The token as a password in the address or in Basic, and errors in its own words."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[gateway]\ntoken = "{TOKEN}"\n', encoding="utf-8")
    door = Door(rig, HTTP_TOKENS_FILE=str(tokens))
    line = "m,host=h temperature=1 1710000000"
    assert door.lines(line, f"/write?db=x&precision=s&u=any&p={TOKEN}").status == 204
    bad = door.lines("bad", f"/write?db=x&precision=s&u=any&p={TOKEN}")
    assert (bad.status, list(bad.json)) == (400, ["error"])
    assert "line 1" in bad.headers["x-influxdb-error"]
    assert curl("-u", f"any:{TOKEN}", "--data-binary", line, f"{door.address}/write?precision=s")[0] == 204
    refused = door.lines(line, "/write?db=x&precision=s")
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Basic realm="telemetry"')
    assert door.lines(line, f"/write?precision=fortnights&u=a&p={TOKEN}").status == 400
    assert TOKEN not in door.process.text


def test_a_token_writes_what_it_may_and_is_read_again(rig: Rig, tmp_path: Path) -> None:
    """A request with one event that it may not write is refused whole; a new file holds within seconds."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[gateway]\ntoken = "{TOKEN}"\ndevices = ["plant-*"]\n', encoding="utf-8")
    door = Door(rig, HTTP_TOKENS_FILE=str(tokens), HTTP_HOST="0.0.0.0")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert door.events(event(1, "plant-1"), **bearer).status == 200
    refused = door.events(event(2, "plant-1"), event(3, "office"), **bearer)
    assert refused.status == 403
    assert "event 2" in refused.json["error"]
    assert door.events(event(4)).status == 401
    assert door.events(event(4), Authorization=f"Bearer {TOKEN}x").status == 401
    assert rig.client.xlen("telemetry_stream") == 1
    other = TOKEN[::-1]
    tokens.write_text(f'[gateway]\ntoken = "{other}"\n', encoding="utf-8")
    eventually(
        lambda: door.events(event(5), Authorization=f"Bearer {other}").status == 200,
        PATIENCE_S,
        "the new one",
    )
    assert door.events(event(6, "plant-1"), **bearer).status == 401
    assert TOKEN not in door.process.text
    assert other not in door.process.text


def test_a_page_in_a_browser_of_this_machine_writes_nothing(rig: Rig, tmp_path: Path) -> None:
    """Whatever a browser sends without asking first; a program beside it, and a page with a token, may."""
    door = Door(rig)
    json_, lines = json.dumps(event(1)).encode(), b"m,host=h temperature=1 1710000000000000000"
    signs: tuple[dict[str, Any], ...] = (
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Origin": door.address},  # its name leads here, or there is a page on the same port
        {"Sec_Fetch_Site": "cross-site"},
        {"Host": "example.com:8080"},
    )
    for sign in signs:
        for path, body in (("/v1/events", json_), ("/write", lines), ("/api/v2/write", lines)):
            for kind in ("text/plain", "", JSON, "application/x-www-form-urlencoded"):
                answer = post(f"{door.address}{path}", body, kind=kind, **sign)
                assert answer.status in {403, 415}, (sign, path, kind)
    assert "a web page sends this" in door.lines(lines.decode(), Origin="null").json["message"]
    assert rig.client.xlen("telemetry_stream") == 0
    for host in (f"localhost:{door.port}", f"LOCALHOST.:{door.port}", f"[::1]:{door.port}", "10.1.2.3"):
        assert post(f"{door.address}/write", lines, kind="text/plain", Host=host).status == 204
    assert curl("--data-binary", lines.decode(), f"http://localhost:{door.port}/write")[0] == 204
    door.process.signal(signal.SIGTERM)
    door.process.wait()
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[gateway]\ntoken = "{TOKEN}"\n', encoding="utf-8")
    bearer = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://example.com", "Host": "example.com"}
    assert Door(rig, HTTP_TOKENS_FILE=str(tokens)).events(event(2), **bearer).status == 200


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"HTTP_HOST": "0.0.0.0"}, "HTTP_TOKENS_FILE"),
        ({"HTTP_HOST": "0.0.0.0", "HTTP_TOKENS_FILE": "none.toml"}, "there is no such file"),
        ({"HTTP_TOKENS_FILE": "none.toml", "ANONYMOUS": "true"}, "take one"),
        ({"HTTP_HOST": "192.0.2.1", "ANONYMOUS": "true"}, "HTTP_HOST=192.0.2.1"),
        ({"HTTP_MAPPING_FILE": "none.toml"}, "HTTP_MAPPING_FILE"),
        ({"INFLUX_MAPPING_FILE": "none.toml", "HTTP_MAX_EVENTS": "0"}, "HTTP_MAX_EVENTS="),
    ],
)
def test_what_it_cannot_use_is_told_at_the_start(rig: Rig, settings: dict[str, str], error: str) -> None:
    """With exit code 2, and what to change."""
    environment = {"HTTP_PORT": str(free_port()), "PRODUCER_METRICS_PORT": "0", **settings}
    process = rig.start("door", [*rig.python, "-m", "services.producer", "--http"], environment)
    assert process.wait() == 2
    (line,) = process.lines("settings_unusable")
    assert error in line["error"]


def test_an_address_that_is_taken_is_told_at_the_start(rig: Rig) -> None:
    """Another program has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment = {"HTTP_PORT": port, "PRODUCER_METRICS_PORT": "0"}
        process = rig.start("door", [*rig.python, "-m", "services.producer", "--http"], environment)
        assert process.wait() == 2
    assert f"HTTP_PORT={port}" in process.lines("settings_unusable")[0]["error"]


def test_a_full_stream_is_answered_with_429_until_there_is_room(rig: Rig) -> None:
    """Nothing of the request is in the stream then, so its events are still the next ones."""
    door = Door(rig, STREAM_MAX_LENGTH="10")
    timeless = {name: value for name, value in event(1).items() if name != "ts"}
    for number in (1, 2):
        assert door.events(*[{**timeless, "value": number}] * 4).status == 200
    full = door.events(*[{**timeless, "value": 3}] * 4)
    assert (full.status, full.headers["retry-after"]) == (429, "2")
    assert door.lines("m,host=h temperature=1\n" * 4).status == 429
    assert door.events(*[timeless] * 11).status == 413, "it would never fit"
    assert rig.client.xlen("telemetry_stream") == 8
    rig.consumer()
    eventually(
        lambda: door.events(*[{**timeless, "value": 3}] * 4).status == 200, PATIENCE_S, "there is room again"
    )
    total = settled(rig).total
    assert (total.published, total.stored) == (12, 12)


@pytest.fixture
def loaded(rig: Rig) -> Iterator[tuple[Door, list[Client]]]:
    """Give a door under load, with a consumer behind it."""
    door = Door(rig)
    rig.consumer()
    clients = [Client(door, f"client-{number}") for number in range(4)]
    eventually(lambda: all(one.confirmed for one in clients), PATIENCE_S, "each has sent")
    yield door, clients
    for one in clients:
        one.is_over.set()


def test_killed_under_load_it_loses_and_doubles_nothing(rig: Rig, loaded: tuple[Door, list[Client]]) -> None:
    """Clients that heard nothing send again."""
    door, clients = loaded
    for _ in range(3):
        confirm_more(clients)
        door.process.kill()
        door.start()
    confirm_more(clients)
    for one in clients:
        one.close()
    check_clients(rig, *clients)
    assert any(0 in one.statuses for one in clients), "no client has met a door that was gone"


def test_a_broker_that_is_killed_is_answered_with_503(rig: Rig, loaded: tuple[Door, list[Client]]) -> None:
    """And what was answered with success before and behind it is stored, once."""
    door, clients = loaded
    confirm_more(clients)
    rig.server.kill()
    eventually(lambda: all(503 in one.statuses for one in clients), PATIENCE_S, "each hears that it is away")
    answer = door.events(event(0, "late"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    rig.server.start()
    confirm_more(clients)
    for one in clients:
        one.close()
    check_clients(rig, *clients)
    assert {status for one in clients for status in one.statuses} <= {0, 200, 503}


def test_asked_to_stop_it_answers_what_it_has_taken(rig: Rig, loaded: tuple[Door, list[Client]]) -> None:
    """No request is answered with an error, and its run is ended."""
    door, clients = loaded
    for _ in range(2):
        confirm_more(clients)
        door.process.signal(signal.SIGTERM)
        assert door.process.wait() == 0
        (finished,) = door.process.lines("producer_finished")
        assert rig.client.hget(f"{{telemetry_stream}}:run:{finished['run']}", "ended_at") is not None
        door.start()
    confirm_more(clients)
    for one in clients:
        one.close()
    check_clients(rig, *clients)
    assert {status for one in clients for status in one.statuses} <= {0, 200}


def test_asked_to_stop_it_has_its_clients_connect_anew(rig: Rig) -> None:
    """A connection that is kept ends with an answer that says so, and not while something is sent on it."""
    door = Door(rig)
    host, port = door.address.removeprefix("http://").split(":")
    kept = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
    answered = time.monotonic()
    for number in itertools.count():
        begun = time.monotonic()
        try:
            kept.request(
                "POST", "/v1/events", json.dumps(event(number)), {"Content-Type": "application/json"}
            )
            answer = kept.getresponse()
            assert (answer.status, answer.read()[:12]) == (200, b'{"published"')
        except (OSError, http.client.HTTPException):
            assert begun - answered > 0.5, "closed though it was in use"  # else the machine stood still
            break
        answered = time.monotonic()
        if number == 0:
            door.process.signal(signal.SIGTERM)
        if answer.getheader("Connection") == "close":
            break
    kept.close()
    assert door.process.wait() == 0


def test_a_request_under_way_is_answered_when_it_is_asked_to_stop(rig: Rig) -> None:
    """Its body is still coming: it is read, published and confirmed. Nobody new is let in."""
    door = Door(rig)
    body = json.dumps(event(1)).encode()
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    host, port = door.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(head.encode() + body[:5])
        time.sleep(0.3)  # it is to be read; nothing tells from outside that it was
        door.process.signal(signal.SIGTERM)

        def is_closed() -> bool:
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
            except OSError:
                return True
            return False

        eventually(is_closed, PATIENCE_S, "nobody new is let in")
        slow.sendall(body[5:])
        slow.settimeout(PATIENCE_S)
        answer = slow.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer
    assert door.process.wait() == 0
    assert rig.client.xlen("telemetry_stream") == 1


def test_slow_clients_cost_nothing_but_themselves(rig: Rig) -> None:
    """A thousand that never end their heads or bodies: others are answered, and these are closed in time.

    Where there are too many, the oldest without a request goes. Memory is bounded.
    """
    make_room_for(1000)
    door = Door(rig, HTTP_READ_TIMEOUT_S="5", HTTP_CONNECTIONS="700")
    before = peak_bytes(door.process.pid)
    begun = [
        b"", b"P", b"POST /v1/ev", b"POST /write HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nm,",
        b"POST /write HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nm,",
    ]  # fmt: skip
    slow = []
    for number in range(1000):
        one = socket.create_connection(("127.0.0.1", door.port))
        slow.append(one)
        # The first ones have no request: they make room.
        one.sendall(begun[number % (4 if number < 600 else 6)])
        if number % 100 == 99:
            assert door.events(event(number)).status == 200
    for one in slow[:20]:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it breaks off
        one.close()
    ends = time.monotonic() + PATIENCE_S
    for one in slow[20:]:
        one.settimeout(max(0.1, ends - time.monotonic()))
        with contextlib.suppress(ConnectionError):
            while one.recv(65536):
                pass
        one.close()
    assert door.events(event(1000)).status == 200
    assert not before or peak_bytes(door.process.pid) - before < 50 << 20
    assert door.process.lines("request_failed") == []


def test_a_head_without_end_is_refused(rig: Rig) -> None:
    """Its size is bounded, however fast it comes."""
    door = Door(rig)
    host, port = door.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as one:
        one.sendall(b"POST /write HTTP/1.1\r\nHost: x\r\n")
        answer = b""
        try:
            for _ in range(100):
                one.sendall(b"X-Y: " + b"z" * 1000 + b"\r\n")
            answer = one.recv(65536)
        except ConnectionError:
            return
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_nothing_that_is_sent_makes_it_fail(rig: Rig) -> None:
    """Whatever bytes, to whatever address: an answer that says what is wrong; no success, and no 500."""
    door, drawn = Door(rig, HTTP_MAX_BODY_BYTES="20000", HTTP_MAX_EVENTS="100"), random.Random(7)
    good = json.dumps(event(1)).encode()
    hostile = [
        b"", b"[]"[:1], b"null", b"5", b'"x"', b"[" * 5000, b'{"a":' * 2000, b"\xff\xfe", b"\0" * 100,
        good[:-1],
        b"[" + b",".join([good] * 101) + b"]", b"x" * 20001, b'{"ts":1e999}', b'{"value":NaN}', b"m,a=b",
        b"m,a=b c=", b"," * 500, b"\\" * 500, b"m x=1 99999999999999999999999999", b'm x="', b"\r\n\r\nbad",
        *(drawn.randbytes(drawn.randrange(1, 400)) for _ in range(40)),
    ]  # fmt: skip
    for body in hostile:
        for path in ("/v1/events", "/write", "/api/v2/write?precision=s"):
            _check_refused(post(f"{door.address}{path}", body), body)
            _check_refused(post(f"{door.address}{path}", body, Content_Encoding="gzip"), body)
    lines = "application/x-ndjson"
    for body in hostile:
        _check_refused(post(f"{door.address}/v1/events", body, kind=lines), body)
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert post(f"{door.address}/write", bomb, Content_Encoding="gzip").status == 413
    assert post(f"{door.address}/write", good, Content_Encoding="br").status == 415
    assert post(f"{door.address}/v1/other", good).status == 404
    for path, allowed in (("/ping", "GET, HEAD"), ("/write", "POST")):
        status, text = curl("-i", "-X", "PUT", f"{door.address}{path}")
        assert status == 405
        assert f"allow: {allowed}\r\n" in text
        assert f"use {allowed.replace(', ', ' or ')} here" in text
    assert rig.client.xlen("telemetry_stream") == 0
    assert door.events(event(1)).status == 200
    assert door.process.lines("request_failed") == []


def _check_refused(answer: Answer, body: bytes) -> None:
    if answer.status in {200, 204}:
        # There was nothing in it to publish.
        assert not body.strip(b"\r\n\0 ") or answer.json["published"] == 0, body
    else:
        assert 400 <= answer.status < 500, (answer, body)
        assert answer.text.isascii()
        assert answer.text
