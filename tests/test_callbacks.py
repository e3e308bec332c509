"""One tiny method through fit, test and predict: what the callbacks log, print and write."""

from __future__ import annotations

import csv
import json
import math
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lit_biqa  # noqa: F401  before lightning, in spawned processes too: it mends torchvision

# isort: split
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from scipy import stats
from torch import Tensor
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader

from lit_biqa.callbacks import CorrelationReport, PredictionWriter, ProgressBar, ResourceMeter
from lit_biqa.callbacks.scatter import scatter
from lit_biqa.metrics import UndefinedCorrelationWarning
from lit_biqa.parallel import GlobalBatchSampler
from lit_biqa.report import evaluate
from lit_biqa.types import Batch, InputError, Prediction

N = 23
RNG = np.random.default_rng(7)
MOS = RNG.uniform(1, 5, N)
SCORES = {"image": MOS + RNG.normal(0, 0.5, N), "text": MOS + RNG.normal(0, 1.0, N)}
BROKEN = 4


def dataset_of(index: int) -> str:
    return "csiq" if index % 3 else "spaq"


class Indices(torch.utils.data.Dataset[int]):
    """Samples are their own indices; the sampler's draw is ignored."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, item: Any) -> int:
        return int(item[0]) if isinstance(item, tuple) else int(item)


def collate(indices: list[int]) -> dict[str, Any]:
    return {"index": torch.tensor(indices)}


class Tiny(pl.LightningModule):
    """Knows the scores of each image under two conditions; one image cannot be read."""

    def __init__(self, constant: bool = False, conditions: tuple[str, ...] = ("image",)) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.constant, self.conditions = constant, conditions

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = ((self.weight - batch["index"].float()) ** 2).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def rows(self, batch: Batch) -> list[Prediction]:
        return [self.row(i, c) for i in batch["index"].tolist() for c in self.conditions]

    def row(self, i: int, condition: str) -> Prediction:
        broken = i == BROKEN
        score = math.nan if broken else 3.0 if self.constant else float(SCORES[condition][i])
        status = "truncated" if broken else "ok"
        name, mos = f"{i}.png", float(MOS[i])
        return Prediction(dataset_of(i), "all@1", i, name, mos, score, condition, status)

    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> list[Prediction]:
        return self.rows(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:  # type: ignore[override]
        return self.rows(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:
        return self.rows(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def loader() -> DataLoader[int]:
    sampler = GlobalBatchSampler(N, 4, shuffle=False)
    return DataLoader(Indices(), batch_sampler=sampler, collate_fn=collate)


def uneven_loader(rank: int, ranks: int) -> DataLoader[int]:
    """Every image once over all ranks, batch by batch: ranks have unequal numbers of batches."""
    mine = list(range(rank, N, ranks))
    return DataLoader(torch.utils.data.Subset(Indices(), mine), collate_fn=collate)


def trainer(folder: Path, *callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **(defaults | settings))


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    """Lightning's advice on workers and loggers is not about these tests."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        yield


def run_everything(folder: Path) -> None:
    """Fit, test and predict in this process, one of several perhaps."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    run = trainer(
        folder,
        CorrelationReport(bootstrap=100),
        PredictionWriter(),
        ResourceMeter(),
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
    )
    model = Tiny(conditions=("image", "text"))
    run.fit(model, loader(), uneven_loader(rank, ranks))
    if run.is_global_zero:
        logged = {name: float(value) for name, value in run.callback_metrics.items()}
        (folder / "logged.json").write_text(json.dumps(logged))
    run.test(model, loader())
    run.predict(model, uneven_loader(rank, ranks), return_predictions=False)


def one_of_two(rank: int, folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    run_everything(folder)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    run_everything(folder)
    return folder


def test_two_processes_give_the_figures_of_one(one_process: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(one_of_two, (tmp_path, port), 2)  # type: ignore[no-untyped-call]
    for name in ("test/results.csv", "test/predictions.csv", "predictions.csv"):
        assert (tmp_path / name).read_text() == (one_process / name).read_text(), name
    logged = [json.loads((f / "logged.json").read_text()) for f in (tmp_path, one_process)]
    for two, one in zip(*(sorted(each.items()) for each in logged), strict=True):
        if one[0].startswith("val/"):
            assert two == one


def test_results_are_those_of_scipy_without_the_image_that_failed(one_process: Path) -> None:
    found = lines(one_process / "test" / "results.csv")
    keys = [(line["dataset"], line["condition"]) for line in found]
    assert keys == [(d, c) for d in ("csiq", "spaq") for c in ("image", "text")] + [
        ("mean", "image"),
        ("mean", "text"),
    ]
    by_key = dict(zip(keys, found, strict=True))
    for dataset, condition in keys[:4]:
        which = [i for i in range(N) if dataset_of(i) == dataset]
        good = [i for i in which if i != BROKEN]
        line = by_key[dataset, condition]
        assert (int(line["n"]), int(line["failures"])) == (len(which), len(which) - len(good))
        x, y = SCORES[condition][good], MOS[good]
        assert float(line["plcc"]) == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-6)
        assert float(line["srcc"]) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-6)
        assert float(line["krcc"]) == pytest.approx(stats.kendalltau(x, y)[0], abs=1e-6)
        assert float(line["rmse"]) == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), abs=1e-6)
        assert float(line["plcc_low"]) < float(line["plcc"]) < float(line["plcc_high"])
    assert int(by_key["mean", "image"]["n"]) == N


def test_validation_logs_what_a_test_reports(one_process: Path) -> None:
    logged = json.loads((one_process / "logged.json").read_text())
    results = {
        (r["dataset"], r["condition"]): r for r in lines(one_process / "test" / "results.csv")
    }
    for tag, key in {
        "val": ("mean", "image"),
        "val/text": ("mean", "text"),
        "val/csiq": ("csiq", "image"),
        "val/spaq/text": ("spaq", "text"),
    }.items():
        for name in ("plcc", "srcc"):
            assert logged[f"{tag}/{name}"] == pytest.approx(float(results[key][name]), abs=1e-5)


def test_predictions_have_a_row_for_every_image(one_process: Path) -> None:
    for path in (one_process / "predictions.csv", one_process / "test" / "predictions.csv"):
        rows = lines(path)
        keys = [(r["dataset"], r["condition"], int(r["index"])) for r in rows]
        assert keys == sorted((dataset_of(i), c, i) for i in range(N) for c in SCORES)
        broken = [r for r in rows if r["status"] != "ok"]
        assert [(r["name"], r["score"], r["status"]) for r in broken] == [
            (f"{BROKEN}.png", "nan", "truncated")
        ] * 2


def test_each_data_set_has_a_scatter(one_process: Path) -> None:
    names = sorted(path.name for path in (one_process / "test").glob("*.png"))
    assert names == ["csiq-text.png", "csiq.png", "spaq-text.png", "spaq.png"]
    assert (one_process / "test" / "csiq.png").read_bytes().startswith(b"\x89PNG")


def rows_of(scores: list[float], mos: list[float]) -> list[Prediction]:
    pairs = enumerate(zip(scores, mos, strict=True))
    return [Prediction("csiq", "all@1", i, f"{i}", m, s) for i, (s, m) in pairs]


def test_scatter_shows_every_scored_image_the_line_of_equality_and_the_fit() -> None:
    rows = rows_of([1.2, 2.1, 2.8, math.nan, 3.9, 4.6], [1.5, 2.0, 3.1, 4.0, 4.2, 4.4])
    (result, _) = evaluate(rows, bootstrap=0)
    (axes,) = scatter(rows, result).axes
    (points,) = axes.collections
    assert np.asarray(points.get_offsets()).tolist() == [
        [r.score, r.mos] for r in rows if r.score == r.score
    ]
    equal, fit = axes.lines
    assert np.asarray(equal.get_xydata()).tolist() == [[1, 1], [5, 5]]
    assert np.all(np.diff(np.asarray(fit.get_ydata())) >= 0)
    assert np.asarray(fit.get_xdata())[[0, -1]].tolist() == [1.2, 4.6]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted score", "MOS")
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((0.92, 5.08))
    f = result.correlations
    title = f"csiq all@1\nn = 6, 1 failed, PLCC {f.plcc:.4f}, SRCC {f.srcc:.4f}"
    assert axes.get_title() == title


@pytest.mark.filterwarnings("ignore::lit_biqa.metrics.UndefinedCorrelationWarning")
@pytest.mark.parametrize("score", [3.0, 7.0, math.nan])
def test_scatter_of_what_has_no_correlation_has_no_fit(score: float) -> None:
    rows = rows_of([score] * 6, [1, 2, 3, 4, 5, 4])
    (axes,) = scatter(rows, evaluate(rows, bootstrap=0)[0]).axes
    assert len(axes.lines) == 1
    assert axes.get_xlim()[1] >= (score if score == score else 5)


def test_predict_says_how_many_were_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, PredictionWriter())
    run.predict(Tiny(), uneven_loader(0, 1), return_predictions=False)
    said = f"22 of 23 scored, 1 failed (column status says why): {tmp_path / 'predictions.csv'}"
    assert said in capsys.readouterr().out


def test_resources_are_logged(one_process: Path) -> None:
    logged = json.loads((one_process / "logged.json").read_text())
    assert logged["train/seconds"] > 0
    assert logged["train/images_per_second"] == pytest.approx(N / logged["train/seconds"], rel=1e-4)
    assert 0.05 < logged["train/peak_memory_gib"] < 100


@pytest.mark.filterwarnings("ignore:spaq")
def test_constant_predictions_are_undefined_and_never_the_best(tmp_path: Path) -> None:
    class Wakes(Tiny):
        def validation_step(  # type: ignore[override]
            self, batch: Batch, batch_idx: int
        ) -> list[Prediction]:
            self.constant = self.current_epoch != 1
            return self.rows(batch)

    best = ModelCheckpoint(tmp_path, "{epoch}", "val/srcc", mode="max", save_top_k=1)
    run = trainer(tmp_path, CorrelationReport(), best, max_epochs=3, enable_checkpointing=True)
    with pytest.warns(UndefinedCorrelationWarning, match="csiq .*predictions equal 3"):
        run.fit(Wakes(), loader(), loader())
    assert math.isnan(run.callback_metrics["val/srcc"])
    assert Path(best.best_model_path).name == "epoch=1.ckpt"


def test_a_sanity_check_reports_nothing(tmp_path: Path) -> None:
    run = trainer(tmp_path, CorrelationReport(), max_epochs=0, num_sanity_val_steps=2)
    with warnings.catch_warnings():
        # Two batches are too few images for a correlation, and nobody is to hear of it.
        warnings.simplefilter("error", UndefinedCorrelationWarning)
        run.fit(Tiny(), loader(), loader())
    assert not any(name.startswith("val/") for name in run.callback_metrics)


def test_validate_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path, CorrelationReport(20)).validate(Tiny(), loader(), verbose=False)
    printed = capsys.readouterr().out
    assert "Validation" in printed and "PLCC" in printed and "csiq" in printed
    assert not (tmp_path / "test").exists()


def test_one_table_is_printed_and_results_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = CorrelationReport(20)
    trainer(tmp_path, report).test(Tiny(), loader())
    printed = capsys.readouterr().out
    assert printed.count("┏") == 1
    srcc = {result.dataset: result.correlations.srcc for result in report.results}
    assert set(srcc) == {"csiq", "spaq", "mean"}
    for value in srcc.values():
        assert f"{value:.4f}" in printed


def test_the_table_is_printed_before_a_file_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / ".results.csv.part").symlink_to("/dev/full")
    with pytest.raises(InputError, match="No space left"):
        trainer(tmp_path, CorrelationReport(20)).test(Tiny(), loader())
    assert "mean" in capsys.readouterr().out
    assert list((tmp_path / "test").iterdir()) == []


def test_a_step_that_returns_no_predictions_is_told_so(tmp_path: Path) -> None:
    class Wrong(Tiny):
        def test_step(self, batch: Batch, batch_idx: int) -> Any:
            return torch.zeros(3)

    with pytest.raises(TypeError, match="test_step must return"):
        trainer(tmp_path, CorrelationReport()).test(Wrong(), loader())


CONFIG = "seed_everything: 1\nmodel: {class_path: m.Tiny, init_args: {width: 8}}\n"


def test_tensorboard_has_scalars_scatter_and_settings_of_the_latest_test(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    (tmp_path / "config.yaml").write_text(CONFIG)
    for conditions in (("image", "text"), ("image",)):
        report = CorrelationReport(20)
        logger = TensorBoardLogger(tmp_path, name="", version="")
        trainer(tmp_path, report, logger=logger).test(Tiny(conditions=conditions), loader())
    events = EventAccumulator(str(tmp_path / "test"))
    events.Reload()
    tags = events.Tags()
    assert {"test/csiq/srcc", "test/csiq/rmse", "test/mean/plcc"} <= set(tags["scalars"])
    # Those of the first test, which had another condition, are gone.
    assert not any("text" in tag for tag in tags["scalars"] + tags["images"])
    assert sorted(tags["images"]) == ["test/csiq", "test/spaq"]
    assert events.Scalars("test/mean/plcc")[0].value == pytest.approx(
        report.results[-1].correlations.plcc
    )
    summaries = events.SummaryMetadata
    start = metadata.parse_session_start_info_plugin_data(
        summaries("_hparams_/session_start_info").plugin_data.content
    )
    assert {k: v.number_value or v.string_value for k, v in start.hparams.items()} == {
        "seed_everything": 1,
        "model": "Tiny",
        "model.width": 8,
    }
    table = metadata.parse_experiment_plugin_data(
        summaries("_hparams_/experiment").plugin_data.content
    )
    assert sorted(info.name.tag for info in table.metric_infos) == sorted(
        f"test/{d}/{m}" for d in ("csiq", "spaq", "mean") for m in ("plcc", "srcc")
    )


def test_other_loggers_get_the_scalars(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    trainer(tmp_path, CorrelationReport(20), ResourceMeter(), logger=logger).test(Tiny(), loader())
    found: dict[str, str] = {}
    for line in lines(tmp_path / "metrics.csv"):
        found |= {name: value for name, value in line.items() if value}
    assert float(found["test/mean/n"]) == N
    assert float(found["test/images_per_second"]) > 0
    assert not list((tmp_path / "test").glob("events*"))


def test_a_log_gets_one_line_per_epoch_and_no_version_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = CSVLogger(tmp_path)
    run = trainer(tmp_path, ProgressBar(), CorrelationReport(20), ResourceMeter(), logger=logger)
    run.fit(Tiny(), loader(), loader())
    printed = capsys.readouterr().out
    epochs = [line for line in printed.splitlines() if line.startswith("Epoch")]
    assert [line.split(":")[0] for line in epochs] == ["Epoch 1/2", "Epoch 2/2"]
    for part in ("6/6", "images/s", "took 0:0", "train/loss", "val/srcc", "val/plcc"):
        assert part in epochs[0]
    assert "fit 0:0" in epochs[0] and "left" not in epochs[1]
    assert "v_num" not in printed and "Validation" not in printed
    assert "peak memory" in printed
    run.test(Tiny(), loader())
    printed = capsys.readouterr().out
    assert printed.startswith("Test: 6/6, ") and "Tested in 0:0" in printed


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
