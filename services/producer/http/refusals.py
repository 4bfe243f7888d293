"""Why a whole request is not taken."""

from typing import Final

AWAY_RETRY_S: Final = 5
"""Seconds after which a client may try again where the broker is away."""
FULL_RETRY_S: Final = 2
"""Where the stream is full."""


class TurnedAway(Exception):
    """A request of which nothing is published, as far as is known; the message is for whoever sent it.

    `field` is what is at fault, for the metric. `closes`: the body was not read to its end, so the connection
    can't be used for another request.
    """

    def __init__(self, status: int, message: str, *, field: str = "", retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.retry_after_s = retry_after_s
        self.closes = False
