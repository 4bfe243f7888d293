"""The KPI file and what can be wrong in it."""

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.kpis import Conversion, KpisInvalid, parse_kpis, shipped, with_thresholds

GOOD = '[noise]\nunit = "dB"\nmin = 0\nmax = 140\nthreshold = 85\n'


def test_the_shipped_file_has_the_original_thresholds() -> None:
    """The four KPIs are there with the thresholds that everybody knows."""
    kpis = parse_kpis(shipped())
    thresholds = {name: kpi.threshold for name, kpi in kpis.items()}
    assert thresholds == {"temperature": 80.0, "humidity": 70.0, "pressure": 1050.0, "vibration": 5.0}


def test_a_file_of_ones_own_is_read() -> None:
    """Left out, `typical` is halfway from min to threshold."""
    kpi = parse_kpis(GOOD)["noise"]
    assert (kpi.unit, kpi.min, kpi.max, kpi.threshold, kpi.typical) == ("dB", 0.0, 140.0, 85.0, 42.5)


def test_a_range_may_lie_below_zero() -> None:
    """So may what is typical of it."""
    text = '[rssi]\nunit = "dBm"\nmin = -130\nmax = -10\nthreshold = -60\n'
    kpi = parse_kpis(text)["rssi"]
    assert (kpi.min, kpi.max, kpi.threshold, kpi.typical) == (-130.0, -10.0, -60.0, -95.0)


def test_the_shipped_ranges_begin_at_zero_or_above() -> None:
    """The rule of the original."""
    assert all(kpi.min >= 0 for kpi in parse_kpis(shipped()).values())


def test_units_are_exact() -> None:
    """A number of TOML is the decimal that is written, and a fraction is one."""
    units = parse_kpis(GOOD + 'units = { "°F" = { scale = "5/9" }, K = { offset = -273.15 } }\n')[
        "noise"
    ].units
    assert units == {"°F": Conversion(Fraction(5, 9)), "K": Conversion(offset=Fraction(-27315, 100))}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no KPI in it"),
        ("[noise", "not TOML"),
        ("noise = 1", "write a table"),
        ("[Noise]\n" + GOOD.split("\n", 1)[1], "lower-case"),
        (GOOD + "colour = 1\n", "[noise] colour: unknown key"),
        (GOOD.replace('"dB"', "1"), "[noise] unit"),
        (GOOD.replace("85", '"85"'), "[noise] threshold: write a finite number"),
        (GOOD.replace("85", "nan"), "[noise] threshold: write a finite number"),
        (GOOD.replace("140", "inf"), "[noise] max: write a finite number"),
        (GOOD.replace("140", "true"), "[noise] max: write a finite number"),
        (GOOD.replace("min = 0", "min = -1e308").replace("140", "1e308"), "a finite number"),
        (GOOD + 'aliases = "loud"\n', "[noise] aliases: write a list of texts"),
        (GOOD + 'aliases = [" "]\n', "[noise] aliases: write a list of texts"),
        (
            GOOD + '[b]\nunit = "x"\nmin = 0\nmax = 1\nthreshold = 1\naliases = ["NO ISE"]\n',
            "is [noise] already",
        ),
        (GOOD + "units = 1\n", "[noise] units: write for example"),
        (GOOD + "units = { B = 1 }\n", "[noise] units, B: write for example"),
        (GOOD + "units = { B = { factor = 10 } }\n", "[noise] units, B: write for example"),
        (GOOD + "units = { B = { scale = 0 } }\n", "scale is not 0"),
        (GOOD + 'units = { B = { scale = "5/0" } }\n', "fractions"),
        (GOOD + 'units = { B = { offset = "1e9" } }\n', "fractions"),
        (GOOD + 'units = { "m B" = {}, mB = {} }\n', "[noise] units, mB: given twice"),
        (GOOD.replace("min = 0", "min = 140"), "min is below max"),
        (GOOD.replace("min = 0\n", ""), "[noise] min: write a finite number"),
        (GOOD.replace("140", f"1{'0' * 400}"), "[noise] max: write a finite number"),
        (GOOD.replace("85", f"-1{'0' * 400}"), "[noise] threshold: write a finite number"),
        (GOOD.replace("140", "1e400"), "[noise] max: write a finite number"),
        (GOOD.replace("140", f"0x{'f' * 5000}"), "[noise] max: write a finite number"),
        (GOOD.replace("140", f"1{'0' * 5000}"), "line 4: write a shorter number"),
        (f"{GOOD}a = {'[' * 5000}", "line 6: brackets stand too deep"),
        (f"{GOOD}a = {'{a=' * 2000}", "line 6: brackets stand too deep"),
        (f"{GOOD}a = {'[' * 100_000}", "line 6 is longer than 8,192 characters"),
        (f"{'.'.join('a' * 50_000)} = 1", "line 1 is longer than 8,192 characters"),
        (f'["{"x" * 5000}"]\na = 1', f"[{'x' * 64}…]: a name is"),
        ("[n]\n" + "".join(f"k{number} = 1\n" for number in range(100)), "k15: unknown key"),
    ],
)
def test_an_error_says_what_to_write(text: str, told: str) -> None:
    """Each mistake is named with its table and key."""
    with pytest.raises(KpisInvalid) as caught:
        parse_kpis(text)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 2500


def test_all_errors_come_in_one_message() -> None:
    """Two broken tables are both named, and a good one isn't."""
    text = GOOD + "[a]\nunit = 1\n[b]\nmin = 3\n"
    with pytest.raises(KpisInvalid) as caught:
        parse_kpis(text)
    message = str(caught.value)
    assert "[a] unit" in message
    assert "[b] max" in message
    assert "noise" not in message


@given(st.text(max_size=60))
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    """Arbitrary text is KPIs or KpisInvalid."""
    with contextlib.suppress(KpisInvalid):
        assert parse_kpis(text)


def test_thresholds_are_overridden_by_name() -> None:
    """One is changed, zero included, and the others stay."""
    kpis = with_thresholds(parse_kpis(shipped()), {"humidity": 0.0})
    assert (kpis["humidity"].threshold, kpis["temperature"].threshold) == (0.0, 80.0)


def test_a_threshold_of_no_kpi_is_an_error() -> None:
    """The variable is named, and so are the KPIs that there are."""
    with pytest.raises(KpisInvalid, match="THRESHOLD_NOISE: no such KPI; there are humidity"):
        with_thresholds(parse_kpis(shipped()), {"noise": 1.0})
