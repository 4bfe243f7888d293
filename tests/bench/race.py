"""One contestant over the preloaded stream: started, let go, timed, ended, and its rows counted."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.plan import BATCH_SIZE, BenchFailed
from bench.postgres.server import Postgres
from bench.processes import python, running
from bench.processor import spent_s
from bench.server import Server, free_port
from bench.stream import (
    EVENTS_PER_ENTRY,
    KEYS,
    PACKED,
    Progress,
    make_group,
    open_group,
    wait_for_consumers,
    watch,
)
from bench.table import count_rows
from services.brokers.redis.keys import StreamKeys

DATABASE = "telemetry.db"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contestant writes."""

    folder: Path
    """Its own."""
    url: str = ""
    """Of a fresh database in PostgreSQL; empty: it writes to `DATABASE`, in its folder."""

    @property
    def database(self) -> str:
        """The database's address: a file, or a URL."""
        return self.url or str(self.folder / DATABASE)


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that consumes the stream into a database."""

    name: str
    command: Callable[[Server, Place], Sequence[str]]
    environment: Callable[[Server, Place], dict[str, str]] = lambda _server, _place: {}
    replicas: int = 1
    keys: StreamKeys = KEYS
    """The stream that it consumes."""
    events_per_entry: int = 1
    has_own_files: bool = False
    """Whether each replica stores into a file of its own."""


@dataclass(frozen=True, slots=True)
class Raced:
    """What it came to."""

    rate: float
    """Events a second."""
    client_us: float
    """Microseconds of processor time an event, of the contestant's processes."""
    database_us: float = 0.0
    """And of all processes of PostgreSQL's server, where there is one."""
    server_us: float = 0.0
    """And of the broker's server."""


def consumer_environment(server: Server, folder: Path) -> dict[str, str]:
    """Set up our consumer as the chart does, metrics and logs included, on a stream that must stay."""
    return {
        "REDIS_URL": server.url,
        "DATA_DIR": str(folder),
        "BATCH_SIZE": str(BATCH_SIZE),
        "CONSUMER_RUN_DURATION": "0",
        "CONSUMER_METRICS_PORT": str(free_port()),
        # The next round reads the same entries.
        "RETENTION_INTERVAL_S": "0",
        # All contestants look for entries that often while there are none.
        "SLEEP_INTERVAL": "0.05",
    }


def floor(batch: int = BATCH_SIZE) -> Contestant:
    """Make the floor."""
    return Contestant(
        "floor", lambda server, place: python("bench.floor", server.url, place.database, "flat", str(batch))
    )


def packed_loop(batch: int) -> Contestant:
    """Make the floor again, over packed entries."""
    return Contestant(
        "plain loop, packed",
        lambda server, place: python("bench.floor", server.url, place.database, "packed", str(batch)),
        keys=PACKED,
        events_per_entry=EVENTS_PER_ENTRY,
    )


FLOOR = floor()


def faststream(way: str, batch: int = BATCH_SIZE) -> Contestant:
    """FastStream, `documented` or `tuned`."""
    module = "bench.faststream_peer"
    return Contestant(
        f"faststream, {way}",
        lambda server, place: python(module, server.url, place.database, way, str(batch)),
    )


def ours(replicas: int = 1) -> Contestant:
    """Our consumer as it runs in production, with validation, metrics and logs."""
    name = "ours" if replicas == 1 else f"ours x{replicas}"

    def environment(server: Server, place: Place) -> dict[str, str]:
        return consumer_environment(server, place.folder) | ({"DATABASE_URL": place.url} if place.url else {})

    return Contestant(name, lambda *_: python("services.consumer"), environment, replicas)


def ours_packed(batch: int, replicas: int = 1) -> Contestant:
    """Our consumer again, over packed entries."""
    flat = ours(replicas)

    def environment(server: Server, place: Place) -> dict[str, str]:
        packed = {"STREAM_NAME": PACKED.stream, "BATCH_SIZE": str(batch)}
        return flat.environment(server, place) | packed

    return replace(
        flat,
        name=f"{flat.name}, packed",
        environment=environment,
        keys=PACKED,
        events_per_entry=EVENTS_PER_ENTRY,
    )


def race(
    contestant: Contestant,
    server: Server,
    events: int,
    look: Callable[[Progress, Sequence[int]], None] = lambda *_: None,
    postgres: Postgres | None = None,
) -> Raced:
    """Let a contestant settle the whole stream, on a fresh database: in `postgres`, or a file.

    The clock runs from the first entry delivered until the last is acknowledged, so no start-up is in
    it. `look` is shown the progress and the process ids every 10 ms. Raises BenchFailed unless every
    event has its row at the end.
    """
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        place = Place(folder)
        if postgres is not None:
            place = Place(folder, postgres.new_database())
            stack.callback(postgres.drop, place.url)
        log = folder / "log.jsonl"
        client = server.client()
        stack.callback(client.close)
        make_group(client, contestant.keys)
        places = [place] * contestant.replicas
        if contestant.has_own_files:
            places = [Place(folder / str(number)) for number in range(contestant.replicas)]
        processes = [
            stack.enter_context(
                running(contestant.command(server, one), log, contestant.environment(server, one))
            )
            for one in places
        ]

        def check() -> None:
            for process in processes:
                if process.poll() is not None:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise BenchFailed(f"{contestant.name} ended with {process.returncode}:\n{tail}")

        wait_for_consumers(client, contestant.replicas, check, contestant.keys)
        pids = [process.pid for process in processes]
        database_s = 0.0 if postgres is None else postgres.spent_s()
        client_s, server_s = spent_s(pids), spent_s([server.pid])
        open_group(client, contestant.keys)
        entries = -(-events // contestant.events_per_entry)
        seconds = watch(client, entries, check, lambda progress: look(progress, pids), contestant.keys)
        client_s, server_s = spent_s(pids) - client_s, spent_s([server.pid]) - server_s
        if postgres is None:
            stored = sum(count_rows(one.folder / DATABASE) for one in dict.fromkeys(places))
        else:
            database_s = postgres.spent_s() - database_s
            stored = postgres.count_rows(place.url)
        if stored != events:
            raise BenchFailed(f"{contestant.name} settled {events} events and has {stored} rows")
    return Raced(
        events / seconds, client_s * 1e6 / events, database_s * 1e6 / events, server_s * 1e6 / events
    )
