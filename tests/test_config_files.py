"""Configuration files merged, and the command line over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from lit_biqa.cli.config_files import merge_arguments
from lit_biqa.cli.renamed_settings import RENAMED, RENAMED_OF_FORMAT, RENAMED_OF_GRPO
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.methods.grpo import GRPO
from lit_biqa.types import InputError

CLIP = {"class_path": "lit_biqa.x.Clip", "init_args": {"dim": 512, "name": "l14"}}
BASE = {"model": {"class_path": "RALI", "init_args": {"encoder": CLIP, "lr": 0.1}}}


def merged(folder: Path, *settings: Any, args: str = "") -> Any:
    files = []
    for number, content in enumerate(settings):
        files.append(folder / f"{number}.yaml")
        files[-1].write_text(yaml.safe_dump(content))
    configs = [f"--config={file}" for file in files]
    read, arguments = merge_arguments(["fit", *args.split(), *configs])
    assert read == files
    assert arguments[0] == "fit"
    assert arguments[2:] == ([args.replace(" ", "=")] if args else [])
    return yaml.safe_load(arguments[1].removeprefix("--config="))


def test_later_files_win_and_keep_the_rest(tmp_path: Path) -> None:
    first = {"data": {"train": ["a", "b"], "root": "x"}, "seed_everything": 1}
    assert merged(tmp_path, first, {"data": {"train": ["c"]}}) == {
        "data": {"train": ["c"], "root": "x"},
        "seed_everything": 1,
    }


def test_another_class_starts_afresh(tmp_path: Path) -> None:
    tiny = {"class_path": "lit_biqa.y.Tiny", "init_args": {"width": 8}}
    overlay = {"model": {"init_args": {"encoder": tiny}}}
    expected = {"class_path": "RALI", "init_args": {"encoder": tiny, "lr": 0.1}}
    assert merged(tmp_path, BASE, overlay) == {"model": expected}


def test_the_same_class_by_its_bare_name_keeps_its_settings(tmp_path: Path) -> None:
    overlay = {"model": {"init_args": {"encoder": {"class_path": "Clip", "init_args": {"dim": 1}}}}}
    encoder = merged(tmp_path, BASE, overlay)["model"]["init_args"]["encoder"]
    assert encoder == {"class_path": "Clip", "init_args": {"dim": 1, "name": "l14"}}


@pytest.mark.parametrize(
    "argument", ["--model.encoder=Tiny", "--model.init_args.encoder.class_path=lit_biqa.y.Tiny"]
)
def test_another_class_on_the_command_line_starts_afresh(tmp_path: Path, argument: str) -> None:
    encoder = merged(tmp_path, BASE, args=argument)["model"]["init_args"]["encoder"]
    assert encoder == argument.rpartition("=")[2]


def test_a_name_of_no_class_takes_the_place_of_one(tmp_path: Path) -> None:
    sharded = {"class_path": "ModelParallelStrategy", "init_args": {"data_parallel_size": 2}}
    settings = {"trainer": {"strategy": sharded, "devices": 2}}
    found = merged(tmp_path, settings, args="--trainer.strategy=auto")
    assert found == {"trainer": {"strategy": "auto", "devices": 2}}


@pytest.mark.parametrize(
    "argument",
    ["--model=RALI", "--model.encoder.dim=3", "--model.lr 0.2", "--trainer.max_epochs=1"],
)
def test_other_arguments_leave_the_files_as_they_are(tmp_path: Path, argument: str) -> None:
    assert merged(tmp_path, BASE, args=argument) == BASE


def test_small_floats_stay_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lr: 1e-5\n")
    _, arguments = merge_arguments(["fit", "--config", str(tmp_path / "a.yaml")])
    assert arguments[1] == "--config=lr: 1e-5\n"


def test_flags_without_values_pass_through() -> None:
    assert merge_arguments(["fit", "--print_config", "--run", "x"]) == (
        [],
        ["fit", "--print_config", "--run=x"],
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [1", "a.yaml is not YAML"), ("- 1", "a.yaml holds no settings"), (None, "Nearest: ")],
)
def test_bad_files_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "a.yaml"
    (tmp_path / "b.yaml").touch()
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        merge_arguments(["fit", "--config", str(file)])


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_refused_with_the_new_one(tmp_path: Path, old: str) -> None:
    told = f"uses old names of settings: {old} is now {RENAMED[old]}$"
    with pytest.raises(InputError, match=rf"0\.yaml {told}"):
        merged(tmp_path, {"data": {"root": "x", old.removeprefix("data."): None}})
    with pytest.raises(InputError, match=f"the command line {told}"):
        merged(tmp_path, BASE, args=f"--{old}=[8]")


@pytest.mark.parametrize("old", RENAMED_OF_GRPO)
def test_an_old_name_of_grpo_is_refused_and_that_of_another_method_is_not(
    tmp_path: Path, old: str
) -> None:
    name, told = old.removeprefix("model."), f"{old} is now {RENAMED_OF_GRPO[old]}$"
    method = {"class_path": "lit_biqa.methods.grpo.GRPO", "init_args": {}}
    group, _, key = name.rpartition(".")
    given = {group: {"init_args": {key: 1}}} if group else {key: 1}
    with pytest.raises(InputError, match=rf"0\.yaml, .*1\.yaml uses old names of settings: {told}"):
        merged(tmp_path, {"model": method}, {"model": {"init_args": given}})
    for key in (old, f"model.init_args.{name}"):
        with pytest.raises(
            InputError, match=f"the command line uses old names of settings: {told}"
        ):
            merged(tmp_path, {"model": method}, args=f"--{key}=1")
    other = {"model": {"class_path": "mine.Method", "init_args": given}}
    assert merged(tmp_path, other) == other


@pytest.mark.parametrize("old", RENAMED_OF_FORMAT)
def test_an_old_name_of_the_format_reward_is_refused(tmp_path: Path, old: str) -> None:
    told = f"uses old names of settings: {old} is now {RENAMED_OF_FORMAT[old]}$"
    given: Any = {old.rpartition(".")[2]: True}
    for name in reversed(old.split(".")[1:-1]):
        given = {name: {"class_path": "mine.Class", "init_args": given}}
    saved = {"class_path": "lit_biqa.methods.grpo.GRPO", "init_args": given}
    with pytest.raises(InputError, match=rf"0\.yaml {told}"):
        merged(tmp_path, {"model": saved})


def test_all_old_names_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    told = r"data\.texts is now data\.texts\.files, data\.clean is now data\.texts\.clean$"
    with pytest.raises(InputError, match=told):
        merged(tmp_path, {"data": {"clean": "ratings", "texts": ["a.json"]}})
    with pytest.raises(InputError, match=r"data\.seed is now data\.loader\.seed$"):
        merge_arguments(["fit", "--data", "{seed: 3}"])


@pytest.mark.parametrize("new", [*RENAMED.values(), *RENAMED_OF_GRPO.values()])
def test_a_new_name_is_a_setting(new: str) -> None:
    kind: type = GRPO if new.startswith("model.") else BIQADataModule
    for name in new.split(".")[1:]:
        kind = get_type_hints(kind.__init__)[name]  # type: ignore[misc]


def test_the_group_that_bears_an_old_name_is_taken(tmp_path: Path) -> None:
    texts = {"data": {"texts": {"files": ["a.json"]}}}
    assert merged(tmp_path, texts) == texts
    assert merge_arguments(["fit", "--data.texts", "{files: [b.json]}"])[0] == []
