"""Run a consumer that observes its group in quick time: `quick_consumer.py SECONDS`, between two looks.

The consumer is the real one. In production it looks every 5 s, 60 times in the shortest window of the rules,
and its lease is 15 s. In a copy of the rules in which 5 minutes are 5 s, both have to be shorter.
"""

import sys
from functools import partial

from services.consumer import __main__ as consumer
from services.consumer import observe

LEASE_S = 3.0
"""Many looks, for a busy machine; and short beside 5 s."""

if __name__ == "__main__":
    observe.LOOK_S = float(sys.argv[1])  # type: ignore[misc]
    consumer.Observer = partial(observe.Observer, lease_s=LEASE_S)  # type: ignore[misc, assignment]
    sys.exit(consumer.main())
