"""Wrong names of settings are told with the nearest; both spellings of a setting mean one thing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lit_biqa.__main__ import COMMANDS, SUBCOMMANDS, help_text, unknown
from lit_biqa.cli.main import main

PRINT = ["fit", "--config", "quickstart", "--print_config"]


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("model.init_args.head.pcaa", "head.pca."),
        ("model.head.pcaa", "head.pca."),
        ("model.encoder.widht", "width."),
        ("model.optimizer.lrr", "lr."),
        ("data.loader.batchsize", "data.loader.batch_size, data.loader.eval_batch_size."),
    ],
)
def test_the_nearest_setting_is_told(
    setting: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PRINT, f"--{setting}", "3"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(f". Nearest names: {nearest}")
    # No file is blamed for what stands on the command line.
    assert " (in " not in error


def test_a_wrong_field_of_a_group_is_found_in_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "head.yaml"
    file.write_text("model: {init_args: {head: {pcaa: 3}}}")
    assert main([*PRINT, "--config", str(file)]) == 2
    wanted = f"Option 'head.pcaa' is not accepted (in {file}). Nearest names: head.pca.\n"
    assert capsys.readouterr().err.endswith(wanted)


@pytest.mark.parametrize(
    ("arguments", "pca"),
    [
        (["--model.head.pca=3"], 3),
        (["--model.init_args.head.pca=3"], 3),
        (["--model.head.pca=3", "--model.init_args.head.pca=5"], 5),
        (["--model.init_args.head.pca=5", "--model.head.pca=3"], 3),
    ],
)
def test_init_args_may_be_left_out_on_the_command_line(
    arguments: list[str], pca: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*PRINT, *arguments])
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert model.keys() == {"class_path", "init_args"}
    # The other settings of the recipe's head stay.
    assert (model["init_args"]["head"]["pca"], model["init_args"]["head"]["buckets"]) == (pca, 80)


def test_settings_beside_init_args_are_refused_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "beside.yaml"
    file.write_text("model: {head: {pca: 3}}")
    assert main([*PRINT, "--config", str(file)]) == 2
    where = f"{file}: model.head is beside class_path: write it as model.init_args.head"
    assert where in capsys.readouterr().err


def test_a_wrong_subcommand_is_told_with_the_nearest_and_all() -> None:
    every = ", ".join([*SUBCOMMANDS, *COMMANDS])
    assert unknown("ft") == f"there is no subcommand 'ft'. Nearest: fit. All: {every}."
    assert unknown("xyz") == f"there is no subcommand 'xyz'. All: {every}."


def test_the_help_has_one_line_for_each_subcommand() -> None:
    lines = [line.split(maxsplit=1) for line in help_text().splitlines() if line.startswith("  ")]
    for name, text in {**SUBCOMMANDS, **{n: line for n, (_, line) in COMMANDS.items()}}.items():
        assert lines.count([name, text]) == 1
