"""Publish what comes in by a door, until asked to stop."""

import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Protocol

from services.contract.errors import Stopping
from services.producer.loop import Loop
from services.producer.pace import Pacer
from services.producer.taking.desk import MOST_TOGETHER, Desk, Offering
from services.producer.wiring import Parts, finish
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.settings import ProducerSettings
from services.runtime.telemetry.metrics import Metrics


class Door(Protocol):
    """What lets them in, in threads of its own, and leaves what they bring at its desk."""

    desk: Desk
    most_events: int
    """Of one bundle."""
    waits: bool
    """For room in a full stream. Otherwise who brings something hears that there is none."""

    def open(self) -> None:
        """Let them in."""
        ...

    def turn(self) -> None:
        """Look after it. Raises RuntimeError where it has failed."""
        ...

    def stop(self) -> None:
        """Let nobody in any more. What is in hand is still published, so the desk needs its loop."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether something may still come to the desk, since it was stopped."""
        ...

    def close(self) -> None:
        """End it; what is not published is given back."""
        ...


Build = Callable[[ProducerSettings, Clock, Health, Metrics, logging.Logger], Door]


def take_in(parts: Parts, source: str, build: Build) -> int:
    """Publish until asked to stop; then what has begun is still published. Gives the exit code.

    `source` names the runs. Raises SettingsInvalid, BrokerRefuses, and Stopping before anybody was let in.
    """
    door = build(parts.told.settings, parts.clock, parts.health, parts.metrics, parts.logger)
    with contextlib.closing(door):
        open_new = functools.partial(parts.side.open_run, source)
        publisher = Offering(parts.side.publisher(open_new()), door.desk, waits=door.waits)
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
        door.open()
        parts.health.started()
        run = publisher.run
        parts.logger.info("producer_started", extra={"run": run.name, "source": run.source})
        loop.run()
        parts.in_hand.ending()
        door.stop()
        with contextlib.suppress(Stopping):  # what nobody confirmed is given back
            while door.is_open:
                parts.health.turn()
                loop.publish_next()
        publisher.end()
    finish(parts, publisher.run.name, loop.totals)
    return 0
