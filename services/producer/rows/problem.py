"""What is wrong with a record, or with a cell of it."""

from services.runtime.redact import head, redact


class Problem(Exception):
    """A record or a cell can't be used; the message says why.

    `kind` is the same for all that are wrong in the same way, so that they can be counted. `field` is that of
    the event, where one is at fault.
    """

    def __init__(self, message: str, kind: str = "", field: str = "") -> None:
        super().__init__(message)
        self.kind = kind or message
        self.field = field


def shown(text: object, most: int = 80) -> str:
    """Give a foreign text for a message: ASCII, and without secrets, and no longer than a line bears."""
    return ascii(redact(text))[:most] if isinstance(text, str) else head(ascii(text), most)
