"""Messages that are received and not acknowledged, in the order in which they came. Pure.

MQTT wants acknowledgements in that order, and those of one connection on that connection. What a broken
connection leaves is held on: the broker sends it again under the same number, and it is not taken twice.
"""

from collections import deque
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(slots=True, eq=False)
class Message:
    """A message in hand."""

    number: int
    """Its packet identifier: until it is acknowledged, no other message of the session has it."""
    digest: bytes
    size: int
    """Of its topic and payload, in bytes."""
    is_in_stream: bool = False


def digest_of(topic: str, payload: bytes) -> bytes:
    """Give what tells a message from another one of the same number."""
    digest = blake2b(topic.encode(errors="replace"), digest_size=16)
    digest.update(b"\0")
    digest.update(payload)
    return digest.digest()


class Shelf:
    """The messages of a session. For one thread at a time."""

    def __init__(self) -> None:
        self._order: deque[Message] = deque()
        self._of_before: dict[int, Message] = {}

    def __len__(self) -> int:
        """Count those that this connection can acknowledge, and has not."""
        return len(self._order)

    def put(self, message: Message, *, is_repeated: bool) -> Message:
        """Put a message on it; gives the one that is held already, where the broker sends it again."""
        before = self._of_before.pop(message.number, None)
        if is_repeated and before is not None and before.digest == message.digest:
            message = before
        self._order.append(message)
        return message

    def take_due(self) -> list[int]:
        """Take down all that can be acknowledged now, and give their numbers in order."""
        due = []
        while self._order and self._order[0].is_in_stream:
            due.append(self._order.popleft().number)
        return due

    def interrupt(self) -> None:
        """Hear that the connection is gone."""
        self._of_before |= {one.number: one for one in self._order}
        self._order.clear()

    def forget(self) -> None:
        """Hear that the broker has no session of ours, and numbers from the beginning."""
        self._of_before.clear()
