"""A producer's run, and what becomes of the batches that it publishes."""

from dataclasses import dataclass

from services.contract.trace_context import TraceContext


@dataclass(frozen=True, slots=True)
class Run:
    """A run that this process writes."""

    name: str
    writer: str
    source: str
    """`generator`, or the file's name."""
    replay: str | None = None
    """How the replayed file is named in its key."""
    fingerprint: str = ""
    """How the replayed file began: `LENGTH:SHA256`."""
    batches: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a file was replayed, and by which run."""

    run: Run
    offset: int
    line: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """What one batch came to."""

    published: int
    """Distinct events, whatever their ids."""
    duplicates: int
    dropped: int
    """Entries that were given up to make room, and that somebody still needed."""
    trace: TraceContext | None = None
    """The span that the batch has; None where it has none."""
