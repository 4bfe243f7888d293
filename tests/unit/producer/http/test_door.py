"""The door as a whole."""

import contextlib
import logging

import pytest
from fakes import FakeClock
from servers import free_port

from services.producer.http.door import Door
from services.runtime.health import Health
from services.runtime.settings import ProducerSettings
from services.runtime.telemetry.metrics import Metrics


def test_a_server_that_ends_by_itself_ends_the_door() -> None:
    """It is not left alive with nobody who answers. One that was asked to end may."""
    clock = FakeClock()
    settings = ProducerSettings(http_host="127.0.0.1", http_port=free_port())
    logger = logging.getLogger("silent")
    with contextlib.closing(
        Door(settings, clock, Health(60, clock.monotonic), Metrics("producer"), logger)
    ) as door:
        with pytest.raises(RuntimeError):  # it was never begun
            door.turn()
        door.stop()
        door.turn()
