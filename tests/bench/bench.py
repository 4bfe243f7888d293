"""What every case is given."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.plan import Plan
from bench.server import Server


@dataclass(frozen=True, slots=True)
class Bench:
    """A server, the sizes, and somebody to tell how it goes."""

    server: Server
    plan: Plan
    say: Callable[[str], None]
    """Takes one line."""
