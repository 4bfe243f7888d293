"""Which broker it is: chosen by the scheme of BROKER_URL, here and nowhere else."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from services.runtime.address import read_address
from services.runtime.settings import ConsumerSettings, ProducerSettings, Settings

if TYPE_CHECKING:  # each has its own side alone
    from services.brokers.consuming.side import ConsumerSide
    from services.brokers.operating.side import OperatorSide
    from services.brokers.producing.side import ProducerSide, ProducerTools
    from services.brokers.tools import Tools

_ROOMS: Final = dict.fromkeys(("redis", "rediss", "valkey", "valkeys", "unix"), "services.brokers.redis")
"""The room of each scheme. It is imported when it is chosen: one client library is, and no more."""


def consumer_side(settings: ConsumerSettings, tools: "Tools") -> "ConsumerSide":
    """Give what a consumer needs of the broker; nothing is sent yet. Raises SettingsInvalid."""
    side: ConsumerSide = _of(settings, "consuming.side").open_side(settings, tools)
    return side


def producer_side(settings: ProducerSettings, tools: "ProducerTools") -> "ProducerSide":
    """Give what a producer needs of the broker; nothing is sent yet. Raises SettingsInvalid."""
    side: ProducerSide = _of(settings, "producing.side").open_side(settings, tools)
    return side


def operator_side(settings: ConsumerSettings) -> "OperatorSide":
    """Give what a person's commands need of the broker; nothing is sent yet. Raises SettingsInvalid."""
    side: OperatorSide = _of(settings, "operating.side").open_side(settings)
    return side


def letters_place(settings: ConsumerSettings) -> str:
    """Name where dead letters are at the broker, whether it is there or not."""
    place: str = _of(settings, "keys").keys_of(settings).dead_letters
    return place


def _of(settings: Settings, name: str) -> Any:
    # Where the address is wrong, whoever connects says so.
    return import_module(f"{_ROOMS[read_address(settings)[0].scheme]}.{name}")
