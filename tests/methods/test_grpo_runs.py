"""GRPO from the command line: killed and resumed, on two processes, and with bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import runs
import torch

from lit_biqa.backbones.tiny_chat import TinyQwenVL

SMALL = {"vocabulary": 300, "width": 32, "layers": 2, "max_pixels": 3136}
FSDP2 = {
    "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
    "init_args": {
        "data_parallel_size": 2,
        "tensor_parallel_size": 1,
        "save_distributed_checkpoint": False,
    },
}

MATCHED = (
    "--model.init_args.readouts=[{{class_path: lit_biqa.readouts.ratings.Rated, "
    "init_args: {{protocol: matched, texts: %s}}}}]"
)


def settings(folder: Path, **paradigm: Any) -> dict[str, Any]:
    """Two passes of a random model, all its vowels rewarded; three steps of 2 images an epoch."""
    named = {"class_path": "scripts.Plain", "init_args": {"group": 2, **paradigm}}
    init = {
        "backbone": {
            "class_path": "lit_biqa.backbones.tiny_chat.TinyQwenVL",
            "init_args": dict(SMALL),
        },
        "paradigm": named,
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003, "eps": 1e-4}},
        "sampling": {"budget": 8},
        "policy": {"beta": 0.1, "rows_at_once": 3},
        "rollouts": {"table_every": 2},
    }
    return {
        "model": {"class_path": "lit_biqa.methods.grpo.GRPO", "init_args": init},
        "data": {
            "train": [str(runs.write_images(folder, "train", 7, 0))],
            "val": [],
            "test": [],
            "loader": {"batch_size": 2, "num_workers": 0},
        },
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "gradient_clip_val": 0.5,
            "log_every_n_steps": 1,
        },
        "report": {"bootstrap": 0},
    }


def fit(folder: Path, name: str, *more: object, ranks: int = 1) -> Path:
    run = folder / name
    args = ["fit", "--config", folder / "fit.yaml", "--run", run, *more]
    runs.start(args, folder / f"{name}.log", ranks).succeed()
    return run


@pytest.mark.newest
@pytest.mark.parametrize("how", ["full", "lora"])
def test_killed_and_resumed(how: str, tmp_path: Path) -> None:
    """Within an epoch, and between two updates on what was said once."""
    wanted = settings(tmp_path / "data")
    wanted["model"]["init_args"]["backbone"]["init_args"]["tuning"] = {"how": how, "rank": 4}
    wanted["model"]["init_args"]["policy"]["iterations"] = 2 if how == "full" else 1
    runs.write_settings(tmp_path / "fit.yaml", wanted)
    whole, run = fit(tmp_path, "whole"), tmp_path / "run"
    args = ["fit", "--config", tmp_path / "fit.yaml", "--run", run]
    args += ["--checkpoint.every_n_steps=1"]
    runs.killed(args, tmp_path / "log", "train_batch_end", 3 if how == "full" else 2)
    runs.start([*args, "--ckpt_path=last"], tmp_path / "log").succeed()
    one, other = (runs.state(path / "checkpoints" / "last.ckpt") for path in (run, whole))
    assert one["global_step"] == other["global_step"] == (6 if how == "full" else 3)
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert runs.same(one[key], other[key]), key
    assert not any("reference" in name for name in one["state_dict"])
    kl = runs.logged(whole, "train/pass1/kl")
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[max(kl)] > 1e-6
    for tag in ("train/loss", "train/reward", "train/pass1/kl", "train/pass2/ratio"):
        losses, expected = (runs.logged(path, tag) for path in (run, whole))
        assert losses and losses.items() <= expected.items(), tag
    if how == "full":
        assert abs(runs.logged(whole, "train/pass1/ratio")[1] - 1) > 1e-6


def test_both_passes_learn(tmp_path: Path) -> None:
    wanted = settings(tmp_path / "data", group=8, second=4)
    policy = {"beta": 0.001, "rows_at_once": 16}
    wanted["model"]["init_args"] |= {"policy": policy, "sampling": {"budget": 12}}
    wanted["trainer"]["max_epochs"] = 3
    runs.write_settings(tmp_path / "fit.yaml", wanted)
    run = fit(tmp_path, "run")
    for slot in ("score", "format"):
        shares = list(runs.logged(run, f"train/reward/{slot}").values())
        assert sum(shares[-2:]) > sum(shares[:2]) + 0.1, slot


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    runs.write_settings(folder / "fit.yaml", settings(folder / "data"))
    checked = {"callbacks": [{"class_path": "runs.ReferenceIsSharded"}]}
    sharded = {"devices": 2, "strategy": FSDP2} | checked
    runs.write_settings(folder / "fsdp.yaml", {"trainer": sharded})
    runs.write_settings(folder / "ddp.yaml", {"trainer": {"devices": 2, "strategy": "ddp"}})
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    return fit(folder, "alone")


@pytest.mark.newest
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_do_what_one_does(strategy: str, folder: Path, alone: Path) -> None:
    run = fit(folder, strategy, "--config", folder / f"{strategy}.yaml", ranks=2)
    for tag in ("train/loss", "train/reward", "train/pass1/length", "train/zero_variance"):
        logged, expected = runs.logged(run, tag), runs.logged(alone, tag)
        assert len(expected) == 3
        assert logged == pytest.approx(expected, abs=1e-5), tag
    one, two = (runs.weights(path / "checkpoints" / "last.ckpt") for path in (alone, run))
    assert one.keys() == two.keys()
    furthest = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert furthest < 1e-4


def test_validation_rewards_of_two_processes_are_those_of_one(folder: Path) -> None:
    """Three images, one of which two processes see twice."""
    init = "--model.init_args."
    more = [f"{init}paradigm=lit_biqa.paradigms.Score", MATCHED.format() % "[]"]
    more += [f"{init}paradigm.format.reward=scripts.Vowels"]
    more += [f"{init}readouts.init_args.sampling={{temperature: 0.0, budget: 8}}"]
    more += [f"--data.val=['{runs.write_images(folder / 'data', 'val', 3, 1)}']"]
    more += ["--data.loader.eval_batch_size=2"]
    one = fit(folder, "validated", *more)
    two = fit(folder, "both", *more, "--config", folder / "ddp.yaml", ranks=2)
    for slot in ("score", "format"):
        (value,) = runs.logged(one, f"val/reward/{slot}").values()
        (other,) = runs.logged(two, f"val/reward/{slot}").values()
        assert other == pytest.approx(value, abs=1e-6) and (value > 0) == (slot == "format")


def test_what_is_logged(alone: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(alone))
    log.Reload()
    passes = [f"pass{n}/{name}" for n in (1, 2) for name in ("length", "truncated", "ratio", "kl")]
    phases = [f"seconds/{phase}" for phase in ("rollout", "reference", "loss")]
    others = ["reward/score", "reward/format", "zero_variance", "leaks", "nothing_handed"]
    for name in ("loss", "grad_norm", "reward", *passes, *phases, *others):
        assert f"train/{name}" in log.Tags()["scalars"], name
    (tag,) = [tag for tag in log.Tags()["tensors"] if tag.startswith("rollouts")]
    tables = [event.tensor_proto.string_val[0].decode() for event in log.Tensors(tag)]
    assert len(tables) == 2 and tables[0].startswith("image | MOS | reward | score")
    assert tables[0].count("\n") == 5


def test_the_second_pass_alone_on_two_processes(folder: Path) -> None:
    """Nothing is learned of the image tower, and nobody waits for its gradients."""
    more = ["--model.init_args.paradigm.init_args.update_pass1=false"]
    one = fit(folder, "one", *more)
    two = fit(folder, "two", *more, "--config", folder / "fsdp.yaml", ranks=2)
    logged = runs.logged(two, "train/loss")
    assert logged == pytest.approx(runs.logged(one, "train/loss"), abs=1e-5) and len(logged) == 3
    ours, theirs = (runs.weights(run / "checkpoints" / "last.ckpt") for run in (one, two))
    model = TinyQwenVL(**SMALL)  # type: ignore[arg-type]
    model.load()
    start = {f"backbone.{name}": weight for name, weight in model.state_dict().items()}
    for name, weight in ours.items():
        assert torch.allclose(theirs[name], weight, atol=1e-4), name
        assert torch.equal(weight, start[name]) == ("visual" in name), name


def test_a_fit_that_learns_nothing_says_so(folder: Path, tmp_path: Path) -> None:
    """No answer of a random model has a rating: all earn 0."""
    score = "--model.init_args.paradigm=lit_biqa.paradigms.Score"
    args = ["fit", "--config", folder / "fit.yaml", "--run", tmp_path / "run", score]
    more = ["--model.init_args.paradigm.init_args.group=2", "--trainer.max_epochs=7"]
    run = runs.start([*args, *more], tmp_path / "log")
    run.succeed()
    assert "Nothing was learned: in none of 21 steps did the completions" in run.printed
    # All 2 answers to each of 42 images, counted; said at once, and last of all.
    assert "none of the 4 answers of the first step holds a rating" in run.printed
    assert "and 84 of 84 answers held no rating; this is why the loss is 0" in run.printed
    end = run.printed[run.printed.rindex("fit took ") :].splitlines()
    assert end[-3].startswith("Nothing was learned") and "lit_biqa test" not in "".join(end)
    assert run.printed.count("for 20 steps all completions of each group") == 1
    assert "train/reward 0, train/zero_variance 1" in run.printed


@pytest.mark.newest
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([MATCHED % "[]"], "Rated in model.readouts reads nothing: its answers hold no rating"),
        (["--data.test={images}"], "no readout gives a score: name one in model.readouts"),
        (["--model.init_args.backbone.init_args.context=200"], "positions, the context has 200"),
        (["--model.init_args.sampling.budget=3000"], "and 3000 to be written"),
        (
            ["--model.init_args.policy.iterations=2", "--trainer.accumulate_grad_batches=2"],
            "set one to 1",
        ),
    ],
)
def test_bad_settings(change: list[str], message: str, folder: Path, tmp_path: Path) -> None:
    change = [each.format(images=f"[{folder / 'data' / 'train.csv'}]") for each in change]
    args = ["fit", "--config", folder / "fit.yaml", "--run", tmp_path / "run", *change]
    run = runs.start(args, tmp_path / "log")
    assert run.wait() == 2, run.printed
    assert message in run.printed and "Traceback" not in run.printed
