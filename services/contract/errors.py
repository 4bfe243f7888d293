"""What can go wrong with the infrastructure. What is wrong with an event is a Rejection, a value.

PipelineError
  BrokerUnavailable        the broker can't be asked now
    SourceUnavailable      the stream can't be read or acknowledged now
    BrokerFull             it has no memory for what we would write
  EntryDamaged             what the broker keeps of an entry is not all of it
  BrokerRefuses            the broker answers, and will never do what we ask
  SinkUnavailable          the sink takes no writes now: locked, full, away, damaged
  RowsRefused              the sink takes writes, but not these rows
  SinkUnusable             what is in the sink's place can't be used at all
    SinkWrong              and the settings are what has to be changed
    SinkAbsent             there is nothing in its place yet
  DeadLettersUnavailable   dead letters can't be written now
  ClockBehind              our clock is behind the server's: nothing can be judged
  BreakerOpen              too many dead letters: somebody has to look
  Stopping                 the process was asked to stop while it waited for one of these
"""


class PipelineError(Exception):
    """Something outside the events failed."""

    def __init__(self, message: str, kind: str = "", *, lasts: bool = False) -> None:
        super().__init__(message)
        self.kind = kind or type(self).__name__
        """A bounded name of the failure, for a metric's label."""
        self.lasts = lasts
        """Whether a person need not wait: only a change ends it. A service waits all the same."""


class BrokerUnavailable(PipelineError):
    """The broker can't be asked now; the message says in one line what is wrong, and what to change."""


class BrokerRefuses(PipelineError):
    """The broker answers, and will never do what we ask; the message says why."""


class SourceUnavailable(BrokerUnavailable):
    """The stream can't be read or acknowledged now."""


class BrokerFull(BrokerUnavailable):
    """The broker has no memory for what we would write; it can be read."""


class EntryDamaged(PipelineError):
    """What the broker keeps of an entry is not all of it, or was written by somebody else."""


class SinkUnavailable(PipelineError):
    """The sink takes no writes now; nothing of this write is stored."""


class RowsRefused(PipelineError):
    """The sink refuses at least one of these rows for what is in it; none of them is stored."""


class SinkUnusable(PipelineError):
    """What is in the sink's place can't be used, and waiting won't change that."""


class SinkWrong(SinkUnusable):
    """The settings lead to what can't be used: somebody has to change them."""


class SinkAbsent(SinkUnusable):
    """No consumer has stored anything here yet; the message says where."""


class DeadLettersUnavailable(PipelineError):
    """Dead letters can't be written now; none of these is."""


class ClockBehind(PipelineError):
    """Our clock is behind the server's and the events', by `seconds`: nothing can be judged."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"our clock is {seconds:.0f} s behind: the server and the events agree on a later time. "
            "Set it right (NTP); nothing is judged meanwhile, and entries stay pending"
        )
        self.seconds = seconds


class BreakerOpen(PipelineError):
    """Too large a share of the recent entries would become dead letters."""


class Stopping(PipelineError):
    """The process was asked to stop while it waited; what it held stays pending."""
