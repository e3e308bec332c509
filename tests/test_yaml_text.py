"""YAML from outside is measured before it is built."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import yaml

from lit_biqa import limits
from lit_biqa.cli.config_files import read
from lit_biqa.io.yaml_text import parse
from lit_biqa.types import InputError


def bomb(levels: int, width: int) -> str:
    """``width ** levels`` nodes in a few hundred bytes."""
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    bomb(12, 9): "more than 100,000 nodes with its aliases expanded",
    "- x\n" * (limits.YAML_NODES + 1): "more than 100,000 nodes",
    "- " * 100 + "x": "nests deeper than 64 levels",
    "a: &a [[x]]\nb: " + "[" * 63 + "*a" + "]" * 63: "nests deeper than 64 levels",
    "[" * 100_000: "not YAML",
    "a: &a [*a]": r"\*a stands inside or before its own anchor",
    "x" * (limits.YAML_BYTES + 1): "the limit is 2,097,152",
    "a: " + "9" * 5_000: "a number of more than 1,000 digits",
    "a: " + ":".join(["1"] * 1_000): "a number of more than 1,000 digits",
    "a: 2001-99-99": "a value that YAML cannot read",
    "a: !!int ''": "a value that YAML cannot read",
    "a: !!bool x": "a value that YAML cannot read",
    "a: !!timestamp x": "a value that YAML cannot read",
    "a: !!python/object/apply:os.getcwd []": "not YAML",
    "? [1]\n: 2": "not YAML",
    "a: \x00": "not YAML",
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: str(text[:16]))
def test_hostile_yaml_gets_one_line_and_no_memory(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=HOSTILE[text]) as caught:
            parse(text, "x.yaml")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith("x.yaml")
    assert "\n" not in str(caught.value)
    assert peak < 32 * 2**20


def test_what_is_within_the_limits_is_read_as_yaml_reads_it() -> None:
    text = "a: &a {b: [1, 2.5, null, true]}\nc: {<<: *a, d: *a}\ne: " + "[" * 60 + "]" * 60
    assert parse(text, "x.yaml") == yaml.safe_load(text)
    assert parse(bomb(4, 9), "x.yaml") == yaml.safe_load(bomb(4, 9))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00a", b"- a\n", b"1: 2\n", b"a\n", b"0\n"])
def test_a_file_that_holds_no_settings_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.yaml"):
        read(file)
