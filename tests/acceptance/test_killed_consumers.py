"""kill -9 of consumers, at every step of a batch and at random: nothing lost, nothing doubled."""

import random
import signal
import time
from pathlib import Path

import pytest
from acceptance.killed_at import POINTS
from acceptance.rig import CROWDED, PATIENCE_S, Process, Rig
from servers import eventually

from services.brokers.redis.server.entry_ids import id_parts

STORM_S = 12.0
LEAST_KILLS = 6
"""However slow the machine is."""
REPLICAS = 4


def _die_at(rig: Rig, point: str, count: int) -> None:
    """Let a consumer die at a point, and look at what it has left behind."""
    doomed = rig.doomed_consumer(point, count, "consumer-1")
    assert doomed.wait() == -signal.SIGKILL, doomed.text
    rig.assert_law()
    assert not rig.is_drained(), "it died after its work, so this proves nothing"
    if rig.settings.database.exists():
        rig.assert_integrity()


@pytest.mark.parametrize("point", POINTS)
def test_a_consumer_killed_at_any_point_is_finished_by_its_successor(rig: Rig, point: str) -> None:
    """A consumer started under the dead one's name settles what that one had in hand, and the rest."""
    rig.publisher(seed=1).mix(200).send()
    _die_at(rig, point, 2)
    successor = rig.consumer("consumer-1")
    rig.drain(successor)
    successor.stop()
    rig.assert_complete()


@pytest.mark.parametrize("point", POINTS)
def test_a_consumer_killed_at_any_point_is_taken_over_by_another(rig: Rig, point: str) -> None:
    """A consumer of another name claims what the dead one had in hand, once that has lain idle.

    Entries of one event and of many: of those that it had in hand, some events are settled, and some are not.
    """
    rig.publisher(seed=2).mix(200).send(packs=[1, 7, 1, 12])
    _die_at(rig, point, 2 if point == "after_read" else 3)  # one read is of several batches
    other = rig.consumer("consumer-2")
    rig.drain(other)
    other.stop()
    rig.assert_complete()
    assert other.lines("entries_claimed")


@pytest.mark.parametrize(
    "point",
    [
        "before_write",
        *(
            pytest.param(one, marks=pytest.mark.storm)
            for one in ("after_read", "after_commit", "after_dead_letters", "with_batch_asked_ahead")
        ),
    ],
)
def test_a_consumer_frozen_past_its_claim_does_nothing_twice(rig: Rig, point: str) -> None:
    """Stopped (SIGSTOP) with a batch in hand, and gone on when another has settled it: no row is doubled."""
    rig.publisher(seed=4).mix(200).send()
    frozen = rig.doomed_consumer(point, 2, "consumer-1", number="SIGSTOP")
    eventually(lambda: _is_frozen(frozen), PATIENCE_S, "it is frozen")
    held = rig.pending("consumer-1")
    assert held
    other = rig.consumer("consumer-2")
    rig.drain(other)
    assert other.lines("entries_claimed")
    rows = rig.count()
    frozen.signal(signal.SIGCONT)
    frozen.stop()
    other.stop()
    assert rig.count() == rows
    rig.assert_complete()


def _is_frozen(one: Process) -> bool:
    assert one.exit_code is None, one.text
    return Path(f"/proc/{one.pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1][0] == "T"


def test_two_consumers_of_one_name_lose_nothing(rig: Rig) -> None:
    """Each takes the other's entries for its own pending ones, and cuts make both look for those again."""
    publisher = rig.publisher(seed=5)
    twins = [rig.consumer("twin", **CROWDED, MAX_DELIVERIES="1000", SLEEP_INTERVAL="0.5") for _ in range(2)]
    for _ in range(10):
        before = rig.count()
        publisher.mix(200).send()
        rig.wait_for_rows(before + 1)
        rig.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        rig.assert_law()

    def both_are_told() -> bool:
        # Each looks now and then, and sees what the other has in hand: so that there always is something.
        if rig.last_delivered() >= id_parts(rig.published[-1].entry_id):
            publisher.mix(200).send()
        return all(_is_told(one) for one in twins)

    eventually(both_are_told, 90, "both are told")
    rig.drain(*twins)
    for one in twins:
        one.stop()
    rig.assert_complete()


def test_a_consumer_is_told_of_an_idle_one_of_its_name(rig: Rig) -> None:
    """Nothing is published: the server hears from the other one while this one waits for its read."""
    waits_long, waits_short = (rig.consumer("twin", SLEEP_INTERVAL=wait) for wait in ("1", "0.05"))
    eventually(lambda: _is_told(waits_long), 90, "it is told")
    for one in (waits_long, waits_short):
        one.stop()


def _is_told(one: Process) -> bool:
    """Tell whether a consumer has heard that another one has its name."""
    assert one.exit_code is None, one.text
    return any("CONSUMER_NAME" in line["hint"] for line in one.lines("consumer_name_twice"))


def test_a_consumer_that_is_restarted_under_its_name_is_alone(rig: Rig) -> None:
    """Killed with a batch in hand, under load, and when nothing comes: nobody else has that name."""
    publisher = rig.publisher(seed=6).mix(300)
    publisher.send()
    rig.doomed_consumer("after_commit", 3, "consumer-1").wait()
    again = rig.consumer("consumer-1", SLEEP_INTERVAL="0.5")
    ends = time.monotonic() + 14  # it looks every five seconds
    while time.monotonic() < ends - 7:
        publisher.mix(100).send()
        rig.drain(again)
    time.sleep(max(0.0, ends - time.monotonic()))
    again.stop()
    assert again.lines("consumer_name_twice") == []
    rig.assert_complete()


def test_each_replica_killed_at_another_point_loses_nothing(rig: Rig) -> None:
    """Replicas that die one after the other, each elsewhere in its batch, leave a whole for the last."""
    rig.publisher(seed=3).mix(600).send()
    doomed = [
        rig.doomed_consumer(point, 1 + number % 3, f"consumer-{number}")
        for number, point in enumerate(POINTS[:4])
    ]
    for one in doomed:
        one.wait()
    rig.assert_law()
    last = rig.consumer("consumer-last")
    rig.drain(last)
    last.stop()
    rig.assert_complete()


@pytest.mark.parametrize("seed", [20_260_101])
def test_replicas_killed_at_random_under_load_lose_nothing(rig: Rig, seed: int) -> None:
    """Four replicas on one file, one of them killed every moment, settle everything once."""
    chance = random.Random(seed)
    publisher = rig.publisher(seed)
    # An innocent may be in the hands of one that is killed often; here that is no poison.
    settings = {"MAX_DELIVERIES": "1000", "BATCH_SIZE": "100", **CROWDED}

    def replica(number: int) -> Process:
        return rig.consumer(f"consumer-{number}", **settings)

    replicas = [replica(number) for number in range(REPLICAS)]
    kills = 0
    ends = time.monotonic() + STORM_S
    while time.monotonic() < ends or kills < LEAST_KILLS:
        before = rig.count()
        publisher.mix(chance.randrange(500, 1500)).send()
        rig.wait_for_rows(min(before + chance.randrange(1, 500), _valid(rig)))
        victim = chance.randrange(REPLICAS)
        replicas[victim].kill()
        kills += 1
        rig.assert_law()
        replicas[victim] = replica(victim)
    rig.drain(*replicas)
    for one in replicas:
        one.stop()
    result = rig.assert_complete()
    print(f"seed {seed}: {kills} kills, {result.line()}")


def _valid(rig: Rig) -> int:
    return len({one.event_id for one in rig.published if one.event is not None})
