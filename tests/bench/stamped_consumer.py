"""Our consumer, with a clock behind its sink: `python -m bench.stamped_consumer FILE`.

For each row FILE gets the milliseconds from the making of its event id until its commit returned, as
doubles in the machine's order, written when the consumer ends. `stored_at` would not do: it is noted
before the rows are inserted.
"""

import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

from services.consumer.__main__ import Doors, main
from services.contract.consuming.doors import Sink, Written
from services.contract.event import Event


class StampedSink:
    """A sink that notes how long each row took to be durable."""

    def __init__(self, sink: Sink, stamps: Path) -> None:
        self._sink = sink
        self._stamps = stamps
        self._latencies_ms = array("d")

    def write(self, rows: Sequence[Event]) -> Written:
        """Write, then note the time."""
        written = self._sink.write(rows)
        now_ms = time.time() * 1000
        self._latencies_ms.extend(now_ms - made_ms(row.event_id) for row in rows)
        return written

    def probe(self) -> None:
        """Probe the sink behind."""
        self._sink.probe()

    def close(self) -> None:
        """Close the sink behind, and write the times."""
        self._sink.close()
        self._stamps.write_bytes(self._latencies_ms.tobytes())


def made_ms(event_id: str) -> int:
    """Read from a UUIDv7 when it was made, in Unix milliseconds, rounded down."""
    return int(event_id[:8] + event_id[9:13], 16)


def read_stamps(stamps: Path) -> Sequence[float]:
    """Read the milliseconds of each row."""
    latencies_ms = array("d")
    latencies_ms.frombytes(stamps.read_bytes())
    return latencies_ms


def run(stamps: Path) -> int:
    """Run the consumer until it is told to stop."""

    def dress(doors: Doors) -> Doors:
        source, sink, dead_letters = doors
        return source, StampedSink(sink, stamps), dead_letters

    return main(dress)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
