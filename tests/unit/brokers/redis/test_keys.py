"""The Redis keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.brokers.redis.keys import StreamKeys, slot_of

BRACED = [
    "events:{zone1}",
    "{plant}:events",
    "odd}name",
    "{}events",
    "{}{real}",
    "a{b",
    "{open",
    "}{",
    "a{{b}}c",
    "{a}{b}",
    "}",
    "grün}{",
]
"""Names in which braces open, close, or nest."""


def every_key(keys: StreamKeys) -> list[str]:
    """List each kind of key."""
    return [
        keys.stream, keys.dead_letters, f"{keys.dead_letters}:replayed", f"{keys.dead_letters}:purged",
        keys.runs, keys.run("7abc"), keys.run_ids("7abc"), keys.replay("{file}.csv"),
        keys.limit, keys.observer, keys.audit,
    ]  # fmt: skip


def test_the_names_are_the_documented_ones() -> None:
    """Stream and group have the names that other tools expect."""
    keys = StreamKeys()
    assert (keys.stream, keys.group, keys.dead_letters) == (
        "telemetry_stream",
        "telemetry_consumers",
        "{telemetry_stream}:dlq",
    )
    assert (keys.former, keys.former_dead_letters) == (None, "telemetry_stream:dlq")


def test_what_is_written_with_an_event_lives_in_its_slot() -> None:
    """Every key of the audit carries the stream's name as its hash tag."""
    keys = StreamKeys("sensors")
    for key in (keys.runs, keys.run("7abc"), keys.run_ids("7abc"), keys.replay("file.csv")):
        assert key.startswith("{sensors}:")
    assert len(set(every_key(keys))) == len(every_key(keys))


@given(st.text(min_size=1, max_size=12) | st.text("{}ab", min_size=1, max_size=8) | st.sampled_from(BRACED))
def test_all_keys_of_a_stream_share_its_slot(name: str) -> None:
    """Whatever braces its name has; a server says the same (test_cluster.py)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return  # the settings refuse it
    keys = StreamKeys(name)
    assert {slot_of(key) for key in every_key(keys)} == {slot_of(name)}
    assert len(set(every_key(keys))) == len(every_key(keys))


@pytest.mark.parametrize(
    ("name", "prefix", "former"),
    [
        ("events:{zone1}", "events:{zone1}", "{events:{zone1}}"),
        ("{plant}:events", "{plant}:events", "{{plant}:events}"),
        ("a{b", "{a{b}", None),
    ],
)
def test_a_stream_with_braces_keeps_its_own_tag(name: str, prefix: str, former: str | None) -> None:
    """And the names that an earlier version gave are known."""
    keys = StreamKeys(name)
    assert keys.runs == f"{prefix}:runs"
    assert (keys.former.runs if keys.former else None) == (f"{former}:runs" if former else None)
