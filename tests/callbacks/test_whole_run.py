"""Fit, test and predict with all callbacks: figures and files, on one process and on two."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from known_scores import (
    BROKEN,
    MOS,
    SCORES,
    SECONDS,
    N,
    Tiny,
    dataset_of,
    lines,
    loader,
    trainer,
    uneven_loader,
)
from scipy import stats
from torch.multiprocessing.spawn import start_processes

from lit_biqa.callbacks import CorrelationReport, PredictionWriter, ResourceMeter
from lit_biqa.distributed import leave_group


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
    leave_group()


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
    (_, timed) = lines(tmp_path / "test" / "costs.csv")
    assert int(timed["images"]) >= N and float(timed["seconds_per_image"]) == SECONDS
    logged = [json.loads((f / "logged.json").read_text()) for f in (tmp_path, one_process)]
    for two, one in zip(*(sorted(each.items()) for each in logged), strict=True):
        if one[0].startswith("val/"):
            assert two == one


def test_results_are_those_of_scipy_without_the_image_that_failed(one_process: Path) -> None:
    found = lines(one_process / "test" / "results.csv")
    keys = [(line["dataset"], line["condition"]) for line in found]
    sets, gap = ("csiq", "spaq"), "image - text"
    rows = [(d, c) for d in sets for c in ("image", "text")]
    means = [("mean", condition) for condition in ("image", gap, "text")]
    assert keys == [*rows, *((d, gap) for d in sets), *means]
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


def test_resources_are_logged(one_process: Path) -> None:
    logged = json.loads((one_process / "logged.json").read_text())
    assert logged["train/seconds"] > 0
    assert logged["train/images_per_second"] == pytest.approx(N / logged["train/seconds"], rel=1e-4)
    assert 0.05 < logged["train/peak_memory_gib"] < 100


def test_costs_are_written(one_process: Path) -> None:
    (fit,) = lines(one_process / "costs.csv")
    assert (fit["what"], int(fit["images"])) == ("train", 2 * N)
    assert float(fit["hours_per_epoch"]) == pytest.approx(float(fit["seconds"]) / 7200, abs=1e-6)
    test, text = lines(one_process / "test" / "costs.csv")
    for line in (fit, test, text):
        assert line["device"] == f"CPU, {torch.get_num_threads()} threads"
        assert f"torch {torch.__version__}" in line["versions"]
    assert (test["what"], int(test["images"])) == ("test", N)
    assert float(test["seconds"]) > 0 and 0.05 < float(test["peak_memory_gib"]) < 100
    assert (text["what"], int(text["images"]), float(text["seconds"])) == ("text", N, N * SECONDS)
    assert float(text["seconds_per_image"]) == SECONDS
