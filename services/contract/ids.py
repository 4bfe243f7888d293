"""Event ids: UUIDv7 with a counter, from which the audit proves that nothing is missing.

    018f3c5e-8a10 - 7abc - 8def - 012 | 00000002a
    milliseconds    `----- run -----'   sequence

RFC 9562, section 5.7 (layout) and 6.2 (a counter in place of randomness). The run is 38 random bits,
drawn by each producer process; the sequence is 36 bits and counts that run's events from 1 without a
gap. As text, everything of a run but its milliseconds and sequence is one constant piece, so a run is
named by that piece. Ids grow with time, which keeps inserts at the right edge of the table's tree.
"""

import functools
import hashlib
import re
import secrets
from collections.abc import Mapping
from decimal import Decimal, DecimalException
from typing import Final, NamedTuple

MAX_SEQUENCE: Final = (1 << 36) - 1
RUN_BITS: Final = 38
ID_BYTES: Final = 16
"""How an id is kept that a run published and did not number: a replayed file's own."""
_MAX_MS: Final = (1 << 48) - 1

CANONICAL: Final = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_MOST_LOW: Final = (1 << 62) - 1
_AS_IT_IS: Final = re.compile(r"[1-9](?:[0-9]{0,11}(?:\.[0-9]{0,11})?[1-9])?")
"""An ordinary number that is written as shortly as it can be."""
_SHORT: Final = 40
"""Characters of a number that is worth remembering."""
_NUMBERS: Final = frozenset({"ts", "value"})
_NUMBERED: Final = re.compile(
    "[0-9a-f]{8}-[0-9a-f]{4}-(7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{3})([0-9a-f]{9})"
)


class Numbered(NamedTuple):
    """What an id of ours says about itself."""

    run: str
    sequence: int


def run_name(random_bits: int) -> str:
    """Name a run from `RUN_BITS` random bits: the middle of each of its ids.

    Raises ValueError when there are more bits than that.
    """
    if not 0 <= random_bits < 1 << RUN_BITS:
        raise ValueError(f"a run is {RUN_BITS} random bits, got {random_bits:#x}")
    high, middle, low = random_bits >> 26, random_bits >> 12 & 0x3FFF, random_bits & 0xFFF
    return f"7{high:03x}-{0x8000 | middle:04x}-{low:03x}"


def draw_name() -> str:
    """Draw the name of a run."""
    while True:
        name = run_name(secrets.randbits(RUN_BITS))
        # With a letter in it, upper case always spoils an id: the generator counts on that.
        if name != name.upper():
            return name


def event_id(run: str, sequence: int, now_ms: int) -> str:
    """Make the id of event number `sequence` of `run`, made at `now_ms` (Unix, milliseconds)."""
    time = f"{now_ms:012x}"
    return f"{time[:8]}-{time[8:]}-{run}{sequence:09x}"


def derived_id(ts: str, content: Mapping[str, str]) -> str:
    """Make the id of an event from its own content: the same reading has the same one everywhere.

    A UUIDv8: 48 bits of milliseconds of its time `ts` (Unix seconds, decimal text), then 74 bits of a hash
    over `content`, names and texts. Numbers count by their value: 21.5 is 21.50. Times before 1970 are 1970.
    """
    texts = {
        name: _as_hashed(content[name]) if name in _NUMBERS else content[name] for name in sorted(content)
    }
    # Each part behind its length in bytes; where all is ASCII, one text is made bytes faster than ten.
    joined = "".join([f"{_HEADS.get(name) or _head(name)}{len(text)}:{text}" for name, text in texts.items()])
    if joined.isascii():
        data = joined.encode()
    else:
        parts = [part.encode("utf-8", "surrogatepass") for pair in texts.items() for part in pair]
        data = b"".join([b"%d:%s" % (len(part), part) for part in parts])
    return _derived(ts, data)[0]


def content_id(device_id: str, zone: str, ts: str, kpi: str, value: str) -> tuple[str, bytes]:
    """Make the id of an event of these fields alone, as `derived_id` does, and give its bytes too."""
    when, number = _as_hashed(ts), _as_hashed(value)
    data = (
        f"9:device_id{len(device_id)}:{device_id}3:kpi{len(kpi)}:{kpi}2:ts{len(when)}:{when}"
        f"5:value{len(number)}:{number}4:zone{len(zone)}:{zone}"
    )
    if data.isascii():
        return _derived(ts, data.encode())
    made = derived_id(ts, {"device_id": device_id, "zone": zone, "ts": ts, "kpi": kpi, "value": value})
    return made, bytes.fromhex(made.replace("-", ""))


def text_of(raw: bytes) -> str:
    """Write the 16 bytes of an id as canonical text."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _derived(ts: str, data: bytes) -> tuple[str, bytes]:
    bits = int.from_bytes(hashlib.blake2b(data, digest_size=ID_BYTES).digest()[:10]) >> 6
    low = bits & _MOST_LOW | 1 << 63
    made = (_moment(ts) << 80 | 8 << 76 | (bits >> 62) << 64 | low).to_bytes(ID_BYTES)
    return text_of(made), made


def _by_value(text: str) -> str:
    """Write a number so that equal ones are the same text."""
    if _AS_IT_IS.fullmatch(text):
        return text
    try:
        return str(Decimal(text).normalize() + 0)
    except DecimalException:
        return text


_again = functools.lru_cache(4096)(_by_value)
"""Readings have few values, and a batch has few times."""


def _as_hashed(text: str) -> str:
    return _again(text) if len(text) <= _SHORT else _by_value(text)


def _head(name: str) -> str:
    return f"{len(name)}:{name}"


_HEADS: Final = {name: _head(name) for name in ("device_id", "zone", "ts", "kpi", "value", "attributes")}


@functools.lru_cache(64)
def _moment(ts: str) -> int:
    return min(max(0, int(Decimal(ts) * 1000)), _MAX_MS)


def numbered(text: str) -> Numbered | None:
    """Read run and sequence from a version 7 id; None for every other id.

    Foreign ids of version 7 look the same: only the list of runs at the broker tells ours from theirs.
    """
    match = _NUMBERED.fullmatch(text)
    return Numbered(match[1], int(match[2], 16)) if match else None


def id_pattern(run: str, sequence: int) -> str:
    """Name an event whose milliseconds are not known, with `*` in their place."""
    return f"*-{run}{sequence:09x}"


def id_from(now_ms: int) -> str:
    """Give the first id that an event of this time can have, Unix milliseconds."""
    time = f"{min(max(0, now_ms), _MAX_MS):012x}"
    return f"{time[:8]}-{time[8:]}-0000-0000-000000000000"


def time_of(text: str) -> int:
    """Read the milliseconds that an id in canonical text begins with, whether it means a time or not."""
    return int(text[:8] + text[9:13], 16)
