"""Case `observability`: what it costs that the consumer is seen.

    unobserved    counts nothing, logs nothing, traces nothing, serves no metrics
    ours          metrics, asked for once a second, and logs, as in production
    ours, traced  the same, and 1 % of the batches traced: their entries carry a context, spans are exported

The ratio is taken of processor time as well as of speed: on a noisy machine it is the steadier one.
"""

import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from services.contract.trace_context import TraceContext
from services.ops.bench.bench import Bench
from services.ops.bench.events import generate
from services.ops.bench.figure import Figure, at_least, at_most
from services.ops.bench.plan import BATCH_SIZE, BenchFailed, in_turn
from services.ops.bench.processes import python, running
from services.ops.bench.race import Contestant, consumer_environment, ours, race
from services.ops.bench.sample import Sample
from services.ops.bench.server import Server, free_port
from services.ops.bench.stream import KEYS, Progress, preload

_SCRAPE_INTERVAL_S: Final = 1.0
_SCRAPE_TIMEOUT_S: Final = 5.0
_START_TIMEOUT_S: Final = 20.0
_A_SAMPLED_BATCH: Final = 100
"""One in so many batches is traced: the default of TRACE_SAMPLE_RATIO."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run the consumer, and whether its stream carries contexts of traces."""

    contestant: Contestant
    metrics_port: int
    """0: not asked for metrics."""
    has_contexts: bool


@dataclass(slots=True)
class Measured:
    """What was measured of a way, one value a round."""

    rates: list[float] = field(default_factory=list)
    """Events a second."""
    processor_s: list[float] = field(default_factory=list)
    """Processor time of the consumer, from the first entry delivered to the last settled."""


def watch_cost(bench: Bench) -> list[Figure]:
    """Let each way settle the stream, round by round."""
    measured: dict[str, Measured] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemetry-bench-")))
        receiver_port = stack.enter_context(_receiving(folder))
        ways = _ways(receiver_port)
        events = bench.plan.observed_events
        for has_contexts in (False, True):
            bench.say(f"observability: preload {events:,} events{', 1 % traced' if has_contexts else ''}")
            preload(bench.server, generate(events), contexts(has_contexts))
            bench.server.client().rename(KEYS.stream, _kept(has_contexts))
        for number in range(bench.plan.rounds):
            for way in in_turn(ways, number):
                name = way.contestant.name
                one = measured.setdefault(name, Measured())
                _measure(way, bench, one)
                bench.say(
                    f"round {number + 1}/{bench.plan.rounds}  {name:<24}{one.rates[-1]:>10,.0f} events/s"
                    f"{one.processor_s[-1]:>8.2f} s of processor time"
                )
    return figures({name: measured[name] for name in ("unobserved", "ours", "ours, traced")})


def figures(measured: dict[str, Measured]) -> list[Figure]:
    """Make the figures: each one's speed, then what is left of it, and what it takes more."""
    rates = {name: Sample(tuple(one.rates)) for name, one in measured.items()}
    processor_s = {name: Sample(tuple(one.processor_s)) for name, one in measured.items()}
    bare = "unobserved"
    case = "observability"
    speeds = [Figure(case, name, "events/s", rates[name]) for name in (bare, "ours, traced")]
    ratios = [
        figure
        for name, is_all in (("ours", False), ("ours, traced", True))
        for figure in (
            Figure(
                case,
                f"{name} / {bare}",
                "x",
                rates[name].over(rates[bare]),
                at_least(0.95) if is_all else None,
            ),
            Figure(
                case,
                f"{name} / {bare}, processor time",
                "x",
                processor_s[name].over(processor_s[bare]),
                at_most(1.05) if is_all else None,
            ),
        )
    ]
    return [*speeds, *ratios]


def processor_seconds(pid: int) -> float:
    """Read the processor time that a process has used. Raises BenchFailed without /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError as error:
        raise BenchFailed(
            f"observability: {error.filename}: {error.strerror}; this case needs Linux"
        ) from None
    # Behind the name, which may hold spaces and brackets; proc(5): utime and stime are fields 14 and 15.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ways(receiver_port: int) -> tuple[Way, ...]:
    port, traced_port = free_port(), free_port()

    def unobserved(server: Server, folder: Path) -> dict[str, str]:
        return consumer_environment(server, folder) | {"CONSUMER_METRICS_PORT": "0", "LOG_LEVEL": "ERROR"}

    def observed(server: Server, folder: Path) -> dict[str, str]:
        return consumer_environment(server, folder) | {"CONSUMER_METRICS_PORT": str(port)}

    def traced(server: Server, folder: Path) -> dict[str, str]:
        return consumer_environment(server, folder) | {
            "CONSUMER_METRICS_PORT": str(traced_port),
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{receiver_port}/v1/traces",
        }

    command = ours().command
    return (
        Way(
            Contestant("unobserved", lambda *_: python("services.ops.bench.unobserved_consumer"), unobserved),
            metrics_port=0,
            has_contexts=False,
        ),
        Way(Contestant("ours", command, observed), metrics_port=port, has_contexts=False),
        Way(Contestant("ours, traced", command, traced), metrics_port=traced_port, has_contexts=True),
    )


def _measure(way: Way, bench: Bench, into: Measured) -> None:
    used: list[float] = []

    def look(_: Progress, pids: Sequence[int]) -> None:
        used[1:] = [processor_seconds(pids[0])]
        if len(used) == 1:
            used.append(used[0])

    client = bench.server.client()
    client.rename(_kept(way.has_contexts), KEYS.stream)
    with _scraped(way.metrics_port):
        into.rates.append(race(way.contestant, bench.server, bench.plan.observed_events, look))
    client.rename(KEYS.stream, _kept(way.has_contexts))
    into.processor_s.append(max(used[-1] - used[0], 0.01))


def _kept(has_contexts: bool) -> str:
    """Name where a stream is kept while another one is raced over."""
    return f"{KEYS.stream}:{'traced' if has_contexts else 'plain'}"


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


@contextmanager
def _scraped(port: int) -> Iterator[None]:
    """Ask for the metrics again and again, as Prometheus does, until the block ends."""
    if port == 0:
        yield
        return
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(_SCRAPE_INTERVAL_S):
            try:
                with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_SCRAPE_TIMEOUT_S) as answer:
                    answer.read()
            except (URLError, OSError):
                continue  # it is starting, or it has ended

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
    with running(python("services.ops.bench.otlp_receiver", str(port)), folder / "receiver.log") as process:
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
