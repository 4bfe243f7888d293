"""What recorded audits have met, where the server does not answer as one would like."""

from collections.abc import Mapping
from typing import Any, cast

import pytest
import redis

from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.operating.met import keep_met, read_met
from services.contract.operating import Met

KEYS = StreamKeys()


class FakeServer:
    """Holds the hash of what was met; fails at a command when told to."""

    def __init__(self, kept: Mapping[bytes, bytes], error: str = "", at: str = "hgetall") -> None:
        self.kept = dict(kept)
        self.errors = {at: error} if error else {}

    def _fail_at(self, command: str) -> None:
        if command in self.errors:
            raise redis.ResponseError(self.errors[command])

    def hgetall(self, _key: str) -> Mapping[bytes, bytes]:
        self._fail_at("hgetall")
        return dict(self.kept)

    def hset(self, _key: str, mapping: Mapping[str, str]) -> None:
        self._fail_at("hset")
        self.kept |= {name.encode(): value.encode() for name, value in mapping.items()}


def _client(server: FakeServer) -> redis.Redis:
    return cast("redis.Redis", server)


@pytest.mark.parametrize("error", ["NOPERM no permissions to run 'hgetall'", "WRONGTYPE it is a text"])
def test_what_can_t_be_read_was_never_met(error: str) -> None:
    """A user of an earlier version has no right to it, and a key of somebody else tells nothing."""
    assert read_met(_client(FakeServer({}, error)), KEYS) == {}


@pytest.mark.parametrize("at", ["hgetall", "hset"])
def test_no_other_error_passes_for_nothing(at: str) -> None:
    """A server that can't answer now may have met a run's events: to go on would forget them."""
    server = FakeServer({b"a": b"5 0"}, "MASTERDOWN link with the master is down", at)
    with pytest.raises(redis.ResponseError, match="MASTERDOWN"):
        keep_met(_client(server), KEYS, {"a": Met(7, 0)})
    assert server.kept == {b"a": b"5 0"}


def test_what_is_kept_only_grows() -> None:
    """Each of the two numbers by itself; other runs stay, and without a right it is said so."""
    server: Any = FakeServer({b"a": b"5 3", b"b": b"1 0"})
    assert keep_met(_client(server), KEYS, {"a": Met(4, 6), "c": Met()})
    assert read_met(_client(server), KEYS) == {"a": Met(5, 6), "b": Met(1, 0)}
    server.errors = {"hset": "NOPERM no permissions to run 'hset'"}
    assert not keep_met(_client(server), KEYS, {"a": Met(9, 9)})
    assert keep_met(_client(server), KEYS, {"a": Met(5, 6)}), "nothing is new, so no right is needed"


@pytest.mark.parametrize("text", [b"%d 0" % (1 << 36), b"9223372036854775807 0"])
def test_a_number_that_no_run_can_have_was_not_met(text: bytes) -> None:
    """Each of the numbers below it would be missing."""
    assert read_met(_client(FakeServer({b"a": text})), KEYS) == {"a": Met()}
