"""Times: each form is the moment that it says, and one that is not believable is refused."""

import contextlib
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.producer.mapping.mapped import Times
from services.producer.mapping.zones import zone_of
from services.producer.rows.problem import Problem
from services.producer.rows.times import TimeReader

NOON = 1710072000
"""2024-03-10 12:00 UTC."""


@pytest.mark.parametrize(
    ("form", "text", "seconds"),
    [
        ("auto", " 2024-03-10 12:00:00 UTC ", "1710072000"),
        ("auto", "2024-03-10t12:00:00z", "1710072000"),
        ("auto", "2024-3-10 12:00:00", "1710072000"),
        ("auto", "2024/03/10 12:00", "1710072000"),
        ("auto", "10-Mar-2024 12:00:00", "1710072000"),
        ("auto", "Mar 10, 2024, 12:00 PM", "1710072000"),
        ("auto", "Sun, 10 Mar 2024 12:00:00 GMT", "1710072000"),
        ("auto", "Sunday 10-Mar-24 12:00:00", "1710072000"),
        ("auto", "10/Mar/2024:12:00:00 +0000", "1710072000"),
        ("auto", "2024-03-10T13:00:00+01:00[Europe/Berlin]", "1710072000"),
        ("auto", "2024-03-10T12:00Z[UTC]", "1710072000"),
        ("auto", "2024-07-10T12:00[Europe/Berlin]", "1720605600"),
        ("auto", "2024-07-10T12:00Z[!Europe/Berlin]", "1720612800"),
        ("auto", "2024-03-10+01:00", "1710025200"),
        ("auto", "2024-03-10Z", "1710028800"),
        ("auto", "2024-03-10 12.30", "1710073800"),
        ("auto", "2024-03-10 9.5.7", "1710061507"),
        ("auto", "20240310T120000,25", "1710072000.25"),
        ("auto", "10 mars 2024", "1710028800"),
        ("auto", "20240310", "1710028800"),
        ("auto", "20240310120000", "1710072000"),
        ("auto", "202403101200", "1710072000"),
        ("auto", "20240310T120000Z", "1710072000"),
        ("auto", "2024-03-09T24:00:00", "1710028800"),
        ("auto", "2016-12-31T23:59:60Z", "1483228800"),
        ("auto", "2024-03-10T12:00:00,5Z", "1710072000.5"),
        ("auto", "1710072000", "1710072000"),
        ("auto", "1.710072E9", "1710072000"),
        ("auto", "+1710072000.50", "1710072000.50"),
        ("auto", "1710072000,5", "1710072000.5"),
        ("ms", "1.7100720005e12", "1710072000.5"),
        ("us", "1710072000000001", "1710072000.000001"),
        ("day-month-year", "10.03.2024 12:00:00", "1710072000"),
        ("day-month-year", "10/3/24 12.00.00", "1710072000"),
        ("day-month-year", "10. 03. 2024", "1710028800"),
        ("day-month-year", "10-Mar-2024 12:00 +02:00", "1710064800"),
        ("month-day-year", "03/10/2024 12:00:00 PM", "1710072000"),
        ("month-day-year", "3/10/2024 12:00 am", "1710028800"),
        ("year-month-day", "2024 3 10 12 0", "1710072000"),
        ("year-month-day", "2024 3 10 12", "1710072000"),
        ("year-month-day", "24-03-10 12:00", "1710072000"),
        ("%d%b%y %H%M", "10Mar24 1200", "1710072000"),
    ],
)
def test_every_form_is_the_moment_that_it_says(form: str, text: str, seconds: str) -> None:
    """With the digits that it has."""
    assert TimeReader(Times(format=form)).seconds(text) == seconds


@pytest.mark.parametrize(
    ("form", "text", "why"),
    [
        ("auto", "1710072000123", "it looks like ms"),
        ("ms", "1710072000", "it looks like s"),
        ("auto", "2010", "before what is believable"),
        ("auto", "45361.5", "before what is believable; it looks like a spreadsheet's days"),
        ("auto", "2024-03-10 12.5", "neither"),
        ("auto", "2024-03-10 12,5", "neither"),
        ("auto", "2024-03-10 12:30.5", "neither"),
        ("auto", "20240310T1230.5Z", "neither"),
        ("day-month-year", "10.03.2024 12.5", "no time in the order"),
        ("day-month-year", "10.03.2024 12:30.5", "no time in the order"),
        ("auto", "10 marraskuu 2024", "no such day"),
        ("auto", "2024-07-10T12:00[Europe/Berlino]", "no such time zone"),
        ("auto", "2024-03-31T02:30[Europe/Berlin]", "never in Europe/Berlin"),
        ("auto", "0", "before"),
        ("auto", "10.03.2024 13:00", "--time-format day-month-year"),
        ("auto", "10.03.24 13:00", "--time-format day-month-year"),
        ("auto", "24-03-10", "--time-format day-month-year"),
        ("auto", "Sun, 10.03.24", "--time-format day-month-year"),
        ("auto", "2024-03-10 12:00:00 CET", r"CET means several.*--time-format '%Y-%m-%d %H:%M:%S CET'"),
        ("auto", "", "neither"),
        ("auto", "1" * 10_000, "neither"),
        ("auto", "1e99", "beyond"),
        ("auto", "99991231T235959-2359", "beyond"),
        ("day-month-year", "31.02.2024", "no such day"),
        ("day-month-year", "03/13/2024", "no such day"),
        ("month-day-year", "13/03/2024", "no such day"),
        ("month-day-year", "3/10/2024 13:00 PM", "1 to 12"),
        ("day-month-year", "10-Foo-2024", "no such day"),
        ("year-month-day", "2024-03-10 25:00", "no such day"),
        ("%d.%m.%Y", "2024-03-10", "no time by"),
    ],
)
def test_what_is_no_believable_time_is_refused(form: str, text: str, why: str) -> None:
    """With a reason that names what would help."""
    with pytest.raises(Problem, match=why):
        TimeReader(Times(format=form)).seconds(text)


def test_local_times_are_moved_by_their_zone_in_summer_and_winter() -> None:
    """An offset in the text is the nearer one."""
    reader = TimeReader(Times(zone="Europe/Berlin"))
    assert reader.seconds("2024-01-10 13:00") == "1704888000"
    assert reader.seconds("2024-07-10 14:00") == "1720612800"
    assert reader.seconds("2024-07-10 12:00Z") == "1720612800"
    assert reader.seconds("2024-07-10T08:00[America/New_York]") == "1720612800"
    assert reader.seconds("2024-07-10Z") == "1720569600"
    assert TimeReader(Times(zone="+01:00")).seconds("2024-07-10 13:00") == "1720612800"
    assert reader.twice == 0


def test_the_hour_that_never_was_is_refused_and_the_one_that_was_twice_is_counted() -> None:
    """The two odd hours of the year."""
    with pytest.raises(Problem, match="never in Europe/Berlin"):
        TimeReader(Times(zone="Europe/Berlin")).seconds("2024-03-31 02:30")
    found = {}
    for twice in ("earlier", "later"):
        reader = TimeReader(Times(zone="Europe/Berlin", twice=twice))
        found[twice] = int(reader.seconds("2024-10-27 02:30"))
        assert reader.twice == 1
    assert found["later"] - found["earlier"] == 3600
    with pytest.raises(Problem, match="twice"):
        TimeReader(Times(zone="Europe/Berlin", twice="refuse")).seconds("2024-10-27 02:30")


@given(seconds=st.integers(63_072_000, 7_000_000_000))
def test_a_local_time_is_the_moment_that_was_written(seconds: int) -> None:
    """But for the hour that was twice, which is counted."""
    local = datetime.fromtimestamp(seconds, ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
    reader = TimeReader(Times(zone="Europe/Berlin"))
    found = int(reader.seconds(local.isoformat()))
    assert found == seconds or (reader.twice == 1 and found == seconds - 3600)


def test_an_unknown_zone_is_an_error() -> None:
    """It names what would be one."""
    with pytest.raises(ValueError, match="Europe/Berlin, or"):
        zone_of("../etc/passwd")


@given(st.text(max_size=40) | st.text(alphabet="0123456789-:. TZ+eE,/", max_size=40))
def test_no_text_crashes_it(text: str) -> None:
    """Each is a time or a refusal."""
    for form in ("auto", "ms", "day-month-year", "%Y-%m-%d"):
        with contextlib.suppress(Problem):
            assert 0 < float(TimeReader(Times(format=form)).seconds(text)) < 8e9
