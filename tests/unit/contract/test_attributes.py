"""Attributes: a few short texts by name, written in one way."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.attributes import (
    MAX_ATTRIBUTES,
    MAX_BYTES,
    AttributesInvalid,
    attributes_of,
    read_attributes,
    write_attributes,
)

names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=10)
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=10)


@given(st.dictionaries(names, texts, max_size=MAX_ATTRIBUTES), st.randoms(), st.booleans())
def test_equal_attributes_are_equal_texts(found: dict[str, str], random: object, is_ascii: bool) -> None:
    """In whatever order, with whatever blanks and escapes they come; and they come back as they are."""
    items = list(found.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    written = write_attributes(found)
    assert attributes_of(written) == found
    as_received = json.dumps(dict(items), ensure_ascii=is_ascii, indent=1)
    if len(as_received.encode()) <= MAX_BYTES:
        assert read_attributes(as_received) == written
    assert (written is None) == (not found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 1500, "no JSON"),
        ("[]", "no JSON object"),
        ('"a"', "no JSON object"),
        ("NaN", "no JSON object"),
        ('{"a": 1}', "'a' is no text"),
        ('{"a": null}', "'a' is no text"),
        ('{"a": {"b": "c"}}', "'a' is no text"),
        ('{"": "b"}', "a name has 1 to 64"),
        (json.dumps({"n" * 65: ""}), "a name has 1 to 64"),
        (json.dumps({"a\n": ""}), "a name has 1 to 64"),
        (json.dumps({"a": "x" * 129}), "at most 128"),
        (json.dumps({"a": "\x00"}), "control character"),
        ('{"a": "\\ud800"}', "control character"),
        ('{"a": "b", "a": "b"}', "given twice"),
        (json.dumps({str(number): "" for number in range(17)}), "17 attributes, more than 16"),
        (
            json.dumps({str(number): "é" * 120 for number in range(16)}, ensure_ascii=False),
            "more than 2,048 bytes",
        ),
        (f'{{"a": "b"}}{" " * MAX_BYTES}', "more than 2,048 bytes"),
        ('{"a": "\ud800"}', "control character"),
    ],
)
def test_what_they_cant_be_is_told(text: str, told: str) -> None:
    """In one short printable line."""
    with pytest.raises(AttributesInvalid, match=told) as caught:
        read_attributes(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


def test_none_is_none() -> None:
    """An object without anything in it is as good as no object."""
    assert (read_attributes("{}"), write_attributes({}), attributes_of(None)) == (None, None, {})


@given(st.text(max_size=60))
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    """Arbitrary text is attributes or AttributesInvalid."""
    try:
        written = read_attributes(text)
    except AttributesInvalid:
        return
    assert written is None or read_attributes(written) == written
