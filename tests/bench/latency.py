"""Case `latency`: from the making of an event to its commit, at a steady rate, with the real processes."""

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import redis

from bench.bench import Bench
from bench.figure import Figure, at_most
from bench.plan import BATCH_SIZE, BenchFailed, Plan
from bench.processes import python, running
from bench.race import DATABASE
from bench.sample import Sample, percentile
from bench.server import Server, free_port
from bench.stamped_consumer import read_stamps
from bench.stream import KEYS, wait_for_consumers, watch
from bench.table import count_rows

_END_TIMEOUT_S: Final = 60.0


def watch_latency(bench: Bench) -> list[Figure]:
    """Publish at a steady rate, and look when each event is durable."""
    middles, tails = [], []
    for number in range(bench.plan.rounds):
        latencies_ms = timed(bench.server, bench.plan)
        middles.append(percentile(latencies_ms, 0.5))
        tails.append(percentile(latencies_ms, 0.99))
        bench.say(
            f"round {number + 1}/{bench.plan.rounds}  latency of {len(latencies_ms):,} events: "
            f"p50 {middles[-1]:.1f} ms, p99 {tails[-1]:.1f} ms"
        )
    what = f"publish to commit at {bench.plan.latency_rate:,} events/s"
    return [
        Figure("latency", f"{what}, p50", "ms", Sample(tuple(middles))),
        Figure("latency", f"{what}, p99", "ms", Sample(tuple(tails)), at_most(20)),
    ]


def timed(
    server: Server, plan: Plan, publish: Callable[[Server, Plan, Path], None] | None = None
) -> Sequence[float]:
    """Publish to a consumer, by our generator unless `publish` does; gives the milliseconds of each event."""
    client = server.client()
    client.delete(KEYS.stream)
    client.xgroup_create(KEYS.stream, KEYS.group, "0", mkstream=True, entries_read=0)
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        folder = Path(name)
        stamps = folder / "stamps"
        consumer = python("bench.stamped_consumer", str(stamps))
        with running(consumer, folder / "consumer.jsonl", _consumer(server, folder)) as process:
            # The consumer's start is not in the figures.
            wait_for_consumers(client, 1, lambda: _check(process, folder / "consumer.jsonl"))
            (publish or _publish)(server, plan, folder)
            published = _published(client, 0.9 * plan.latency_rate * plan.latency_s)
            watch(client, published, lambda: _check(process, folder / "consumer.jsonl"))
        latencies_ms, rows = read_stamps(stamps), count_rows(folder / DATABASE)
    client.close()
    if not published == rows == len(latencies_ms):
        raise BenchFailed(
            f"latency: published {published} events, stored {rows}, and timed {len(latencies_ms)}"
        )
    return latencies_ms


def _consumer(server: Server, folder: Path) -> dict[str, str]:
    """Set up the consumer as the chart does, trimming included."""
    return {
        "REDIS_URL": server.url,
        "DATA_DIR": str(folder),
        "BATCH_SIZE": str(BATCH_SIZE),
        "CONSUMER_RUN_DURATION": "0",
        "CONSUMER_METRICS_PORT": str(free_port()),
    }


def _publish(server: Server, plan: Plan, folder: Path) -> None:
    """Run the producer to its end."""
    settings = {
        "REDIS_URL": server.url,
        "DATA_DIR": str(folder),
        "RATE": str(plan.latency_rate),
        "PRODUCER_RUN_DURATION": str(plan.latency_s),
        "PRODUCER_METRICS_PORT": str(free_port()),
    }
    log = folder / "producer.jsonl"
    with running(python("services.producer"), log, settings) as process:
        try:
            code = process.wait(plan.latency_s + _END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BenchFailed("latency: the producer does not end") from None
    if code != 0:
        raise BenchFailed(f"latency: the producer ended with {code}:\n{_tail(log)}")


def _published(client: redis.Redis, least: float) -> int:
    """Count what was published. Raises BenchFailed for less than `least`: the rate was not kept."""
    # Not the length: what is settled may have been trimmed by now.
    published = int(client.xinfo_stream(KEYS.stream)["entries-added"])
    if published < least:
        raise BenchFailed(f"latency: {published} events published, and {least:.0f} were wanted at least")
    return published


def _check(process: "subprocess.Popen[bytes]", log: Path) -> None:
    if process.poll() is not None:
        raise BenchFailed(f"latency: the consumer ended with {process.returncode}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
