"""A fit that a signal ends goes on, to what it would have come to: RALI, SFT and GRPO."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT, SIGTERM, SIGUSR1
from typing import Any

import pytest
import runs

TINY = {"width": 32, "layers": 2, "max_pixels": 3136}
ADAM = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003, "eps": 1e-4}}
#: Hooks at which a signal comes: before and within steps, before and within validations, in the
#: embedding that RALI begins a validation with, and while a checkpoint is written.
MOMENTS = (
    "train_batch_start",
    "before_optimizer_step",
    "train_batch_end",
    "validation_start",
    "validation_epoch_start",
    "validation_batch_start",
    "validation_batch_end",
    "validation_end",
    "save_checkpoint",
    "train_epoch_end",
)
CHAIN = 4  # stops of one fit

Stop = dict[str, Any]


def stop(moment: str, step: int, number: int, rank: int = 0, group: bool = True) -> Stop:
    return {"moment": moment, "step": step, "number": int(number), "rank": rank, "group": group}


def rali(folder: Path) -> dict[str, Any]:
    """Fifteen steps, validated after each epoch."""
    return runs.tiny_settings(folder)


def rali_alone(folder: Path) -> dict[str, Any]:
    """Ten steps, and an embedding at the end of each epoch."""
    made = runs.tiny_settings(folder)
    made["data"]["val"] = []
    made["trainer"]["max_epochs"] = 2
    return made


def _chat(folder: Path, method: str, **init: Any) -> dict[str, Any]:
    """Twelve steps, validated twice in each of two epochs; gradients of two batches gather."""
    made = runs.tiny_settings(folder)
    backbone = {"class_path": "lit_biqa.backbones.tiny_chat.TinyQwenVL", "init_args": dict(TINY)}
    readouts = [{"class_path": "lit_biqa.readouts.levels.LevelLogits"}]
    shared = {"backbone": backbone, "optimizer": ADAM, "readouts": readouts}
    made["model"] = {"class_path": f"lit_biqa.methods.{method}", "init_args": shared | init}
    made["data"] |= {"train": [str(runs.write_images(folder, "few", 24, 3))]}
    made["data"] |= {"val": [str(runs.write_images(folder, "held", 4, 4))]}
    made["data"]["loader"] |= {"batch_size": 2, "eval_batch_size": 2}
    made["trainer"] |= {"max_epochs": 2, "accumulate_grad_batches": 2, "limit_train_batches": 12}
    made["trainer"]["val_check_interval"] = 0.5
    return made


def sft(folder: Path) -> dict[str, Any]:
    return _chat(folder, "sft.SFT", task={"class_path": "lit_biqa.tasks.NameLevel"})


def grpo(folder: Path) -> dict[str, Any]:
    paradigm = {"class_path": "scripts.Plain", "init_args": {"group": 2}}
    policy = {"rows_at_once": 4}
    return _chat(folder, "grpo.GRPO", paradigm=paradigm, sampling={"budget": 6}, policy=policy)


METHODS = {"rali": rali, "rali_alone": rali_alone, "sft": sft, "grpo": grpo}
STEPS = {"rali": (15, 5), "sft": (12, 6), "grpo": (12, 6)}  # of a fit and of an epoch


class Fits:
    """Fits of one method and number of processes, and the one that nothing interrupts."""

    def __init__(self, folder: Path, method: str, ranks: int) -> None:
        self.folder, self.ranks = folder, ranks
        folder.mkdir()
        made = METHODS[method](folder / "data")
        made["trainer"] |= {"devices": ranks, "strategy": "ddp" if ranks > 1 else "auto"}
        settings = runs.write_settings(folder / "fit.yaml", made)
        self.args: list[object] = ["fit", "--config", settings, "--data.loader.num_workers=1"]
        self.whole = folder / "whole"
        runs.start([*self.args, "--run", self.whole], folder / "whole.log", ranks).succeed()

    def go_through(self, name: str, stops: Sequence[Stop]) -> None:
        """Begin, be stopped at each moment in turn, go on as is said, and come to the same end."""
        run, log = self.folder / name, self.folder / f"{name}.log"
        args: list[object] = [*self.args, "--run", run]
        for each in stops:
            args = [*runs.stopped(args, log, each, self.ranks), "--trainer.callbacks=null"]
            kept = runs.state(run / "checkpoints" / "last.ckpt")["global_step"]
            assert kept >= each["step"], (each, log.read_text())
        runs.start(args, log, self.ranks).succeed()
        assert_equal_runs(run, self.whole)


def assert_equal_runs(run: Path, whole: Path) -> None:
    for file in sorted((whole / "checkpoints").iterdir()):
        one, other = (runs.state(path / "checkpoints" / file.name) for path in (run, whole))
        for key in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers"):
            assert runs.same(one.get(key), other.get(key)), (file.name, key)
    for tag in ("train/loss", "val/srcc"):
        # What was trained is logged too: a stop cuts no step short.
        assert runs.logged(run, tag) == runs.logged(whole, tag), tag
    assert (run / "test/results.csv").read_bytes() == (whole / "test/results.csv").read_bytes()
    assert _predictions(run) == _predictions(whole)
    assert not [*run.rglob("*.part"), *run.glob(".lock")]


def _predictions(run: Path) -> list[dict[str, str]]:
    """The rows of a test, without the seconds that each took."""
    with (run / "test" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.newest
@pytest.mark.parametrize(
    ("method", "ranks", "stops"),
    [
        (
            "rali",
            1,
            [
                stop("before_optimizer_step", 2, SIGTERM),
                stop("validation_epoch_start", 5, SIGINT),
                stop("save_checkpoint", 9, SIGUSR1),
                stop("validation_batch_end", 15, SIGTERM),
                stop("test_batch_start", 15, SIGINT),
            ],
        ),
        (
            "rali_alone",
            1,
            [stop("train_epoch_end", 5, SIGTERM), stop("train_epoch_end", 10, SIGINT)],
        ),
        (
            "sft",
            1,
            [stop("train_batch_end", 1, SIGINT), stop("validation_batch_start", 9, SIGTERM)],
        ),
        ("grpo", 1, [stop("train_batch_start", 4, SIGTERM), stop("validation_start", 6, SIGUSR1)]),
        (
            "rali",
            2,
            [
                stop("train_batch_end", 3, SIGTERM, rank=1),
                stop("validation_epoch_start", 10, SIGUSR1, rank=0),
            ],
        ),
    ],
)
def test_a_stopped_fit_comes_to_the_same_end(
    method: str, ranks: int, stops: list[Stop], tmp_path: Path
) -> None:
    Fits(tmp_path / "fits", method, ranks).go_through("run", stops)


@pytest.mark.parametrize("method", ["rali", "sft", "grpo"])
def test_at_any_moment(method: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """With ``--stops 20``: so many stops, the moments and signals of which chance decides."""
    left = request.config.getoption("--stops")
    if not left:
        pytest.skip("give --stops 20 to try stops at random moments")
    draw, made = random.Random(method), 0
    fits = {ranks: Fits(tmp_path / str(ranks), method, ranks) for ranks in (1, 2)}
    while left > 0:
        ranks = draw.choice((1, 2))
        stops = draw_stops(draw, *STEPS[method], ranks, min(CHAIN, left))
        print(f"{method} on {ranks}: {stops}", flush=True)
        fits[ranks].go_through(f"run-{made}", stops)
        made, left = made + 1, left - len(stops)
        print("bit-equal", flush=True)


def draw_stops(draw: random.Random, steps: int, epoch: int, ranks: int, most: int) -> list[Stop]:
    """Stops of one fit, each at a step that the ones before have not reached yet."""
    stops: list[Stop] = []
    reached = 0
    while reached + 1 < steps and len(stops) < most:
        step = draw.randrange(reached + 1, min(reached + 1 + epoch, steps))
        moment, number = draw.choice(MOMENTS), draw.choice((SIGTERM, SIGINT, SIGUSR1))
        stops.append(stop(moment, step, number, draw.randrange(ranks), draw.random() < 0.5))
        # The running step is finished; what comes once in an epoch comes at its end at the latest.
        often = moment in ("train_batch_start", "before_optimizer_step", "train_batch_end")
        reached = step + 1 if often else -(-step // epoch) * epoch
    return stops
