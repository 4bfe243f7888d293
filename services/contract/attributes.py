"""What else a reading has beside its value: a few short texts by name, such as firmware and status. Pure.

In an entry they are a JSON object. An Event and the stores have it written in one way, its names in order and
without blanks, so that equal attributes are equal texts; one without attributes has None.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

MAX_ATTRIBUTES: Final = 16
MAX_NAME_CHARS: Final = 64
MAX_TEXT_CHARS: Final = 128
MAX_BYTES: Final = 2048
"""Of the object as it is written."""

_NO_CONTROL: Final = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]"
_is_name = re.compile(rf"{_NO_CONTROL}{{1,{MAX_NAME_CHARS}}}").fullmatch
_is_text = re.compile(rf"{_NO_CONTROL}{{0,{MAX_TEXT_CHARS}}}").fullmatch
_write = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


class AttributesInvalid(ValueError):
    """They are none; the message says why, in one short line."""


def write_attributes(texts: Mapping[str, str]) -> str | None:
    """Write attributes in the one way; None for none. Raises AttributesInvalid."""
    return _checked(list(texts.items()))


def read_attributes(text: str) -> str | None:
    """Read the attributes of an entry, and write them in the one way. Raises AttributesInvalid."""
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise AttributesInvalid(f"attributes have more than {MAX_BYTES:,} bytes")
    try:
        found: Any = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise AttributesInvalid("attributes are no JSON") from None
    if not isinstance(found, _Pairs):
        raise AttributesInvalid("attributes are no JSON object of texts")
    return _checked(found)


def attributes_of(written: str | None) -> dict[str, str]:
    """Give attributes by name, from what an Event has of them."""
    return {} if written is None else dict(json.loads(written))


class _Pairs(list[tuple[str, Any]]):
    """An object as it is written: a dict would hide a name that is given twice."""


def _checked(pairs: Sequence[tuple[str, Any]]) -> str | None:
    if len(pairs) > MAX_ATTRIBUTES:
        raise AttributesInvalid(f"{len(pairs)} attributes, more than {MAX_ATTRIBUTES}")
    for name, text in pairs:
        if not isinstance(name, str) or not _is_name(name):
            raise AttributesInvalid(
                f"attribute {name!a:.80}: a name has 1 to {MAX_NAME_CHARS} characters, none of them a "
                "control character"
            )
        if not isinstance(text, str):
            raise AttributesInvalid(f"attribute {name!a:.80} is no text")
        if not _is_text(text):
            raise AttributesInvalid(
                f"attribute {name!a:.80}: a text has at most {MAX_TEXT_CHARS} characters, none of them a "
                "control character"
            )
    texts = dict(pairs)
    if len(texts) < len(pairs):
        raise AttributesInvalid("an attribute is given twice")
    if not texts:
        return None
    written = _write(texts)
    if len(written.encode()) > MAX_BYTES:
        raise AttributesInvalid(f"attributes have more than {MAX_BYTES:,} bytes")
    return written
