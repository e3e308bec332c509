"""Last lines of commands: what was written, the time it took, and commands that can be typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_biqa.cli.ending import Ending, closing, files_in, shown

RUN = Path("/elsewhere/my runs/first")
QUICKSTART = ["scorer.safetensors", "checkpoints/last.ckpt", "test/results.csv", "config.yaml"]


def test_a_fit_names_its_scorer_and_what_to_do_with_it() -> None:
    lines = closing(Ending("fit", RUN, 175, QUICKSTART))
    assert lines[0] == "fit took 2:55 in all and wrote to '/elsewhere/my runs/first':"
    assert [line.split()[0] for line in lines[1:4]] == [
        "scorer.safetensors",
        "checkpoints/last.ckpt",
        "test/results.csv",
    ]
    assert lines[4:] == [
        "Next:",
        "  lit_biqa test --run '/elsewhere/my runs/first' --data.test '[NAME]'"
        "  # `lit_biqa list datasets`",
        "  lit_biqa score photos/ --scorer '/elsewhere/my runs/first'",
        "  tensorboard --logdir '/elsewhere/my runs'",
    ]


def test_a_fit_that_learned_nothing_is_not_sent_on() -> None:
    lines = closing(Ending("fit", RUN, 2, ["weights"], "Nothing was learned: all earned 0."))
    assert "Nothing was learned: all earned 0." in lines
    assert lines[-2:] == ["Next:", "  tensorboard --logdir '/elsewhere/my runs/first'"]


@pytest.mark.parametrize(
    ("command", "files", "following"),
    [
        ("fit", ["weights"], "fit --config RECIPE --model.init_args.backbone.init_args.pretrained"),
        ("fit", ["weights", "test/results.csv"], "test --run '/elsewhere/my runs/first' --data"),
        ("validate", ["test/results.csv"], "test --run '/elsewhere/my runs/first'"),
        ("test", ["test/results.csv", "test/a.png"], "compare '/elsewhere/my runs'/*"),
        ("predict", ["predictions.csv"], "test --run '/elsewhere/my runs/first'"),
    ],
)
def test_each_command_has_one_that_follows(command: str, files: list[str], following: str) -> None:
    lines = closing(Ending(command, RUN, 2, files))
    assert lines[lines.index("Next:") + 1].startswith(f"  lit_biqa {following}")
    assert f"{command} took 0:02" in lines[0]


def test_a_command_claims_nothing_that_is_not_there() -> None:
    assert closing(Ending("validate", RUN, 2, QUICKSTART))[0] == "validate took 0:02 in all."
    assert not any("png" in line for line in closing(Ending("test", RUN, 2, QUICKSTART)))


def test_folders_are_named_as_they_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "runs" / "a") == "runs/a"
    (tmp_path / "runs" / "a" / "test").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "test" / "results.csv").touch()
    assert sorted(files_in(tmp_path / "runs" / "a")) == ["test", "test/results.csv"]
