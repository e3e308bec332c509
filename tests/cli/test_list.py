"""Names of recipes, data sets and classes, read without importing what they name."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_biqa.cli import list as listing
from lit_biqa.cli.class_index import classes_of
from lit_biqa.cli.config_files import merge_files, split_arguments
from lit_biqa.runs import recipes
from lit_biqa.types import InputError

NAMES = recipes.names()
RESULTS = (Path(__file__).parents[2] / "docs" / "results.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_headers_say_what_a_recipe_needs_takes_and_gives(name: str) -> None:
    recipe = recipes.read(name)
    assert recipe.summary
    assert recipe.summary.endswith(".")
    facts = [recipe.needs, recipe.takes, recipe.gives]
    overlay = name.split("/")[0] in recipes.OVERLAYS
    assert (any(facts), all(facts)) == (not overlay, not overlay)


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_a_header_name_their_source(name: str) -> None:
    recipe = recipes.read(name)
    for fact in (recipe.takes, recipe.gives):
        measured, _, printed = fact.partition("prints")
        # What was measured stands in docs/results.md as it is, and a paper
        for figure in re.findall(r"\d\.\d{2,}", measured):
            assert "docs/results.md" in measured
            assert figure in RESULTS
        if re.search(r"\d", printed):
            assert fact.startswith("not measured; ")


@pytest.mark.parametrize("name", NAMES)
def test_bases_of_recipes_are_recipes_and_hold_what_is_not_repeated(name: str) -> None:
    file = recipes.folder() / f"{name}.yaml"
    written = yaml.safe_load(file.read_text())
    whole = merge_files([file], [])
    assert "base" not in whole
    base = written.pop("base", None)
    if base is None:
        assert whole == written
        return
    assert base in NAMES
    assert repeated(written, merge_files([recipes.folder() / f"{base}.yaml"], [])) == set()


def repeated(settings: dict[str, Any], below: dict[str, Any], name: str = "") -> set[str]:
    """Names of settings that the base holds with the same value."""
    if settings.get("class_path", below.get("class_path")) != below.get("class_path"):
        return set()  # Settings of another class begin afresh.
    names: set[str] = set()
    for key, value in settings.items():
        nested = isinstance(value, dict) and isinstance(below.get(key), dict)
        if nested:
            names |= repeated(value, below[key], f"{name}{key}.")
        elif key in below and below[key] == value:
            names.add(f"{name}{key}")
    return names


def test_a_recipe_is_found_by_name_and_a_file_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = recipes.folder() / "quickstart.yaml"
    for name in ("quickstart", "quickstart.yaml", "configs/quickstart.yaml"):
        assert recipes.find(name) == quick
    assert recipes.find("rali/score") == recipes.folder() / "rali" / "score.yaml"
    assert recipes.find(str(quick)) == quick
    own = tmp_path / "quickstart.yaml"
    own.write_text("seed_everything: 3\n")
    assert recipes.find("quickstart.yaml") == Path("quickstart.yaml")
    files, rest = split_arguments(["fit", "--config", "quickstart.yaml", "--config=trainer/cpu"])
    assert rest == ["fit"]
    assert files == [Path("quickstart.yaml"), recipes.folder() / "trainer" / "cpu.yaml"]


def test_an_unknown_recipe_is_told_with_the_nearest(tmp_path: Path) -> None:
    files, _ = split_arguments(["fit", "--config", "rali/tiny_agiqa"])
    message = r"or recipe rali/tiny_agiqa\. Nearest: rali/tiny_agiqa3k.*lit_biqa list recipes"
    with pytest.raises(InputError, match=message):
        merge_files(files, [])


def test_settings_of_the_base_stand_below_those_of_the_file(tmp_path: Path) -> None:
    base, top = tmp_path / "base.yaml", tmp_path / "top.yaml"
    base.write_text("model: {class_path: A, init_args: {x: 1, y: 2}}\ndata: {train: [a]}\n")
    top.write_text(f"base: {base}\nmodel: {{init_args: {{y: 3}}}}\ndata: {{val: []}}\n")
    assert merge_files([top], []) == {
        "model": {"class_path": "A", "init_args": {"x": 1, "y": 3}},
        "data": {"train": ["a"], "val": []},
    }
    base.write_text(f"base: {top}\n")
    with pytest.raises(InputError, match="is based on this file"):
        merge_files([top], [])
    top.write_text("base: [quickstart]\n")
    with pytest.raises(InputError, match="base must be a recipe"):
        merge_files([top], [])


@pytest.mark.parametrize(
    ("room", "root"),
    [
        ("methods", "lit_biqa.methods.evaluation.Evaluator"),
        ("paradigms", "lit_biqa.paradigms.base.Paradigm"),
        ("readouts", "lit_biqa.readouts.base.Readout"),
        ("rewards", "lit_biqa.rewards.base.Reward"),
        ("backbones", "lit_biqa.backbones.vision_language.VisionLanguageModel"),
    ],
)
def test_listed_classes_are_those_that_python_finds(room: str, root: str) -> None:
    module, _, name = root.rpartition(".")
    base = getattr(importlib.import_module(module), name)
    listed = classes_of(room, name)
    assert listed
    for line in listed:
        made = getattr(importlib.import_module(line.module), line.name)
        assert issubclass(made, base)
        assert (inspect.getdoc(made) or "").startswith(line.summary)
    concrete = {
        each.__name__
        for each in _below(base)
        if each.__module__.startswith(f"lit_biqa.{room}") and not inspect.isabstract(each)
    }
    assert {line.name for line in listed} == {n for n in concrete if not n.startswith("_")}


def _below(base: type) -> set[type]:
    below: set[type] = set(base.__subclasses__())
    return below | {each for one in below for each in _below(one)}


@pytest.mark.parametrize("kind", ["recipes", "models", *listing.TABLES])
def test_every_kind_is_printed(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main([kind]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_published_models_have_weights_and_a_licence() -> None:
    published = [recipes.read(name) for name in NAMES if name.startswith("published/")]
    blocks = listing.model_lines().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [recipe.name for recipe in published]
    assert all(recipe.licence in ("MIT", "Apache-2.0") for recipe in published)
    told = dict(zip([recipe.name for recipe in published], blocks, strict=True))
    insight, lora = told["published/q_insight"], told["published/deqa_lora"]
    assert "\n    weights: ByteDance/Q-Insight/score_degradation\n" in insight
    assert ".933 / .916 on KonIQ" in insight
    assert "\n    weights: openai/clip-vit-large-patch14-336\n" in told["published/clip"]
    assert "DeQA-Score-LoRA-Mix3 on MAGAer13/mplug-owl2-llama2-7b\n" in lora


def test_one_recipe_and_wrong_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main(["recipes", "rali/score"]) == 0
    assert "scorer.safetensors" in capsys.readouterr().out
    assert listing.main(["recipes", "rali/scor"]) == 2
    assert "Did you mean rali/score" in capsys.readouterr().err
    assert listing.main(["readouts", "Rated"]) == 2


def test_a_list_imports_nothing_heavy() -> None:
    code = (
        "import sys, json; from lit_biqa.cli import list as l; l.main(['methods']);"
        "print(json.dumps(sorted({'torch', 'lightning', 'transformers'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_reader_that_has_seen_enough_ends_a_command_quietly() -> None:
    command = f"{sys.executable} -m lit_biqa list recipes | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", [["fit", "--config"], ["fit", "--config", " "]])
def test_a_configuration_has_a_name(arguments: list[str]) -> None:
    with pytest.raises(InputError, match=r"empty|names nothing"):
        split_arguments(arguments)
    assert recipes.find("~nosuchuser/x") == Path("~nosuchuser/x")
