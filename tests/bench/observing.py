"""Case `observability`: what it costs that the consumer is seen, in processor time.

Consumers that are seen, and one that is not, take turns in one process, batch by batch (taking_turns.py).
Whole runs one after the other tell nothing here: on a machine whose speed changes by a fifth within seconds
their ratios do, too.
"""

import json
import secrets
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from bench.bench import Bench
from bench.events import generate
from bench.figure import Figure, at_most
from bench.plan import BATCH_SIZE, BenchFailed
from bench.processes import clean_environment, python, running
from bench.race import consumer_environment
from bench.sample import Sample
from bench.server import Server, free_port
from bench.stream import KEYS, preload
from bench.table import count_rows
from bench.taking_turns import BESIDE, CALLS, STREAMS
from services.contract.trace_context import TraceContext

_START_TIMEOUT_S: Final = 20.0
_RUN_TIMEOUT_S: Final = 600.0
_A_SAMPLED_BATCH: Final = 100
"""One in so many batches is traced: the default of TRACE_SAMPLE_RATIO."""

# By the clock, each of those that take turns works a third of the time: what comes by the second, comes so
# much more rarely.
_SPANS_A_SECOND: Final = 100.0
_SCRAPE_INTERVAL_S: Final = 5.0 * len(STREAMS)
"""As `make observe` scrapes; the chart's ServiceMonitor does so every 15 seconds."""
_SCRAPE_TIMEOUT_S: Final = 5.0
_FIRST_TURNS: Final = 2
"""In which a consumer takes less than a batch: it doesn't know yet how many events an entry has."""

Spent = Mapping[str, float]
"""Seconds of processor time, by who spent them."""


def watch_cost(bench: Bench) -> list[Figure]:
    """Let them take turns over the streams, round by round."""
    turns = bench.plan.observed_events // BATCH_SIZE
    client = bench.server.client()
    for stream in dict.fromkeys(STREAMS.values()):
        bench.say(f"observability: preload {turns * BATCH_SIZE:,} events, stream {stream}")
        preload(bench.server, generate(turns * BATCH_SIZE), contexts(stream == "traced"))
        client.rename(KEYS.stream, stream)
    rounds: list[Spent] = []
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as folder, _receiving(Path(folder)) as port:
        for number in range(bench.plan.rounds):
            rounds.append(_take_turns(bench.server, turns, port))
            told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in rounds[-1].items())
            bench.say(f"round {number + 1}/{bench.plan.rounds}  {told}")
    client.delete(*STREAMS.values())
    return figures(rounds)


def figures(rounds: list[Spent]) -> list[Figure]:
    """Make the figures: what counting, logging and 1 % tracing take more than nothing of it."""

    def ratio(spent: Callable[[Spent], float], without: Callable[[Spent], float] = _unobserved) -> Sample:
        return Sample(tuple(spent(one) / without(one) for one in rounds))

    case = "observability"
    return [
        Figure(case, "with metrics and logs / without, processor time", "x", ratio(lambda one: one["ours"])),
        Figure(
            case,
            "with these and 1 % traced / without, processor time",
            "x",
            ratio(lambda one: one["traced"] + one[BESIDE]),
            at_most(1.05),
        ),
        Figure(
            case,
            "with tracing off / without its calls, processor time",
            "x",
            ratio(_unobserved, lambda one: _unobserved(one) - one[CALLS]),
            at_most(1.01),
        ),
    ]


def _unobserved(spent: Spent) -> float:
    return spent["unobserved"]


def contexts(has_contexts: bool) -> Callable[[int], str]:
    """Give the `traceparent` of the event with this number; empty for one without."""
    if not has_contexts:
        return lambda _: ""
    by_batch: dict[int, str] = {}

    def context(number: int) -> str:
        batch, _ = divmod(number, BATCH_SIZE)
        if batch % _A_SAMPLED_BATCH:
            return ""
        if batch not in by_batch:
            sampled = TraceContext(secrets.token_hex(16), secrets.token_hex(8), is_sampled=True)
            by_batch[batch] = sampled.traceparent
        return by_batch[batch]

    return context


def _take_turns(server: Server, turns: int, receiver_port: int) -> Spent:
    """Run them over fresh groups and databases. Raises BenchFailed unless each has stored every event."""
    client = server.client()
    for name, stream in STREAMS.items():
        client.xgroup_destroy(stream, name)
        client.xgroup_create(stream, name, "0")
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as place:
        folder = Path(place)
        environment = (
            clean_environment()
            | consumer_environment(server, folder)
            | {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{receiver_port}/v1/traces",
                "TRACE_SPANS_PER_SECOND": str(_SPANS_A_SECOND / len(STREAMS)),
            }
        )
        port = int(environment["CONSUMER_METRICS_PORT"])
        with (folder / "log.jsonl").open("wb") as log, _scraped(port):
            done = subprocess.run(
                python("bench.taking_turns", str(turns + _FIRST_TURNS)),
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.PIPE,
                timeout=_RUN_TIMEOUT_S,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise BenchFailed(f"observability ended with {done.returncode}:\n{done.stderr[-2000:]}")
        for name in STREAMS:
            stored = count_rows(folder / name / "telemetry.db")
            if stored != turns * BATCH_SIZE:
                raise BenchFailed(f"{name} settled {turns * BATCH_SIZE} events and has {stored} rows")
        spent: Spent = json.loads(done.stderr)
        return spent


@contextmanager
def _scraped(port: int) -> Iterator[None]:
    """Ask for the metrics again and again, as Prometheus does, until the block ends."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(_SCRAPE_INTERVAL_S):
            with (
                suppress(OSError),  # it is starting, or it has ended
                urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_SCRAPE_TIMEOUT_S) as answer,
            ):
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _receiving(folder: Path) -> Iterator[int]:
    """Run a receiver of OTLP until the block ends; gives its port."""
    port = free_port()
    with running(python("bench.otlp_receiver", str(port)), folder / "receiver.log") as process:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"the receiver did not start:\n{(folder / 'receiver.log').read_text()}")
            time.sleep(0.02)
        yield port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
