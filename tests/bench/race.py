"""One contestant over the preloaded stream: started, let go, timed, ended, and its rows counted."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.plan import BATCH_SIZE, BenchFailed
from bench.processes import python, running
from bench.server import Server, free_port
from bench.stream import Progress, make_group, open_group, wait_for_consumers, watch
from bench.table import count_rows

DATABASE = "telemetry.db"


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that consumes the stream into `DATABASE` in its folder."""

    name: str
    command: Callable[[Server, Path], Sequence[str]]
    environment: Callable[[Server, Path], dict[str, str]] = lambda _server, _folder: {}
    replicas: int = 1


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


FLOOR = Contestant("floor", lambda server, folder: python("bench.floor", server.url, str(folder / DATABASE)))


def faststream(way: str) -> Contestant:
    """FastStream, `documented` or `tuned`."""
    module = "bench.faststream_peer"
    return Contestant(
        f"faststream, {way}",
        lambda server, folder: python(module, server.url, str(folder / DATABASE), way),
    )


def ours(replicas: int = 1) -> Contestant:
    """Our consumer as it runs in production, with validation, metrics and logs."""
    name = "ours" if replicas == 1 else f"ours x{replicas}"
    return Contestant(name, lambda *_: python("services.consumer"), consumer_environment, replicas)


def race(
    contestant: Contestant,
    server: Server,
    events: int,
    look: Callable[[Progress, Sequence[int]], None] = lambda *_: None,
) -> float:
    """Let a contestant settle the whole stream, on a fresh database; gives its events a second.

    The clock runs from the first entry delivered until the last is acknowledged, so no start-up is in
    it. `look` is shown the progress and the process ids every 10 ms. Raises BenchFailed unless every
    event has its row at the end.
    """
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        log = folder / "log.jsonl"
        client = server.client()
        stack.callback(client.close)
        make_group(client)
        processes = [
            stack.enter_context(
                running(contestant.command(server, folder), log, contestant.environment(server, folder))
            )
            for _ in range(contestant.replicas)
        ]

        def check() -> None:
            for process in processes:
                if process.poll() is not None:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise BenchFailed(f"{contestant.name} ended with {process.returncode}:\n{tail}")

        wait_for_consumers(client, contestant.replicas, check)
        open_group(client)
        pids = [process.pid for process in processes]
        seconds = watch(client, events, check, lambda progress: look(progress, pids))
        stored = count_rows(folder / DATABASE)
        if stored != events:
            raise BenchFailed(f"{contestant.name} settled {events} events and has {stored} rows")
    return events / seconds
