"""What sources write: numbers, names of KPIs and units, as the contract has them."""

import tracemalloc
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import KPIS

from services.contract.codec import DECIMAL
from services.contract.kpis import parse_kpis
from services.producer.spellings import NumberStyle, Spellings, Unclear, number_text, split, unit_of

SPELLINGS = Spellings(KPIS)
GERMAN = NumberStyle(",", ".")
OWN = Spellings(
    parse_kpis('[pm2_5]\nunit = "µg/m³"\nmin = 0\nmax = 999\nthreshold = 50\naliases = ["PM2.5"]')
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("21.5", "21.5"), ("007.50", "007.50"), ("-3.2", "-3.2"), ("1e1", "1e1"), ("2.15E+01", "2.15E+01"),
        ("+21.5", "21.5"), (".5", "0.5"), ("5.", "5"), ("-.5", "-0.5"), ("+.5e-3", "0.5e-3"),
        ("-0.0", "0.0"), ("-0", "0"), ("-.0", "0.0"), ("\u22123", "-3"),
        (" 21.5", "21.5"), ("21.5\t", "21.5"), ("\u00a021.5\u00a0", "21.5"),
        ("22.100000000000001421085471520200371742", "22.1"),
        ("0" * 30 + "7", "7"), ("1" * 25, repr(float("1" * 25))),
    ],
)  # fmt: skip
def test_ordinary_spellings_are_numbers(text: str, expected: str) -> None:
    """Written as decimal text of the contract, and what is that already is left alone."""
    assert number_text(text) == expected
    assert DECIMAL.fullmatch(expected)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-", "+", ".", "+-1", "1 2", "21,5", "1,021.3", "1 021.3", "NaN", "inf", "null", "NA",
        "true", "on", "0x15", "1_0", "٣", "5e", "1e", "e5", "1e1000", "1" * 1_000_000, " " * 1_000_000,
        "9" * 400,        "1.2.3", "21.5 oops", "12\n3", "-0.0.0",
    ],
)  # fmt: skip
def test_what_is_no_number_is_none(text: str) -> None:
    """Whatever it looks like, and however long it is."""
    assert number_text(text) is None


@pytest.mark.parametrize(
    ("text", "style", "expected"),
    [
        ("21,5", GERMAN, "21.5"), ("1.021,3", GERMAN, "1021.3"), ("-1.234.567,8", GERMAN, "-1234567.8"),
        ("1.021", GERMAN, "1021"),
        ("21.5", GERMAN, None), ("1.02", GERMAN, None), ("1.0212", GERMAN, None), ("10", GERMAN, "10"),
        ("21,5", NumberStyle(","), "21.5"), ("1.021", NumberStyle(","), None),
        ("1 021.3", NumberStyle(".", " "), "1021.3"), ("1\u202f021", NumberStyle(".", " "), "1021"),
        ("1,021.3", NumberStyle(".", ","), "1021.3"), ("1,02", NumberStyle(".", ","), None),
        ("1\u2019021", NumberStyle(".", "'"), "1021"),
    ],
)  # fmt: skip
def test_marks_are_those_that_are_named(text: str, style: NumberStyle, expected: str | None) -> None:
    """A mark in another place than it can stand makes it no number."""
    assert number_text(text, style) == expected


@pytest.mark.parametrize(
    ("decimal", "thousands"), [(";", ""), (".", "."), (",", ","), (".", "0"), (".", "-")]
)
def test_marks_that_cant_be_told_apart_are_refused(decimal: str, thousands: str) -> None:
    """Before anything is read by them."""
    with pytest.raises(ValueError, match="mark"):
        NumberStyle(decimal, thousands)


@given(
    st.text(max_size=40)
    | st.from_regex(r"\s*[+-]?[0-9.,]{0,30}([eE][+-]?[0-9]{1,4})?[ °a-zA-Z]{0,5}", fullmatch=True)
)
def test_whatever_is_given_is_decimal_text_or_none(text: str) -> None:
    """And the number that Python reads, where it reads one of ASCII digits."""
    number, _ = split(text)
    assert number is None or DECIMAL.fullmatch(number)
    plain = number_text(text)
    if plain is not None:
        assert float(plain) == float(text.strip().replace("\u2212", "-"))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_a_number(value: float) -> None:
    """The same one."""
    text = number_text(repr(value))
    assert text is not None
    assert float(text) == value


def test_kpis_are_found_by_any_spelling() -> None:
    """Case and blanks make no difference; the name of nothing is none."""
    for name in ("temperature", "Temperature", " temperature", "TEMP", "te mp"):
        assert SPELLINGS.kpi(name) is KPIS["temperature"]
    assert [SPELLINGS.kpi(name) for name in ("temperatur", "", "luminosity", "temp_")] == [None] * 4
    assert OWN.kpi("pm2.5") is OWN.kpi("PM 2.5") is OWN.kpi("pm2_5") is not None


@pytest.mark.parametrize(
    ("kpi", "value", "unit", "expected"),
    [
        ("temp", "212", "°F", ("temperature", "100.0")),
        ("temp", "71.6", "degF", ("temperature", "22.0")),
        ("temp", "10", "\u2109", ("temperature", "-12.222222222222221")),
        ("Temperature", "71.6 °F", "", ("temperature", "22.0")),
        ("temperature", "71.6 ºF", "°C", ("temperature", "22.0")),
        ("temperature", "293.15", "K", ("temperature", "20.0")),
        ("temperature", "21.4 °C", "", ("temperature", "21.4")),
        ("temperature", "21.4", "\u2103", ("temperature", "21.4")),
        ("temperature", "21.4", "deg C", ("temperature", "21.4")),
        ("pressure", "101325", "Pa", ("pressure", "1013.25")),
        ("pressure", "1013.25", "mbar", ("pressure", "1013.25")),
        ("pressure", "101.325", " kPa ", ("pressure", "1013.25")),
        ("humidity", "40%", "", ("humidity", "40")),
        ("temperature", "21.4 oops", "", ("temperature", "21.4 oops")),
        ("temperature", "nan", "°F", ("temperature", "nan")),
        ("luminosity", "+21.4", "lx", ("luminosity", "21.4")),
        ("luminosity", "21.4 lx", "", ("luminosity", "21.4 lx")),
        ("temperature", "1e999", "°F", ("temperature", "1e999")),
    ],
)
def test_a_reading_is_in_the_kpis_own_unit(
    kpi: str, value: str, unit: str, expected: tuple[str, str]
) -> None:
    """Converted exactly and rounded once; what is no KPI or no number is left for the consumer to refuse."""
    assert SPELLINGS.reading(kpi, value, unit) == expected


@given(st.decimals(-500, 500, places=3), st.sampled_from(["°F", "K"]))
def test_a_conversion_is_rounded_once(value: object, unit: str) -> None:
    """To the float that is nearest to the exact result."""
    conversion = unit_of(KPIS["temperature"], unit)
    assert conversion is not None
    _, text = SPELLINGS.reading("temperature", str(value), unit)
    assert float(text) == float(Fraction(str(value)) * conversion.scale + conversion.offset)


def test_a_unit_that_nobody_knows_is_refused() -> None:
    """With those that are accepted: its number would be stored as what it isn't."""
    with pytest.raises(Unclear, match=r"unit 'R' is none of temperature, which has °C, °F, .*KPIS_FILE"):
        SPELLINGS.reading("temp", "530", "R")
    with pytest.raises(Unclear, match="unit 'kPA'"):
        SPELLINGS.reading("pressure", "101", "kPA")


def test_a_point_is_no_decimal_comma() -> None:
    """What is no number with the marks of the file may be one in the stream, and another one."""
    with pytest.raises(Unclear, match="decimal mark is ,"):
        SPELLINGS.reading("temp", "21.5", style=GERMAN)
    assert SPELLINGS.reading("temp", "1.021", style=GERMAN) == ("temperature", "1021")
    assert SPELLINGS.reading("temp", "oops", style=GERMAN) == ("temperature", "oops")


def test_many_names_take_no_memory() -> None:
    """A column may have another name in each line."""
    own = Spellings(KPIS)
    for number in range(20_000):
        assert own.kpi(f"name-{number}") is None
    assert len(own._met) <= 4096


def test_names_that_nobody_has_are_not_remembered_at_any_length() -> None:
    """Whoever sends may write anything there: a thousand bodies of one name each would stay in memory."""
    spellings = Spellings(KPIS)
    tracemalloc.start()
    try:
        for number in range(100):
            assert spellings.kpi(f"{number}{'x' * 1_000_000}") is None
        assert spellings.kpi(f"{' ' * 200}Temperature{' ' * 200}") is spellings.kpi("temperature")
        assert tracemalloc.get_traced_memory()[0] < 5_000_000
    finally:
        tracemalloc.stop()
