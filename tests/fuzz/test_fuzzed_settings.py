"""Damaged configuration files: settings are printed as they came out, or one line says why not."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml
from hypothesis import event, given, settings
from mutations import mutated

from lit_biqa.__main__ import main

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("**/*.yaml"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "damaged.yaml"


# Each builds a parser with all that a class can be given: a quarter of the examples of the others.
@settings(max_examples=max(5, settings().max_examples // 4))
@given(
    content=mutated([recipe.read_bytes() for recipe in RECIPES if recipe.parent.name != "trainer"])
)
def test_a_damaged_configuration_is_parsed_or_refused_in_one_line(
    file: Path, content: bytes
) -> None:
    file.write_bytes(content)
    output, errors = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(errors):
            status = main(["fit", "--config", str(file), "--print_config"])
    except SystemExit as stop:
        assert stop.code == 0
        assert isinstance(yaml.safe_load(output.getvalue()), dict)
        event("a correct reading")
        return
    (line,) = errors.getvalue().splitlines()
    assert status == 2
    assert line.startswith("error: ") and len(line) < 2000
    event("a clear error")
