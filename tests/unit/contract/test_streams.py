"""The Redis keys."""

from services.contract.streams import StreamKeys


def test_the_names_are_the_documented_ones() -> None:
    """Stream and group have the names that other tools expect."""
    keys = StreamKeys()
    assert (keys.stream, keys.group, keys.dead_letters) == (
        "telemetry_stream",
        "telemetry_consumers",
        "telemetry_stream:dlq",
    )


def test_what_is_written_with_an_event_lives_in_its_slot() -> None:
    """Every key of the audit carries the stream's name as its hash tag."""
    keys = StreamKeys("sensors")
    for key in (keys.runs, keys.run("7abc"), keys.run_ids("7abc"), keys.replay("file.csv")):
        assert key.startswith("{sensors}:")
    assert len({keys.runs, keys.run("a"), keys.run("b"), keys.run_ids("a"), keys.replay("a")}) == 5
