"""tools/reproduce: order and settings of the small runs, and one of them."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lit_biqa.cli.config_files import merge_files
from lit_biqa.runs import recipes

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "reproduce"
PAPER = "reasoning_as_representation"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(TOOLS))
    import small

    yield small
    for file in TOOLS.glob("*.py"):
        sys.modules.pop(file.stem, None)


def test_a_recipe_comes_after_those_that_it_starts_from(small: ModuleType) -> None:
    names = [name for _, name in small.in_order()]
    every = {name for name in recipes.names() if name.startswith("reproduce/")}
    assert every == set(names) - {"sft/describe"}
    for later, earlier in (
        (f"reproduce/{PAPER}/ract", f"reproduce/{PAPER}/q_insight"),
        (f"reproduce/{PAPER}/swap_kadid", f"reproduce/{PAPER}/q_insight_kadid"),
        ("reproduce/building_reasonable_inference/two_stage", "sft/describe"),
    ):
        assert names.index(earlier) < names.index(later)


def test_data_sets_at_hand_stand_in_for_those_of_a_paper(small: ModuleType, tmp_path: Path) -> None:
    settings = merge_files([recipes.find(f"reproduce/{PAPER}/ract_text_and_score")], [])
    over = small.overlay.small(settings, tmp_path / "inputs", tmp_path / "data")
    both = ["agiqa3k/random-0", "livew/random-0"]
    assert (over["data"]["train"], over["data"]["test"]) == (both, both)
    assert over["data"]["texts"]["files"] == list(small.inputs.TEXTS.values())
    init = over["model"]["init_args"]
    assert init["task"]["init_args"] == {"scored": ["agiqa3k", "livew"]}
    # Weights of an earlier run stay; those of the hub are exchanged for small ones.
    assert "pretrained" not in init["backbone"]["init_args"]
    settings = merge_files([recipes.find(f"reproduce/{PAPER}/q_insight_spaq")], [])
    over = small.overlay.small(settings, tmp_path / "inputs", tmp_path / "data")
    made = str(tmp_path / "inputs" / "degradations.csv")
    assert over["data"]["train"] == ["livew/random-0", made]
    assert over["model"]["init_args"]["backbone"]["init_args"]["pretrained"].endswith("qwen")


@pytest.mark.newest
def test_a_row_is_run_and_listed(small: ModuleType, tmp_path: Path, shared: Path) -> None:
    """A deep metric's scores enter as a file; here it holds the contrast of each image."""
    small.inputs.write(tmp_path / "inputs", shared / "data")
    row = small.run(PAPER, f"reproduce/{PAPER}/liqe", tmp_path, shared / "data")
    assert (row.status, row.images) == ("ok", 48)
    # Labels of LIVE-W are whole; images at hand alone have a contrast.
    assert 24 < int(row.numbers.removesuffix(" of 48")) < 48
    small.write_tables(tmp_path, [row])
    with (tmp_path / "small.csv").open(newline="") as file:
        assert [each["recipe"] for each in csv.DictReader(file)] == ["liqe"]
    assert f"| {PAPER}: `liqe` | test | Predictions | 48 |" in (tmp_path / "small.md").read_text()


def test_a_command_that_fails_says_why(small: ModuleType, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        why = small.run_command(["test", "--config", "none/such"], tmp_path, log)
    assert why.startswith("status 2: error:")
    assert "none/such" in why
