"""Texts that a trained model writes: by one process or two, in one go or several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs

from lit_biqa.cli.describe import Share, main
from lit_biqa.data.texts import attach_texts
from lit_biqa.io.seals import KEY, seal_record
from lit_biqa.types import Sample


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned to describe, a little."""
    folder = tmp_path_factory.mktemp("describe")
    tiny = {"width": 32, "layers": 1}
    init: dict[str, Any] = {
        "backbone": {
            "class_path": "lit_biqa.backbones.tiny_chat.TinyQwenVL",
            "init_args": tiny | {"tuning": {"how": "lora", "rank": 2, "parts": ["language"]}},
        },
        "task": {"class_path": "lit_biqa.tasks.Describe"},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
    }
    data = {"train": [str(runs.write_images(folder, "train", 4, 0))], "val": []}
    settings = {
        "model": {"class_path": "lit_biqa.methods.sft.SFT", "init_args": init},
        "data": data | {"loader": {"batch_size": 4, "num_workers": 0, "eval_batch_size": 2}},
        "trainer": {"accelerator": "cpu", "max_steps": 1},
    }
    file = runs.write_settings(folder / "fit.yaml", settings)
    runs.start(["fit", "--config", file, "--run", folder / "run"], folder / "log").succeed()
    runs.write_images(folder, "test", 5, 1)
    return folder / "run"


def describe(run: Path, out: Path, *more: str) -> int:
    data = [f"--data.test=['{run.parent}/test.csv']", "--budget=4", "--answers=2"]
    return main([f"--run={run}", f"--out={out}", *data, *more])


def test_every_image_gets_its_texts(run: Path, tmp_path: Path) -> None:
    assert describe(run, tmp_path / "texts.jsonl") == 0
    records = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    assert [record["image"] for record in records] == [f"test-{i}.png" for i in range(5)]
    assert all(len(record["texts"]) == 2 for record in records)
    assert all(seal_record({k: v for k, v in r.items() if k != KEY}) == r for r in records)
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]
    samples = [Sample("test", "all", i, f"test-{i}.png", Path("x")) for i in range(5)]
    said = [text for record in records for text in record["texts"] if text.strip()]
    joined = attach_texts(samples, [tmp_path / "texts.jsonl"])
    assert sum(len(sample.texts) for sample in joined) == len(said) > 0


def test_shares_and_a_run_cut_off_give_the_same_file(run: Path, tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole.jsonl", tmp_path / "shared.jsonl"
    assert describe(run, whole) == 0
    share = Share(shared, 1, 2)
    lines = whole.read_text().splitlines(True)
    # The second process had written one line, and was cut off within the next.
    share.parts[1].write_text(lines[1] + lines[3][:20])
    assert share.resume() == {("test", 1)}
    assert describe(run, shared, "--shard=0/2") == 0
    assert not shared.exists()
    assert describe(run, shared, "--shard=1/2") == 0
    assert shared.read_text() == whole.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"whole.jsonl", "shared.jsonl"}


def test_bad_input(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.jsonl").touch()
    for more, error in (
        ((run, tmp_path / "there.jsonl"), "exists already"),
        ((tmp_path, tmp_path / "out.jsonl"), "holds no config.yaml"),
        ((run, tmp_path / "out.jsonl", "--shard=2/2"), "give a number and a count"),
    ):
        assert describe(*more) == 2
        assert error in capsys.readouterr().err
