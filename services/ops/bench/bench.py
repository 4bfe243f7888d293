"""What every case is given."""

from collections.abc import Callable
from dataclasses import dataclass

from services.ops.bench.plan import Plan
from services.ops.bench.server import Server


@dataclass(frozen=True, slots=True)
class Bench:
    """A server, the sizes, and somebody to tell how it goes."""

    server: Server
    plan: Plan
    say: Callable[[str], None]
    """Takes one line."""
