"""A database with nothing in it is no place to go on in: what was acknowledged before lies somewhere else.

Whoever names PostgreSQL before `telemetry copy` has filled it would store what comes next there, and all that
was stored before would be missing. So it is looked at before the first entry is taken.
"""

import math
from collections.abc import Callable
from typing import Final

from services.contract.codec import MARK
from services.contract.errors import SinkWrong
from services.runtime.settings import ConsumerSettings
from services.stores.choice import open_letter_store
from services.stores.doors import Store

_MARK: Final = MARK.decode()


def refuse_blank(settings: ConsumerSettings, store: Store, settled: Callable[[], int]) -> None:
    """Refuse a store in which nothing was ever kept, where the group has acknowledged entries.

    `settled` tells how many, as the broker does. Raises SinkWrong, SinkUnavailable and what `settled` raises.
    """
    if settings.fresh or not store.is_blank():
        return
    number = settled()
    # Again, behind it: another replica may have begun meanwhile, and stores before it acknowledges.
    if number <= 0 or not store.is_blank():
        return
    if settings.letters_in == "file" and number <= _letters(settings):
        return
    raise SinkWrong(
        f"{store.place} has nothing of this pipeline, and the group {settings.group_name} has acknowledged "
        f"entries of {settings.stream_name} before: bring what is stored with `telemetry copy --to` from the "
        "store that has it, or set FRESH=true where data may begin anew",
        "blank",
    )


def _letters(settings: ConsumerSettings) -> float:
    """Count the entries that have left dead letters, or notes of purged ones, beside the store."""
    letters = open_letter_store(settings)
    try:
        # Of an entry of many events each may have a letter, and one that came again may have two.
        kept = (one.entry_id for some in (letters.read(), letters.purged()) for one in some)
        number = len({entry_id.partition(_MARK)[0] for entry_id in kept})
    except OSError:  # whoever writes to it says what is wrong
        return math.inf
    return math.inf if letters.damages.number else number
