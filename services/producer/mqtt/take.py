"""Publish what comes by MQTT, until asked to stop."""

import contextlib
import functools

from services.contract.errors import Stopping
from services.producer.loop import Loop
from services.producer.mqtt.door import Door
from services.producer.pace import Pacer
from services.producer.taking.desk import MOST_TOGETHER, Offering
from services.producer.wiring import Parts, finish


def take_in(parts: Parts) -> int:
    """Publish until asked to stop; then what is in hand is still published. Gives the exit code.

    Raises SettingsInvalid, BrokerRefuses, and Stopping before anything was taken.
    """
    door = Door(parts.told.settings, parts.clock, parts.health, parts.metrics, parts.logger)
    open_new = functools.partial(parts.side.open_run, "mqtt")
    # It waits for room, and for the stream: meanwhile the broker sends no more than may be in flight.
    publisher = Offering(parts.side.publisher(open_new()), door.desk, waits=True)
    loop = Loop(
        door.desk,
        publisher,
        open_new,
        Pacer(MOST_TOGETHER, 0.0, parts.clock.monotonic),
        parts.clock,
        parts.health,
        parts.logger,
        parts.told.duration_s,
        on_batch=door.turn,
        in_hand=parts.in_hand,
        most_of_a_record=door.most_events,
    )
    with contextlib.closing(door):
        door.open()
        parts.health.started()
        run = publisher.run
        parts.logger.info("producer_started", extra={"run": run.name, "source": run.source})
        loop.run()
        parts.in_hand.ending()
        door.stop()
        with contextlib.suppress(Stopping):  # what was not confirmed is not acknowledged, and comes again
            while door.is_open:
                parts.health.turn()
                loop.publish_next()
        publisher.end()
    finish(parts, publisher.run.name, loop.totals)
    return 0
