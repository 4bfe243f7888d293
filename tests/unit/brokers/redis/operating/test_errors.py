"""What Redis raises is said in one line, wherever it is raised."""

from collections.abc import Iterator

import pytest
import redis

from services.brokers.redis.operating.errors import each_explained, explained
from services.contract.errors import BrokerFull, BrokerUnavailable
from services.runtime.settings import ConsumerSettings

SETTINGS = ConsumerSettings()


@pytest.mark.parametrize(
    ("error", "told", "kind"),
    [
        (redis.ConnectionError("refused"), "can't be reached: refused", "ConnectionError"),
        (redis.exceptions.BusyLoadingError("LOADING it"), "says: LOADING it", "BusyLoadingError"),
        (redis.AuthenticationError("WRONGPASS"), "refuses the password or user", "AuthenticationError"),
        (redis.ResponseError("EXECABORT discarded"), "says: EXECABORT discarded", "execabort"),
    ],
)
def test_an_error_says_what_to_change(error: redis.RedisError, told: str, kind: str) -> None:
    """With the server's name before it, and a bounded name of its own."""
    with (
        pytest.raises(BrokerUnavailable, match=f"^Redis at localhost:6379 {told}") as raised,
        explained(SETTINGS),
    ):
        raise error
    assert raised.value.kind == kind
    assert raised.value.__cause__ is error


def test_a_full_server_is_told_apart() -> None:
    """It can be read all the same."""
    with (
        pytest.raises(BrokerFull, match="Redis at localhost:6379 says: command not allowed"),
        explained(SETTINGS),
    ):
        raise redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")


def test_what_breaks_off_while_it_is_read_is_told_as_well() -> None:
    """After what came before it."""

    def entries() -> Iterator[int]:
        yield 1
        raise redis.TimeoutError("timed out")

    read = each_explained(SETTINGS, entries())
    assert next(read) == 1
    with pytest.raises(BrokerUnavailable, match="does not answer: timed out"):
        next(read)


def test_another_error_is_left_as_it_is() -> None:
    """A bug keeps its traceback."""
    with pytest.raises(ValueError, match="a bug"), explained(SETTINGS):
        raise ValueError("a bug")
