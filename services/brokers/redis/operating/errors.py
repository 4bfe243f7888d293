"""Where Redis's errors become the contract's, for a person to read."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import redis

from services.brokers.redis.server.connection import error_kind, explain, lasts
from services.contract.errors import BrokerFull, BrokerUnavailable
from services.runtime.settings import Settings

_Item = TypeVar("_Item")


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turn what Redis raises into BrokerUnavailable, which says what is wrong, and what to change."""
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise BrokerFull(explain(error, settings), error_kind(error)) from error
    except redis.RedisError as error:
        why = explain(error, settings)
        raise BrokerUnavailable(why, error_kind(error), lasts=lasts(error)) from error


def each_explained(settings: Settings, items: Iterable[_Item]) -> Iterator[_Item]:
    """Give what is asked for as it comes, with such errors as `explained` makes."""
    with explained(settings):
        yield from items
