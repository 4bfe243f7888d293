"""Publish what is sent by HTTP, until asked to stop."""

import contextlib
import functools

from services.contract.errors import Stopping
from services.producer.http.door import Door
from services.producer.loop import Loop
from services.producer.pace import Pacer
from services.producer.taking.desk import MOST_TOGETHER, Offering
from services.producer.wiring import Parts, finish


def take_in(parts: Parts) -> int:
    """Publish until asked to stop; then what has begun is still answered. Gives the exit code.

    Raises SettingsInvalid, BrokerRefuses, and Stopping before anybody was let in.
    """
    door = Door(parts.told.settings, parts.clock, parts.health, parts.metrics, parts.logger)
    with contextlib.closing(door):
        open_new = functools.partial(parts.side.open_run, "http")
        publisher = Offering(parts.side.publisher(open_new()), door.desk)
        loop = Loop(
            door.desk,
            publisher,
            open_new,
            Pacer(MOST_TOGETHER, 0.0, parts.clock.monotonic),
            parts.clock,
            parts.health,
            parts.logger,
            parts.told.duration_s,
            in_hand=parts.in_hand,
            most_of_a_record=door.most_events,
        )
        door.open()
        parts.health.started()
        run = publisher.run
        parts.logger.info("producer_started", extra={"run": run.name, "source": run.source})
        loop.run()
        parts.in_hand.ending()
        door.stop()
        with contextlib.suppress(Stopping):  # those who wait have heard that nobody confirmed it
            while door.is_open:
                parts.health.turn()
                loop.publish_next()
        publisher.end()
    finish(parts, publisher.run.name, loop.totals)
    return 0
