"""Times as sources write them, as the stream has them: Unix seconds in UTC, in decimal text.

Nothing is rounded: digits are moved, and what is finer than a microsecond is kept of numbers. The time zones
are those of the system, or of the package tzdata.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Context, Decimal
from typing import Final

from services.producer.mapping.mapped import ORDERS, TS_UNITS, Times
from services.producer.mapping.zones import OFFSET, zone_of
from services.producer.rows.problem import Problem, shown

_PLAIN: Final = re.compile(r"[0-9]{1,20}")
_WHOLE: Final = re.compile(r"[1-9][0-9]{0,19}")
_DECIMALS: Final = re.compile(r"([1-9][0-9]{0,11})\.([0-9]{1,20})")
_NUMBER: Final = re.compile(r"\+?([0-9]{1,30}(?:[.,][0-9]{0,60})?|[.,][0-9]{1,60})(?:[eE]([+-]?[0-9]{1,2}))?")
_WORD: Final = re.compile(r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*", re.IGNORECASE)
_WEEKDAY: Final = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*[.,]* +", re.IGNORECASE)
_ZONE_BEHIND: Final = re.compile(r"(?<=[0-9Zz])\[!?([A-Za-z_/+\-0-9]{1,32})\]\Z")
"""As Java writes it behind an offset, which says all; without an offset it is the time's own (RFC 9557)."""
_DAY_AND_OFFSET: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})([Zz]|\+[0-9]{2}:?[0-9]{2})")
"""A day of XML Schema. It may have an offset, which is no clock."""
_PART_OF_A_CLOCK: Final = re.compile(r".{8,10}[T ][0-9]{2}(?::?[0-9]{2})?[.,][0-9]+[^.:]*", re.IGNORECASE)
"""12.5 and 12:30.5. For Python that is a part of a second, in ISO 8601 one of the hour or the minute."""
_NO_MARCH: Final = "marras"
"""Begins November in Finnish."""
_ABBREVIATION: Final = re.compile(r"[0-9] ?([A-Z]{3,5})\Z")
_UTC_WORD: Final = re.compile(r" ?(?:UTC|GMT|Z|z)\Z")
_LATEST: Final = 7_258_118_400
"""Unix seconds of the year 2200: a number beyond is of another unit."""
_LONGEST: Final = 64
"""Characters of a time."""
_LONGEST_DAY: Final = 16
"""Characters of a day with an offset."""
_FIRST_DAY: Final = 25_569
_LAST_DAY: Final = 73_051
"""1970 and 2100 in a spreadsheet, which counts the days since 1899-12-30."""
_DIGITS: Final = 20
"""Decimals that the stream's numbers may have."""
_EXACT: Final = Context(prec=400)
"""No number that is read here has more digits."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS: Final = {name: number for number, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
)}  # fmt: skip
_CLOCK: Final = (
    # 12.5 and 12:30.5 have a part of an hour or of a minute, and no minute 5 or second 5.
    r"(?:(?:[ T]+|, *|(?<=[0-9]{4}):)(?![0-9]{1,2}:[0-9]{1,2}\.)(?P<hour>[0-9]{1,2})"
    r"(?:(?!\.[0-9](?![0-9.:]))[:. h](?P<minute>[0-9]{1,2})"
    r"(?:[:. ](?P<second>[0-9]{1,2})(?:[.,](?P<fraction>[0-9]{1,9})[0-9]*)?)?)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?)?(?P<offset> ?(?:Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?"
)
_YEAR: Final = r"(?P<year>[0-9]{4}|[0-9]{2})"
_MONTH: Final = r"(?P<month>[0-9]{1,2}|[A-Za-z]{3,9}\.?)"
_DAY: Final = r"(?P<day>[0-9]{1,2})"
_BETWEEN: Final = r"(?:[./\-]|\. |, | )"
_PATTERNS: Final = {
    order: re.compile(
        _BETWEEN.join({"year": _YEAR, "month": _MONTH, "day": _DAY}[part] for part in order.split("-"))
        + _CLOCK
    )
    for order in ORDERS
}


class TimeReader:
    """Reads the times of one source."""

    def __init__(self, times: Times) -> None:
        self.twice = 0
        """How many local times were in an hour that comes twice, and had to be decided."""
        self._times = times
        self._zone = zone_of(times.zone)
        self._is_utc = self._zone is UTC
        self._places = TS_UNITS.get(times.format, 0)
        self._read = self._reader(times.format)

    def seconds(self, text: str) -> str:
        """Write a time as Unix seconds. Raises Problem."""
        try:
            return self._read(text.strip())
        except Problem as problem:
            problem.field = "ts"
            raise

    def takes_seconds(self, first: int) -> bool:
        """Tell whether every number of seconds from one on, as the stream has it, is taken as it is."""
        return self._times.format in {"auto", "s"} and self._times.earliest <= first

    def _reader(self, form: str) -> Callable[[str], str]:
        if form == "auto" or form in TS_UNITS:
            return self._auto
        if form in ORDERS:
            return lambda text: self._unix(self._ordered(text, _PATTERNS[form], form), text)
        return self._by_pattern

    def _auto(self, text: str) -> str:
        if (usual := self._usual(text)) is not None:
            return usual
        if _PLAIN.fullmatch(text):
            if not self._places and self._times.earliest <= int(text) < _LATEST:
                return text
            # A day or a moment without marks, such as 20240310: as seconds it would be one of 1970.
            if self._times.format == "auto" and len(text) in {8, 12, 14} and text[:2] in {"19", "20"}:
                return self._iso(text if len(text) == 8 else f"{text[:8]}T{text[8:]}")
        if (number := _NUMBER.fullmatch(text)) is not None:
            return self._number(text, number[1].replace(",", "."), int(number[2] or 0))
        return self._iso(text)

    def _usual(self, text: str) -> str | None:
        """Move the digits of an ordinary number: seconds with decimals, or a whole number of the unit."""
        if self._places:
            if not (_WHOLE.fullmatch(text) and len(text) > self._places):
                return None
            whole, fraction = text[: -self._places], text[-self._places :].rstrip("0")
        else:
            found = _DECIMALS.fullmatch(text)
            if found is None:
                return None
            whole, fraction = found[1], found[2]
        if not self._times.earliest <= int(whole) < _LATEST:
            return None
        return f"{whole}.{fraction}" if fraction else whole

    def _number(self, text: str, digits: str, exponent: int) -> str:
        value = _EXACT.scaleb(Decimal(digits), exponent)
        seconds = _EXACT.scaleb(value, -self._places)
        unit = next(unit for unit, places in TS_UNITS.items() if places == self._places)
        if not self._times.earliest <= seconds < _LATEST:
            fits = [
                one
                for one, places in TS_UNITS.items()
                if self._times.earliest <= _EXACT.scaleb(value, -places) < _LATEST and one != unit
            ]
            hint = f"; it looks like {fits[0]} (--ts-unit {fits[0]})" if fits else ""
            if not fits and not self._places and _FIRST_DAY <= value < _LAST_DAY:
                hint = "; it looks like a spreadsheet's days: have it write dates (yyyy-mm-dd hh:mm:ss)"
            raise Problem(
                f"time {shown(text)} in {unit} is {_side(seconds)} what is believable{hint}",
                "time not believable",
            )
        whole, _, fraction = format(seconds, "f").partition(".")
        fraction = fraction[:_DIGITS]
        if self._places or exponent:
            fraction = fraction.rstrip("0")
        return f"{whole}.{fraction}" if fraction else whole

    def _iso(self, text: str) -> str:
        plain = text if len(text) <= _LONGEST else ""  # digits without end would pass for a fraction
        zone = _ZONE_BEHIND.search(plain)
        plain = _UTC_WORD.sub("Z", plain[: zone.start()] if zone else plain)
        plain = _DAY_AND_OFFSET.sub(r"\1T00:00\2", plain) if len(plain) <= _LONGEST_DAY else plain
        has_part = ("." in plain or "," in plain) and _PART_OF_A_CLOCK.fullmatch(plain) is not None
        try:
            moment = datetime.fromisoformat("" if has_part else plain)
        except ValueError:
            text = _WEEKDAY.sub("", text, count=1) if _WEEKDAY.match(text) else text
            # A month that is a word is in no wrong place.
            order = "year-month-day"
            if _WORD.search(text):
                order = "day-month-year" if text[0].isdigit() and not text[:3].isdigit() else "month-day-year"
            moment = self._ordered(text, _PATTERNS[order], "")
        return self._unix(moment, text, zone[1] if zone else "")

    def _ordered(self, text: str, pattern: re.Pattern[str], order: str) -> datetime:
        found = pattern.fullmatch(text)
        zone = None if found or order else _ABBREVIATION.search(text)
        if zone is not None:
            raise Problem(
                f"{shown(text)}: {zone[1]} means several time zones; write it into a pattern, and name one "
                f"(--time-format '%Y-%m-%d %H:%M:%S {zone[1]}' --time-zone Europe/Berlin)",
                "time not read",
            )
        if found is None or (not order and len(found["year"]) == 2 and found["month"].isdigit()):
            # Which of three numbers is the year, nobody knows.
            raise Problem(
                f"{shown(text)} is no time in the order {order}"
                if order
                else f"{shown(text)} is neither ISO 8601 nor a number of seconds; say how times are written "
                "(--time-format day-month-year, and others)",
                "time not read",
            )
        year = int(found["year"])
        if len(found["year"]) == 2:
            year += 1900 if year >= 69 else 2000
        month = found["month"]
        hour, second = int(found["hour"] or 0), int(found["second"] or 0)
        if found["half"]:
            if not 1 <= hour <= 12:
                raise Problem(f"{shown(text)}: an hour of AM and PM is 1 to 12", "time not read")
            hour = hour % 12 + (12 if found["half"] in "Pp" else 0)
        # The midnight that ends a day, and a leap second, are the moment behind them.
        ends_day = hour == 24 and not int(found["minute"] or 0) and not second
        is_leap = second == 60
        try:
            moment = datetime(
                year,
                int(month) if month.isdigit() else _month(month.lower()),
                int(found["day"]),
                0 if ends_day else hour,
                int(found["minute"] or 0),
                59 if is_leap else second,
                int((found["fraction"] or "").ljust(6, "0")[:6]),
                _offset(found["offset"]),
            )
            return moment + timedelta(days=ends_day, seconds=is_leap)
        except (ValueError, OverflowError, KeyError):
            raise Problem(f"{shown(text)}: there is no such day or time", "time not read") from None

    def _by_pattern(self, text: str) -> str:
        try:
            moment = datetime.strptime(text, self._times.format)  # noqa: DTZ007 - its zone comes below
        except ValueError:
            raise Problem(
                f"{shown(text)} is no time by {shown(self._times.format)}", "time not read"
            ) from None
        return self._unix(moment, text)

    def _unix(self, moment: datetime, text: str, own_zone: str = "") -> str:
        if moment.tzinfo is None:
            is_utc = self._is_utc and not own_zone
            moment = moment.replace(tzinfo=UTC) if is_utc else self._local(moment, text, own_zone)
        try:
            since = moment - _EPOCH
        except OverflowError:
            raise Problem(f"{shown(text)}: there is no such day or time", "time not read") from None
        seconds = since.days * 86_400 + since.seconds
        if not self._times.earliest <= seconds < _LATEST:
            raise Problem(f"time {shown(text)} is {_side(seconds)} what is believable", "time not believable")
        if not since.microseconds:
            return str(seconds)
        return f"{seconds}.{since.microseconds:06}".rstrip("0")

    def _local(self, moment: datetime, text: str, own_zone: str) -> datetime:
        """Give a local time its zone: it may have been twice, or never."""
        name = own_zone or self._times.zone
        try:
            first = moment.replace(tzinfo=zone_of(own_zone) if own_zone else self._zone)
        except ValueError as error:
            raise Problem(f"{shown(text)}: {error}", "time not read") from None
        second = first.replace(fold=1)
        before, after = first.utcoffset(), second.utcoffset()
        if before == after or before is None or after is None:
            return first
        if before < after:
            raise Problem(
                f"{shown(text)} was never in {name}: clocks were set forward (does the logger "
                "keep standard time? --time-zone +01:00)",
                "time that never was",
            )
        if self._times.twice == "refuse":
            raise Problem(f"{shown(text)} was twice in {name}", "time that was twice")
        self.twice += 1
        return second if self._times.twice == "later" else first


def _month(word: str) -> int:
    """Give the number of a month by its name. Raises KeyError."""
    if word.startswith(_NO_MARCH):
        raise KeyError(word)
    return _MONTHS[word[:3]]


def _side(seconds: float | Decimal) -> str:
    return "beyond" if seconds > 0 and seconds >= _LATEST else "before"


def _offset(text: str | None) -> tzinfo | None:
    if not text:
        return None
    found = OFFSET.fullmatch(text.strip())
    if found is None:
        return UTC
    delta = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    return timezone(-delta if found[1] == "-" else delta)
