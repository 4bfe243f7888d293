"""Run a consumer that observes its group in quick time: `quick_consumer.py SECONDS`, between two looks.

The consumer is the real one. In production it looks every 5 s, 60 times in the shortest window of the rules,
and its lease is 15 s. In a copy of the rules in which 5 minutes are 5 s, both have to be shorter.
"""

import logging
import sys

import redis

from services.consumer import __main__ as consumer
from services.consumer import observe
from services.contract.streams import StreamKeys
from services.runtime.clock import Clock

LEASE_S = 3.0
"""Many looks, for a busy machine; and short beside 5 s."""


def quick_observer(
    client: redis.Redis, keys: StreamKeys, name: str, clock: Clock, logger: logging.Logger
) -> observe.Observer:
    """Make an observer with a short lease."""
    return observe.Observer(client, keys, name, clock, logger, LEASE_S)


if __name__ == "__main__":
    vars(observe)["LOOK_S"] = float(sys.argv[1])
    vars(consumer)["Observer"] = quick_observer
    sys.exit(consumer.main())
