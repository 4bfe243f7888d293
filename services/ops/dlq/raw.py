"""`telemetry dlq show --raw`: all of an entry that was too large to be read, from where the server keeps it.

It is read and written piece by piece, so it takes little memory here, whatever the size. Nothing of it is
written as it is: bytes become base64.
"""

import base64
import json
from collections.abc import Iterable, Iterator

from services.brokers.operating.side import OperatorSide
from services.contract.operating import LetterStore
from services.ops.dlq.letters import newest_of
from services.ops.failures import CommandFailed


def raw_json(broker: OperatorSide, letters: LetterStore, entry_id: str) -> Iterator[str]:
    """Give an entry as one JSON document, in parts: names and values as base64.

    Raises CommandFailed where it is not kept, EntryDamaged where not all of it is, and BrokerUnavailable.
    """
    if (parts := broker.large_entry(entry_id)) is not None:
        yield from _document(entry_id, parts)
        return
    letter = newest_of(letters, entry_id)
    if letter is None:
        raise CommandFailed(f"no dead letter of entry {entry_id!r}")
    if letter.letter.truncated:
        raise CommandFailed(
            f"entry {entry_id} is kept no more, or never was: the server lacked the memory, the consumer the "
            f"right, or later ones needed the room in {broker.large_place}. "
            f"telemetry dlq show {entry_id} has its beginning"
        )
    yield from _document(entry_id, ([part] for part in letter.letter.fields))


def _document(entry_id: str, parts: Iterable[Iterable[bytes]]) -> Iterator[str]:
    yield f'{{"entry_id": {json.dumps(entry_id)}, "fields": ['
    for number, part in enumerate(parts):
        yield "[" if number == 0 else ", [" if number % 2 == 0 else ", "
        yield '{"base64": "'
        carry = b""
        for some in part:
            carry += some
            whole = len(carry) - len(carry) % 3
            yield base64.b64encode(carry[:whole]).decode()
            carry = carry[whole:]
        yield base64.b64encode(carry).decode()
        yield '"}]' if number % 2 else '"}'
    yield "]}"
