"""Cells of a line: what csv finds, also where a quicker way is taken."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.producer.mapping.mapped import Layout
from services.producer.rows.problem import Problem
from services.producer.rows.table import ColumnDoubled, cell_cutter, find_column, find_delimiter


@given(
    line=st.text(alphabet="ab,; \t\r\"'é", min_size=1, max_size=20),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_a_line_has_the_cells_that_csv_finds(line: str, delimiter: str) -> None:
    """Or is refused where csv refuses it."""
    whole = csv.reader(
        io.StringIO(line.removesuffix("\r"), newline=""),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=True,
    )
    try:
        expected = list(whole)
    except csv.Error:
        with pytest.raises(Problem):
            cell_cutter(delimiter, '"')(line.encode())
        return
    if len(expected) == 1:
        assert cell_cutter(delimiter, '"')(f"{line}\n".encode()) == expected[0]


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("a,b", ","), ("a;b;c", ";"), ("a\tb", "\t"), ("a|b", "|"), ("a", ","), ('"a,b";c;d', ";"), ("", ",")],
)
def test_a_delimiter_is_found_in_the_header(header: str, delimiter: str) -> None:
    """The one that cuts it into the most cells."""
    assert find_delimiter(header.encode(), Layout()) == delimiter
    assert find_delimiter(header.encode(), Layout(delimiter=":")) == ":"


def test_a_column_is_found_by_name_near_name_or_number() -> None:
    """What is there exactly comes first; what is there twice is no column."""
    header = ["Ts", " value ", "", "note", "note", "#2"]
    assert find_column("ts", header) == 0
    assert find_column("VALUE", header) == 1
    assert find_column("#3", header) == 2
    assert find_column("#2", header) == 5
    assert find_column("#7", header) is None
    assert find_column("other", header) is None
    with pytest.raises(ColumnDoubled, match="#4"):
        find_column("note", header)


def test_blanks_of_any_number_are_one_delimiter() -> None:
    """As tables for people have them."""
    assert cell_cutter("blanks", '"')(b"  1.5\t 2   3 \n") == ["1.5", "2", "3"]
