"""InfluxDB line protocol, by the grammar of its own documentation."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.producer.rows.influx import parse_line
from services.producer.rows.problem import Problem


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("m v=1 5", {"measurement": "m", "fields": {"v": "1"}, "time": "5"}),
        ("m v=1i,w=-2.5e3,u=7u", {"measurement": "m", "fields": {"v": "1", "w": "-2.5e3", "u": "7"}}),
        (
            r'wea\,ther\ x,loc\=1=us\ mid,b=c temp=82,s="a, b=\"c\" 5",t=true 14',
            {
                "measurement": "wea,ther x",
                "loc=1": "us mid",
                "b": "c",
                "fields": {"temp": "82"},
                "time": "14",
            },
        ),
        ('m,t=° s="x"', {"measurement": "m", "t": "°", "fields": {}}),
    ],
)
def test_a_line_is_its_tags_its_numbers_and_its_time(line: str, found: dict[str, object]) -> None:
    """With what is escaped as it was meant; texts and truths are no readings."""
    assert parse_line(line.encode() + b"\n") == found


@pytest.mark.parametrize("line", ["", "m", "m v", "m v=", ",t=1 v=1", "m, v=1", "m v=1,"])
def test_what_is_no_line_is_a_problem(line: str) -> None:
    """It says what a line looks like."""
    with pytest.raises(Problem, match="not line protocol"):
        parse_line(line.encode())


@given(st.text(alphabet='m,=\\ "v1', max_size=30))
def test_no_text_crashes_it(line: str) -> None:
    """Each is a line or a refusal."""
    with contextlib.suppress(Problem):
        parse_line(line.encode())
