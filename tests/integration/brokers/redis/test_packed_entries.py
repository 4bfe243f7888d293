"""Entries of many events at a real server: what waits of them, for the audit."""

from contextlib import closing

from consumers import KEYS, Consumer
from law import pack
from redis import Redis
from samples import event_fields, id_of
from servers import Server

from services.brokers.redis.operating.waiting import read_waiting
from services.contract.operating import Waiting


def add(client: Redis, fields: list[bytes]) -> bytes:
    """Publish an entry."""
    entry_id: bytes = client.execute_command("XADD", KEYS.stream, "*", *fields)
    return entry_id


def test_each_event_of_an_entry_waits(server: Server) -> None:
    """Before there is a group, delivered and not: by its own id, and named by entry and line."""
    with closing(server.client()) as client, closing(Consumer(server)) as consumer:

        def publish(first: int) -> list[tuple[str, str]]:
            flat = [(b"%d" % number, event_fields(number)) for number in range(first, first + 4)]
            names = pack(lambda fields: add(client, fields), flat, [1, 3])
            return [(name.decode(), id_of(int(number))) for number, name in names.items()]

        delivered = publish(1)
        assert list(read_waiting(client, KEYS)) == [Waiting(*one, is_delivered=False) for one in delivered]
        consumer.read()
        late = publish(5)
        assert list(read_waiting(client, KEYS)) == [
            *(Waiting(*one, is_delivered=True) for one in delivered),
            *(Waiting(*one, is_delivered=False) for one in late),
        ]


def test_of_a_broken_entry_every_line_that_has_its_end_waits(server: Server) -> None:
    """One that is cut off, and one that has no line at all, are still entries that wait."""
    with closing(server.client()) as client:
        line = b"\t".join(event_fields(1)[1::2])
        cut = add(client, [b"events", b"2", b"lines", line + b"\n" + line[:9]]).decode()
        empty = add(client, [b"events", b"2", b"lines", b""]).decode()
        assert list(read_waiting(client, KEYS)) == [
            Waiting(f"{cut}/1", id_of(1), is_delivered=False),
            Waiting(empty, None, is_delivered=False),
        ]
