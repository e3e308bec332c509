"""JSON from outside: read as Python's own reader does, and refused in one line where it harms."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_biqa.io.json_text import parse_json
from lit_biqa.limits import NESTING, NUMBER_DIGITS
from lit_biqa.types import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, st.booleans())
def test_what_python_writes_is_read_alike(value: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only), "here") == value


@given(st.text(alphabet='[]{}",:\\1ae \n', max_size=40))
def test_what_python_reads_is_read_alike_and_all_else_is_one_line(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(InputError, match=r"^here: "):
            parse_json(text, "here")
    else:
        assert parse_json(text, "here") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, f"nested deeper than {NESTING} levels, the limit"),
        ('{"a":' * 100_000, "nested deeper"),
        ("1" * 10_000, f"a number has 10000 digits; the limit is {NUMBER_DIGITS}"),
        ("0." + "1" * 10_000, "a number has 10002 digits"),
        ('{"image": "a", "score": 1, "score": 2}', 'has the field "score" twice'),
        ('[{"a": 1}, {"b": {"c": 1, "c": 1}}]', 'has the field "c" twice'),
        ('{"a": 1', "broken JSON"),
        ('"' + '\\"' * 100_000, "broken JSON"),
    ],
)
def test_what_harms_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_json(text, "some.json line 3")
    assert str(error.value).startswith("some.json line 3: ")
    assert len(str(error.value)) < 300


def test_brackets_within_strings_do_not_nest() -> None:
    text = json.dumps(["[" * 1000, '\\"{[' * 1000])
    assert parse_json(text, "here") == json.loads(text)
    whole = "[" * NESTING + "]" * NESTING
    assert parse_json(whole, "here") == json.loads(whole)
