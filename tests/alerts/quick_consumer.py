"""Run a consumer that observes its group in quick time: `quick_consumer.py SECONDS`, between two looks.

The consumer is the real one. In production it looks every 5 s, 60 times in the shortest window of the rules,
and its lease is 15 s. In a copy of the rules in which 5 minutes are 5 s, both have to be shorter.

SIGUSR1 sets its wall clock back.
"""

import logging
import signal
import sys
import time
from types import ModuleType

import redis

from services.brokers.redis.consuming import observer as observe
from services.brokers.redis.consuming import side
from services.brokers.redis.keys import StreamKeys
from services.consumer import __main__ as consumer
from services.runtime.clock import Clock

LEASE_S = 3.0
"""Many looks, for a busy machine; and short beside 5 s."""
BEHIND_S = 3600.0
"""How far its wall clock is set back."""
_now = time.time


def quick_observer(
    client: redis.Redis, keys: StreamKeys, name: str, clock: Clock, logger: logging.Logger
) -> observe.Observer:
    """Make an observer with a short lease."""
    return observe.Observer(client, keys, name, clock, logger, LEASE_S)


def replace(module: ModuleType, name: str, value: object) -> None:
    """Give a module another value of a name that it has."""
    assert name in vars(module)
    setattr(module, name, value)


def set_back(*_: object) -> None:
    """Have the wall clock behind from now on."""
    vars(time)["time"] = lambda: _now() - BEHIND_S


if __name__ == "__main__":
    replace(observe, "LOOK_S", float(sys.argv[1]))
    replace(side, "Observer", quick_observer)
    signal.signal(signal.SIGUSR1, set_back)
    sys.exit(consumer.main())
