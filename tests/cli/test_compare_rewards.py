"""Rewards of two runs compared image by image, and the curve of the second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from lit_biqa.cli.compare_rewards import clusters, difference, main, rewards
from lit_biqa.evaluation.bootstrap import cluster_codes
from lit_biqa.types import InputError

COLUMNS = "dataset,split,condition,name,mos,score,status,index"


def run_of(folder: Path, *rows: tuple[float, float, str]) -> Path:
    (folder / "test").mkdir(parents=True)
    lines = [
        f"own,all,image,{i}.png,{mos},{s},{status},{i}" for i, (mos, s, status) in enumerate(rows)
    ]
    lines.append("own,all,text,0.png,3.0,3.0,ok,0")
    (folder / "test" / "predictions.csv").write_text("\n".join([COLUMNS, *lines]))
    return folder


def test_rewards_by_hand(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", (3.0, 3.3, "ok"), (3.0, 3.4, "ok"), (3.0, float("nan"), "empty"))
    assert list(rewards(run, "image", 0.35).values()) == [1.0, 0.0, 0.0]
    assert list(rewards(run, "text", 0.35).values()) == [1.0]


def test_weights_are_chosen_where_there_are_several(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", (3.0, 3.3, "ok"))
    file = run / "test" / "predictions.csv"
    first = file.read_text().splitlines()[1]
    file.write_text("\n".join([f"{COLUMNS},weights", f"{first},ab", f"{first},cd"]))
    with pytest.raises(InputError, match="several weights"):
        rewards(run, "image", 0.35)
    assert list(rewards(run, "image", 0.35, "c").values()) == [1.0]


def test_the_interval_is_that_of_paired_images() -> None:
    before = np.array([0.0, 1.0] * 50)
    assert difference(before, before, 100, 0) == (0.0, 0.0)
    low, high = difference(before, 1 - before, 2000, 0)
    assert low < 0 < high
    low, high = difference(np.zeros(100), np.array([0.0, 1.0] * 50), 2000, 0)
    # of a share of one half: 1.96 * sqrt(0.25 / 100)
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)


def test_clusters_are_drawn_whole_by_hand() -> None:
    """Of three clusters there are 27 draws; each extreme one, 1 of 27, is more than 2.5%."""
    codes = cluster_codes(["a", "a", "a", "a", "b", "c"])
    before, after = np.array([0.0, 0, 0, 0, 1, 1]), np.array([1.0, 1, 1, 1, 1, 0])
    assert difference(before, after, 5000, 0, codes) == (-1.0, 1.0)
    assert difference(before, before, 5000, 0, codes) == (0.0, 0.0)


def test_clusters_against_a_plain_loop() -> None:
    generator = np.random.default_rng(1)
    names = [f"g{row % 7}" for row in range(45)] + ["", ""]  # of these each is one of its own
    before, after = generator.integers(0, 2, (2, 47)).astype(float)
    codes = cluster_codes(names)
    assert codes is not None
    draws = np.random.default_rng(4).integers(9, size=(300, 9))
    rows = [[row for c in draw for row in np.flatnonzero(codes == c)] for draw in draws]
    loop = [(after - before)[chosen].mean() for chosen in rows]
    found = difference(before, after, 300, 4, codes)
    assert found == pytest.approx(np.percentile(loop, (2.5, 97.5)))


@pytest.mark.parametrize("column", ["cluster", "group"])
def test_an_interval_over_clusters_is_printed(
    column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far, near = (3.0, 4.0, "ok"), (3.0, 3.0, "ok")
    before = run_of(tmp_path / "before", far, far, far, far, far, near)
    after = run_of(tmp_path / "after", near, near, near, near, far, far)
    assert main([str(before), str(after)]) == 0
    assert "clusters" not in capsys.readouterr().out
    file = before / "test" / "predictions.csv"
    head, *lines = file.read_text().splitlines()
    named = [f"{line},{name}" for line, name in zip(lines, "aaaabca", strict=True)]
    file.write_text("\n".join([f"{head},{column}", *named]))
    assert set(clusters(before, "image").values()) == {"own: a", "own: b", "own: c"}
    assert main([str(before), str(after)]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "clusters" in line]
    assert "over 3 clusters [95%]" in line
    assert "+0.5000 [-1.0000, +1.0000] not significant" in line


def test_two_runs_and_a_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = run_of(tmp_path / "before", (3.0, 4.0, "ok"), (2.0, 2.0, "ok"))
    after = run_of(tmp_path / "after", (3.0, 3.0, "ok"), (2.0, 2.0, "ok"))
    figure = tmp_path / "curve.png"
    assert main([str(before), str(after), "--figure", str(figure)]) == 2
    assert "name a run of GRPO" in capsys.readouterr().err
    logger = TensorBoardLogger(after, name="", version="")
    for step in range(3):
        logger.log_metrics({"train/reward/score": step / 3, "train/grad_norm": 1.0}, step)
    logger.finalize("success")
    assert main([str(before), str(after), "--figure", str(figure)]) == 0
    printed = capsys.readouterr().out
    assert "0.5000" in printed and "1.0000" in printed and "+0.5000" in printed
    assert figure.stat().st_size > 10_000
    other = run_of(tmp_path / "other", (3.0, 3.0, "ok"))
    assert main([str(before), str(other)]) == 2
    assert "tested on different images" in capsys.readouterr().err
