"""Whose clock is wrong: the device's, the server's, or ours.

An event that is in the future by our clock is a dead letter, since a device's clock is ahead. But where ours
is behind, every new event is in the future. The id of its entry tells: the server gives it, by its own clock.

    the server's id    the event's ts      whose clock is wrong
    now                future              the device's: a dead letter
    future             now                 the server's, or an id that somebody has planted: nothing is amiss
    future             near the id         ours, if more of the batch say so than say that it is now

One odd id or device stops nobody so. Where the server and most of a batch agree against us, we are wrong.
Whoever plants an id may plant an event of the same time with it. So an id beyond what the server itself says
that it is counts as of now by the server's clock.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from services.contract.consuming.doors import Dead, Entry
from services.contract.errors import ClockBehind

_LEAST_NEAR_S: Final = 60.0
"""How near two clocks are to agree, at least: events take a moment from their device to the server."""


def check_clock(
    entries: Sequence[Entry],
    invalid: Iterable[Dead],
    now: float,
    max_future_s: float,
    server_now: Callable[[], float | None],
) -> None:
    """Raise ClockBehind where our clock is; times in Unix seconds.

    `invalid`: what was found invalid of these entries. Costs nothing while none of it is in the future.
    `server_now` is asked where ids are; None: nobody can tell. Raises also what that raises.
    """
    beyond = now + max_future_s
    ahead = [one.entry for one in invalid if one.rejection.reason == "ts_in_future"]
    if not any(entry.taken_at > beyond for entry in ahead):
        return
    told = server_now()
    latest = math.inf if told is None else told
    near_s = max(max_future_s, _LEAST_NEAR_S)
    behind = [
        taken_at - now
        for entry in ahead
        if (taken_at := min(entry.taken_at, latest)) > beyond and abs(_ts(entry) - taken_at) <= near_s
    ]
    on_time = sum(
        1 for entry in entries if min(entry.taken_at, latest) > beyond and abs(_ts(entry) - now) <= near_s
    )
    if len(behind) > on_time:
        raise ClockBehind(max(behind))


def _ts(entry: Entry) -> float:
    """Give an entry's own time, as far as it has one; 0 where it has none."""
    for name, value in zip(entry.fields[::2], entry.fields[1::2], strict=False):
        if name == b"ts":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 0.0
