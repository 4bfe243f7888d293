"""Which broker it is: chosen by the scheme of BROKER_URL, here and nowhere else."""

from importlib import import_module
from typing import Any, Final

from services.brokers.sides import ConsumerSide, ProducerSide, ProducerTools, Tools
from services.runtime.address import read_address
from services.runtime.settings import ConsumerSettings, ProducerSettings, Settings

_ROOMS: Final = dict.fromkeys(("redis", "rediss", "valkey", "valkeys", "unix"), "services.brokers.redis")
"""The room of each scheme. It is imported when it is chosen: one client library is, and no more."""


def consumer_side(settings: ConsumerSettings, tools: Tools) -> ConsumerSide:
    """Give what a consumer needs of the broker; nothing is sent yet. Raises SettingsInvalid."""
    side: ConsumerSide = _of(settings, "consumer_side").open_side(settings, tools)
    return side


def producer_side(settings: ProducerSettings, tools: ProducerTools) -> ProducerSide:
    """Give what a producer needs of the broker; nothing is sent yet. Raises SettingsInvalid."""
    side: ProducerSide = _of(settings, "producer_side").open_side(settings, tools)
    return side


def _of(settings: Settings, name: str) -> Any:
    # Where the address is wrong, whoever connects says so.
    return import_module(f"{_ROOMS[read_address(settings)[0].scheme]}.{name}")
