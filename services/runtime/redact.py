"""Secrets are taken out of whatever is logged: texts of others' errors hold what they were given.

Three ways, since none finds all: what a URL has before its `@`, what follows a name such as `password=`, and
every secret that this process knows (`know`), wherever it stands.
"""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

HIDDEN: Final = "***"
_SHORTEST: Final = 4
"""Characters. A shorter secret stands in other words by chance, and protects nothing."""
_MOST_KNOWN: Final = 16
"""Secrets that are remembered: a password that is rotated every hour is not kept for ever."""

# Our own hint of how to write an address is none.
_USER_INFO: Final = re.compile(r"\b([a-z][a-z0-9+.-]*://)(?!user:password@)[^\s\"'<>]*@", re.IGNORECASE)
_NAMES: Final = (
    r"[\w-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|authorization|requirepass|masterauth)"
)
_NAMED: Final = re.compile(
    rf"(?<![\w-])({_NAMES}[\"']?\s*[=:]\s*(?:(?:basic|bearer)\s+)?)(\"[^\"]*\"|'[^']*'|[^\s,;&)}}\]]+)",
    re.IGNORECASE,
)
_NAME: Final = re.compile(rf"{_NAMES}", re.IGNORECASE)

_known: Final[dict[str, None]] = {}


def know(secret: str) -> None:
    """Have a secret hidden in every line from now on, as it is and as it stands in a URL."""
    for form in (secret, quote(secret, safe=""), unquote(secret)):
        if len(form) >= _SHORTEST:
            _known.pop(form, None)
            _known[form] = None
    while len(_known) > _MOST_KNOWN:
        del _known[next(iter(_known))]


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Tell whether a field of this name holds a secret."""
    return _NAME.fullmatch(name) is not None


def redact(text: str) -> str:
    """Give the text without its secrets."""
    for secret in tuple(_known):
        if secret in text:
            text = text.replace(secret, HIDDEN)
    if "@" in text:
        text = _USER_INFO.sub(rf"\1{HIDDEN}@", text)
    if "=" in text or ":" in text:
        text = _NAMED.sub(rf"\1{HIDDEN}", text)
    return text
