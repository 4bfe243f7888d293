"""InfluxDB line protocol, by the grammar of its own documentation."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.producer.rows.influx import lines_of, parse_line
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


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", [(1, b"")]),
        (b"m v=1\n\nm v=2\r\n", [(1, b"m v=1"), (2, b""), (3, b"m v=2\r"), (4, b"")]),
        (
            b'log,host=a text="up\nhost,host=b v=1\n"\nm v=2',
            [(1, b'log,host=a text="up\nhost,host=b v=1\n"'), (4, b"m v=2")],
        ),
        (b'm s="\\"\n",v=1,t="\n\\\\" 5\nm v=2', [(1, b'm s="\\"\n",v=1,t="\n\\\\" 5'), (4, b"m v=2")]),
        (b'# it says ="\nm v="1\n', [(1, b'# it says ="'), (2, b'm v="1'), (3, b"")]),
        (b'm,t="a v=1\nm,t="b v=2\nm v=a"\n"m v=3', [
            (1, b'm,t="a v=1'), (2, b'm,t="b v=2'), (3, b'm v=a"'), (4, b'"m v=3'),
        ]),
        (b'm\\ ="x,t=\\\nm v=1\\\nm s="\\', [(1, b'm\\ ="x,t=\\'), (2, b"m v=1\\"), (3, b'm s="\\')]),
    ],
)  # fmt: skip
def test_a_text_may_have_line_breaks_in_it(data: bytes, lines: list[tuple[int, bytes]]) -> None:
    """What stands behind one is no line. Quotes of a tag, or without their end, join nothing."""
    assert list(lines_of(data)) == lines


@given(st.text(alphabet='m,=\\ "v1\n#', max_size=60))
def test_no_byte_is_in_two_lines_or_in_none(text: str) -> None:
    """And each has the number of the line where it begins."""
    found = list(lines_of(text.encode()))
    assert b"\n".join(line for _, line in found) == text.encode()
    begins = [1]
    for _, line in found:
        begins.append(begins[-1] + line.count(b"\n") + 1)
    assert [number for number, _ in found] == begins[:-1]
    if '"' not in text:
        assert len(found) == text.count("\n") + 1


@pytest.mark.parametrize("one", [b'm v="', b'm,="', b'="\\"', b'm v="\\\n', b'" ', b'#\n"', b'm v=""'])
def test_no_text_takes_long_to_part(one: bytes) -> None:
    """However often it stands there: each byte is looked at a few times at most."""
    assert sum(len(line) for _, line in lines_of(one * 300_000)) > 0
