"""Time zones by name, from the system or the package tzdata, and by offset."""

import re
from datetime import UTC, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

OFFSET: Final = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})?")


def zone_of(name: str) -> tzinfo:
    """Find a time zone: an IANA name, or an offset such as +01:00. Raises ValueError."""
    if name.upper() in {"UTC", "Z", "GMT"}:
        return UTC
    if offset := OFFSET.fullmatch(name):
        sign = -1 if offset[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0)))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name}: no such time zone; write a name such as Europe/Berlin, or +01:00"
        ) from None
