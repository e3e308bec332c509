"""Two passes of GRPO on fixed completions: in mixed precision two processes learn what one does."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import runs
from test_grpo_runs import FSDP2, SMALL, fit, settings
from torch import Tensor

from lit_biqa.backbones.tiny_chat import TinyQwenVL

# bfloat16 keeps 8 bits: a product is off by up to 2**-8 of itself, whichever way it is cut. About
# 64 products lie between a weight and the loss, there and back (four layers of seven, and their
# attention). Errors that know nothing of each other add up as the root of their number.
BOUND = math.sqrt(64) * 2**-8
HALF = "--trainer.precision=bf16-mixed"

Change = dict[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of SGD, whose changes are gradients; Adam would blow up their rounding."""
    folder = tmp_path_factory.mktemp("half")
    wanted = settings(folder / "data")
    init = wanted["model"]["init_args"]
    init["paradigm"] = {"class_path": "scripts.Recited"}
    init["optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    init["decay"] = "none"
    wanted["trainer"] |= {"max_steps": 2, "gradient_clip_val": None}
    runs.write_settings(folder / "fit.yaml", wanted)
    runs.write_settings(folder / "fsdp.yaml", {"trainer": {"devices": 2, "strategy": FSDP2}})
    return folder


@pytest.fixture(scope="module")
def start() -> dict[str, Tensor]:
    model = TinyQwenVL(**SMALL)  # type: ignore[arg-type]
    model.load()
    return {f"backbone.{name}": weight for name, weight in model.state_dict().items()}


def learned(folder: Path, name: str, start: Change, *more: object, ranks: int = 1) -> Change:
    """Change of the weights by a fit."""
    shared = ["--config", folder / "fsdp.yaml"] if ranks > 1 else []
    run = fit(folder, name, *shared, *more, ranks=ranks)
    assert len(runs.logged(run, "train/pass1/kl")) == 2
    found = runs.weights(run / "checkpoints" / "last.ckpt")
    assert found.keys() == start.keys()
    return {name: found[name].double() - start[name].double() for name in start}


def apart(one: Change, other: Change) -> float:
    """Distance of changes, relative to their norm."""
    total = sum(float(change.square().sum()) for change in other.values())
    between = sum(float((one[name] - change).square().sum()) for name, change in other.items())
    return math.sqrt(between / total)


def test_in_float32_two_processes_learn_what_one_does(folder: Path, start: Change) -> None:
    one, two = learned(folder, "one", start), learned(folder, "two", start, ranks=2)
    assert apart(two, one) < 1e-5


def test_in_mixed_precision_they_do_up_to_its_rounding(folder: Path, start: Change) -> None:
    one = learned(folder, "half-one", start, HALF)
    two = learned(folder, "half-two", start, HALF, ranks=2)
    assert 0 < apart(two, one) < BOUND
    # The bound is far below what a pass contributes.
    dropped = "--model.init_args.paradigm.init_args.update_pass2=false"
    assert apart(learned(folder, "half-first", start, HALF, dropped), one) > 5 * BOUND
