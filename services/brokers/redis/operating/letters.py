"""The dead letters of the stream as the commands see them: as they are, with errors for a person."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from services.brokers.redis.consuming.dead_letters import DeadLetterStream
from services.brokers.redis.operating.errors import each_explained, explained
from services.contract.consuming.damage import Damages
from services.contract.consuming.letter import DeadLetter, Purged
from services.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class ExplainedLetters:
    """Dead letters in Redis; raises BrokerUnavailable."""

    stream: DeadLetterStream
    settings: Settings

    @property
    def damages(self) -> Damages:
        """What could not be read so far."""
        return self.stream.damages

    def read(self) -> Iterator[DeadLetter]:
        """Give every letter, the oldest first."""
        return each_explained(self.settings, self.stream.read())

    def replayed(self) -> dict[str, float]:
        """Tell when each replayed letter was replayed (Unix seconds), by entry id."""
        with explained(self.settings):
            return self.stream.replayed()

    def purged(self) -> Iterator[Purged]:
        """Give what is known of each purged letter."""
        return each_explained(self.settings, self.stream.purged())

    def mark_replayed(self, replayed: Sequence[tuple[str, str]]) -> None:
        """Note that letters were published again: entry id of the letter, and of the new entry."""
        with explained(self.settings):
            self.stream.mark_replayed(replayed)

    def purge(self, entry_ids: Collection[str]) -> int:
        """Remove the letters of these entries; gives how many letters went."""
        with explained(self.settings):
            return self.stream.purge(entry_ids)
