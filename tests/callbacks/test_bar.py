"""Progress of a run in a log."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from known_scores import BROKEN, N, Tiny, loader, trainer, uneven_loader
from lightning.pytorch.loggers import CSVLogger

from lit_biqa.callbacks import CorrelationReport, PredictionWriter, ProgressBar, ResourceMeter
from lit_biqa.types import Batch, Prediction


def test_a_log_gets_one_line_per_epoch_and_no_version_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = CSVLogger(tmp_path)
    run = trainer(tmp_path, ProgressBar(), CorrelationReport(20), ResourceMeter(), logger=logger)
    run.fit(Tiny(), loader(), loader())
    printed = capsys.readouterr().out
    epochs = [line for line in printed.splitlines() if line.startswith("Epoch")]
    assert [line.split(":")[0] for line in epochs] == ["Epoch 1/2", "Epoch 2/2"]
    for part in ("6/6 batches, ", "samples/s", "took 0:0", "train/loss", "val/srcc", "val/plcc"):
        assert part in epochs[0]
    assert "fit 0:0" in epochs[0] and "left" not in epochs[1]
    assert "v_num" not in printed and "Validation" not in printed
    # Each of N images, shown once in each of two epochs.
    assert re.search(rf"images +│ {N} ", printed) and re.search(rf"samples +│ {2 * N} ", printed)
    assert "0.00 h" not in printed and "peak memory" in printed
    run.test(Tiny(), loader())
    printed = capsys.readouterr().out
    assert printed.startswith("Test: 6/6 batches, ") and f"Tested {N} images in 0:0" in printed


def test_an_error_leaves_no_bar_behind(tmp_path: Path) -> None:
    class Fails(Tiny):
        def validation_step(  # type: ignore[override]
            self, batch: Batch, batch_idx: int
        ) -> list[Prediction]:
            raise RuntimeError("out of memory")

    bar = ProgressBar()
    run = trainer(tmp_path, bar, num_sanity_val_steps=0)
    with pytest.raises(RuntimeError, match="out of memory"):
        run.fit(Fails(), loader(), loader())
    assert bar._bars == []


def test_predict_says_how_many_were_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, PredictionWriter())
    run.predict(Tiny(), uneven_loader(0, 1), return_predictions=False)
    assert capsys.readouterr().out.endswith(
        f"22 of 23 scored: {tmp_path / 'predictions.csv'}\n"
        "1 not scored (column status of the file says why):\n"
        f"  {BROKEN}.png: truncated\n"
    )


def test_ten_files_without_a_score_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails(Tiny):
        """Gives no score that is a number; most files say why in their own words."""

        def row(self, i: int, condition: str) -> Prediction:
            status = "ok" if i == 1 else f"unreadable: photos/{i}.png: truncated"
            return replace(super().row(i, condition), score=math.nan, status=status)

    run = trainer(tmp_path, PredictionWriter())
    run.predict(Fails(), uneven_loader(0, 1), return_predictions=False)
    told = capsys.readouterr().out.splitlines()[-13:]
    assert told[0].startswith("0 of 23 scored: ")
    assert told[1] == "23 not scored (column status of the file says why):"
    assert told[2] == "  1.png: no finite score"
    assert all(re.fullmatch(r"  photos/\d+\.png: truncated", line) for line in told[3:12])
    assert told[12] == "  and 13 more"
