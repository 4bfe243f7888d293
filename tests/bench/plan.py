"""How much is measured, in what order, and what can go wrong while measuring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from services.ops.failures import CommandFailed

T = TypeVar("T")

BATCH_SIZE: Final = 1000
"""Entries in a batch, of every contestant."""
LARGEST_BATCH: Final = 4000
"""Events in a batch of the case `packed`: as many as a consumer takes at most."""


class BenchFailed(CommandFailed):
    """Something didn't do its job, so there is nothing to compare; the message says what."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of a run."""

    events: int
    """Entries of the preloaded stream."""
    packed_events: int
    """Events of the preloaded stream of packed entries: they take a few seconds."""
    rounds: int
    memory_events: int
    """Entries of the long backlog."""
    latency_s: float
    """How long the producer publishes in a round."""
    latency_rate: int
    """Events a second."""
    long_rows: int
    """Rows to which the table grows."""
    growth_batches: int
    """Batches in the first window and in the last."""
    observed_events: int
    """Entries of the two streams of the case `observability`."""
    store_batches: int
    """Batches in a round of the case `postgres-store`."""
    copied_rows: int
    """Rows of each copy of the case `copy`."""

    @property
    def sizes(self) -> str:
        """Say how much is measured."""
        return (
            f"{self.events:,} events, {self.rounds} rounds; {self.packed_events:,} events for packed; "
            f"{self.memory_events:,} events for memory; "
            f"{self.latency_s:g} s a round at {self.latency_rate:,} events/s for latency; "
            f"{self.long_rows:,} rows for growth; {self.observed_events:,} events for observability; "
            f"{self.store_batches:,} batches a round for postgres-store; {self.copied_rows:,} rows for copy"
        )


def full_plan(events: int, rounds: int, long_rows: int) -> Plan:
    """Plan a run whose figures are worth a table."""
    return Plan(
        events=events,
        # At hundreds of thousands a second; of two the second one starts a little later.
        packed_events=5 * events,
        rounds=rounds,
        memory_events=max(2_000_000, events),
        latency_s=20.0,
        latency_rate=1000,
        long_rows=long_rows,
        growth_batches=100,
        # Long enough that what may be traced at once, at the start, is a small part of it.
        observed_events=max(1_000_000, events),
        store_batches=200,
        copied_rows=events,
    )


def smoke_plan() -> Plan:
    """Plan a run that only shows that nothing is broken."""
    return Plan(
        events=5_000,
        packed_events=10_000,
        rounds=1,
        memory_events=20_000,
        latency_s=3.0,
        latency_rate=1000,
        long_rows=20_000,
        growth_batches=5,
        observed_events=5_000,
        store_batches=10,
        copied_rows=5_000,
    )


def in_turn(contestants: Sequence[T], number: int) -> list[T]:
    """Order contestants for round `number`, from 0: another one begins each time.

    Who comes after whom matters: the one before leaves a warm cache, and a disk that still writes.
    """
    first = number % len(contestants)
    return [*contestants[first:], *contestants[:first]]
