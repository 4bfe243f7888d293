"""What can go wrong with the infrastructure. What is wrong with an event is a Rejection, a value.

ConsumerError
  SourceUnavailable        the stream can't be read or acknowledged now
  SinkUnavailable          the sink takes no writes now: locked, full, away, damaged
  RowsRefused              the sink takes writes, but not these rows
  SinkUnusable             what is in the sink's place can't be used at all
  DeadLettersUnavailable   dead letters can't be written now
  ClockBehind              our clock is behind the server's: nothing can be judged
  BreakerOpen              too many dead letters: somebody has to look
  Stopping                 the process was asked to stop while it waited for one of these
"""


class ConsumerError(Exception):
    """Something outside the events failed."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind or type(self).__name__
        """A bounded name of the failure, for a metric's label."""


class SourceUnavailable(ConsumerError):
    """The stream can't be read or acknowledged now."""


class SinkUnavailable(ConsumerError):
    """The sink takes no writes now; nothing of this write is stored."""


class RowsRefused(ConsumerError):
    """The sink refuses at least one of these rows for what is in it; none of them is stored."""


class SinkUnusable(ConsumerError):
    """What is in the sink's place can't be used, and waiting won't change that."""


class DeadLettersUnavailable(ConsumerError):
    """Dead letters can't be written now; none of these is."""


class ClockBehind(ConsumerError):
    """Our clock is behind the server's and the events', by `seconds`: nothing can be judged."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"our clock is {seconds:.0f} s behind: the server and the events agree on a later time. "
            "Set it right (NTP); nothing is judged meanwhile, and entries stay pending"
        )
        self.seconds = seconds


class BreakerOpen(ConsumerError):
    """Too large a share of the recent entries would become dead letters."""


class Stopping(ConsumerError):
    """The process was asked to stop while it waited; what it held stays pending."""
