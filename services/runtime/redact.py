"""Secrets are taken out of whatever is logged or shown: texts of others' errors hold what they were given.

Three ways, since none finds all: what an address has before its `@`, what follows a name such as
`password=`, and every secret that this process knows (`know`), wherever it stands. Each takes time in
proportion to the text, whatever is in it: who sends us texts may not choose how long we look at them.
"""

import json
import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus, unquote

HIDDEN: Final = "***"
_SHORTEST: Final = 4
"""Characters. A shorter secret stands in other words by chance, and protects nothing."""
_MOST_KNOWN: Final = 32
"""Forms of secrets that are remembered: a password that is rotated every hour is not kept for ever."""
_LONGEST_NAME: Final = 200
"""Characters of a field's name that are looked at, from its end."""

_HINT: Final = "user:password"
"""Our own hint of how to write an address is no secret."""
_WORD: Final = re.compile(r"[^\s\"'<>]+")
# Possessive quantifiers (*+, ++) never go back: what they have passed over is looked at once.
_NAMES: Final = (
    r"[\w-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|authorization|requirepass|masterauth)"
)
_NAMED: Final = re.compile(
    rf"(?<![\w-])({_NAMES}[\"']?\s*+[=:]\s*+(?:(?:basic|bearer)\s++)?)"
    r"(\"(?:[^\"\\]|\\.)*+\"?|'(?:[^'\\]|\\.)*+'?|[^\s,;&)}\]]+)",
    re.IGNORECASE | re.DOTALL,
)
_PARTS: Final = ("pass", "secret", "token", "key", "auth")
"""Of the names. To look for these first takes a fiftieth of the time where there is none, as mostly."""
_NAME: Final = re.compile(_NAMES, re.IGNORECASE)

_known: Final[dict[str, None]] = {}


def know(secret: str) -> None:
    """Have a secret hidden in every line from now on: as it is, and as URLs, JSON and Python write it."""
    written = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    for form in (secret, quote(secret, safe=""), quote_plus(secret), unquote(secret), *written):
        if len(form) >= _SHORTEST:
            _known.pop(form, None)
            _known[form] = None
    while len(_known) > _MOST_KNOWN:
        del _known[next(iter(_known))]


def is_secret(name: str) -> bool:
    """Tell whether a field of this name holds a secret."""
    return _is_secret(name[-_LONGEST_NAME:])


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def redact(text: str) -> str:
    """Give the text without its secrets."""
    # The longest first: one may be the beginning of another.
    for secret in sorted((one for one in tuple(_known) if one in text), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if "@" in text:
        text = _WORD.sub(_without_user, text)
    if ("=" in text or ":" in text) and _may_name(text.casefold()):
        text = _NAMED.sub(rf"\1{HIDDEN}", text)
    return text


def shortened(text: str, most: int) -> str:
    """Give the text without its secrets, at most so many characters of it.

    A text is cut behind that: half an address is none any more, so its password would be shown.
    """
    told = redact(text)
    return told if len(told) <= most else f"{told[: most - 1]}…"


def head(text: str, most: int) -> str:
    """Give the beginning of a text without its secrets, for a message that quotes it."""
    return redact(text)[:most]


def _may_name(folded: str) -> bool:
    return any(part in folded for part in _PARTS)


def _without_user(found: re.Match[str]) -> str:
    """Hide what an address has before its last `@`: after its scheme, or else after the first colon."""
    word = found[0]
    at = word.rfind("@")
    scheme = word.find("://", 0, max(at, 0))
    begins = scheme + len("://") if scheme >= 0 else word.find(":", 0, max(at, 0)) + 1
    if begins == 0 or word[begins:at] == _HINT:
        return word
    return f"{word[:begins]}{HIDDEN}{word[at:]}"
