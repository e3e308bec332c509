"""Supervised fine-tuning: its losses against torch's own, and whole runs of every task."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import runs
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.methods.sft import SFT, likelihood, share
from lit_biqa.methods.soft_levels import SoftLevels, pairs
from lit_biqa.tasks import Describe, NameLevel
from lit_biqa.text import prompts
from lit_biqa.text.levels import LEVELS, soft_labels
from lit_biqa.types import Batch, InputError, ask


@pytest.fixture(scope="module", params=[TinyMplugOwl2, TinyQwenVL])
def model(request: pytest.FixtureRequest) -> VisionLanguageModel:
    made: VisionLanguageModel = request.param(width=32, layers=2)
    made.load()
    return made


def shown(model: VisionLanguageModel, count: int) -> list[Tensor]:
    shape = (3, 56, 56) if isinstance(model, TinyMplugOwl2) else (4, 6, 1176)
    return list(torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)))


def test_the_loss_is_torchs_own_on_answer_tokens(model: VisionLanguageModel) -> None:
    """Equation 2: value and gradients, over rows of unequal length, with and without image."""
    (pixels,) = shown(model, 1)
    chats = [ask(prompts.PATHWAY, pixels), ask(prompts.conclude("Dark."), opening="It is")]
    answers = ["The image is sharp and bright.", "poor."]
    inputs = model.encode(chats, answers)
    model.zero_grad()
    (model(likelihood, inputs, 0.1) * share(inputs)).backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    rows = []
    for chat, answer in zip(chats, answers, strict=True):
        alone = model.encode([chat], [answer])
        assert alone.labels is not None
        logits = model.head(model.hidden(alone).last_hidden_state)[0, :-1]
        learned = alone.labels[0, 1:] >= 0
        said = [*model.answer(chat, answer), model.end[0]]
        assert alone.labels[0, 1:][learned].tolist() == said
        rows.append((logits[learned], alone.labels[0, 1:][learned]))
    logits, labels = (torch.cat(parts) for parts in zip(*rows, strict=True))
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    expected.backward()  # type: ignore[no-untyped-call]
    loss = model(likelihood, inputs, 0.1) * share(inputs)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-4)


def labelled(model: VisionLanguageModel) -> Batch:
    columns = {
        "pixels": shown(model, 4),
        "mos": torch.tensor([1.4, 4.6, 3.1, 2.2]),
        "std": torch.tensor([0.5, 0.6, float("nan"), 0.7]),
        "index": torch.arange(4),
        "dataset": ["koniq10k", "spaq", "koniq10k", "koniq10k"],
    }
    return Batch(**columns)  # type: ignore[typeddict-item, no-any-return]


def test_soft_levels_are_those_of_deqa_over_both_images_of_each_pair(
    model: VisionLanguageModel,
) -> None:
    """DeQA-Score's code runs the first images of all pairs, then the second, and adds the losses.

    Each run gives the mean cross-entropy of the words without the level, and ``kl_div`` over the
    whole vocabulary; the pairs give the fidelity. Restated with torch's own functions, on labels
    that its authors publish.
    """
    batch = labelled(model)
    batch["dataset"] = ["kadid10k"] * 4
    batch["mos"], batch["std"], labels = published_labels()
    examples = NameLevel().examples(batch)
    chats, answers = [e.chat for e in examples], [e.answer for e in examples]
    loss, parts = SoftLevels()(model, model.encode(chats, answers), examples, batch)
    ids = [model.tokenize(f"{prompts.QUALITY_OPENING} {level}")[-1] for level in LEVELS]
    opening = len(model.tokenize(prompts.QUALITY_OPENING))

    def run(rows: list[int]) -> tuple[Tensor, Tensor]:
        logits, words = [], []
        for row in rows:
            alone = model.encode([chats[row]], [answers[row]])
            assert alone.labels is not None
            learned = alone.labels[0, 1:] >= 0
            logits.append(model.head(model.hidden(alone).last_hidden_state)[0, :-1][learned])
            words.append(alone.labels[0, 1:][learned])
        all_logits, all_words = torch.stack(logits), torch.stack(words)
        others = torch.arange(all_words.shape[1]) != opening
        entropy = F.cross_entropy(
            all_logits[:, others].flatten(0, 1), all_words[:, others].flatten()
        )
        at_level = all_logits[:, opening]
        target = torch.zeros_like(at_level)
        target[:, ids] = labels[rows]
        divergence = F.kl_div(at_level.log_softmax(1), target, reduction="batchmean")
        scores = at_level[:, ids].softmax(1) @ torch.arange(1.0, 6.0)
        return entropy + divergence, scores

    first, second = [0, 1, 2, 3], [1, 2, 3, 0]
    (loss_a, scores_a), (loss_b, scores_b) = run(first), run(second)
    mos, variance = batch["mos"], batch["std"] ** 2
    said = (1 + torch.erf((scores_a - scores_b) / 2)) / 2
    spread = (2 * (variance[first] + variance[second])).sqrt()
    people = (1 + torch.erf((mos[first] - mos[second]) / spread)) / 2
    fidelity = (1 - (said * people).sqrt() - ((1 - said) * (1 - people)).sqrt()).mean()
    expected = fidelity + 0.05 * (loss_a + loss_b)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert set(parts) == {"likelihood", "divergence", "fidelity"}


def published_labels() -> tuple[Tensor, Tensor, Tensor]:
    """MOS, deviations and labels from bad to excellent, of DeQA-Score's training list of KADID-10k.

    The last image is made up: where raters agree, the label is on the two levels beside the MOS.
    """
    mos = torch.tensor([4.633588, 4.389313, 2.699746, 3.5])
    std = torch.tensor([0.716817, 0.948806, 0.904078, 0.1])
    labels = [
        [0, 0, 0.0309912502, 0.4356849944, 0.570712997],
        [0, 0, 0.1548012606, 0.4754675459, 0.4163569551],
        [0.0704665496, 0.3344933965, 0.4294681615, 0.1559717431, 0.0096001493],
        [0, 0, 0.5, 0.5, 0],
    ]
    return mos, std, torch.tensor(labels)


class Spoken:
    """A model of two images with these probabilities of bad to excellent and of another word."""

    words = torch.tensor([[0.05, 0.05, 0.1, 0.4, 0.3, 0.1], [0.05, 0.3, 0.4, 0.1, 0.05, 0.1]])

    def __call__(self, *_: Any) -> tuple[Tensor, Tensor]:
        """Likelihood 2 of the other words, and logits at the level."""
        return torch.tensor(2.0), self.words.log()

    def tokens(self, _: Any) -> list[int]:
        return [0, 1, 2, 3, 4]


def test_soft_levels_by_hand() -> None:
    """The numbers of DeQA-Score's formulas for the pairs (A, B) and (B, A), with its weights.

    Level: Σ t ln(t / p) is .0676 + .0822 + .1365 = .2863 of A and .0242 + .0364 + .0305 + .0693
    - .0158 = .1446 of B, .2154 in the mean. With a likelihood of 2 an image of a pair has 2.2154;
    two of them times .05 are .2215, and one mean over all images would be half of it, .1108.

    Fidelity: scores are 3.55 / .9 = 3.9444 and 2.5 / .9 = 2.7778, Φ(1.1667 / √2) = .7953; of the
    raters Φ(1.6896 / √(.9002 + .8174)) = .9013. 1 - √(.7953 · .9013) - √(.2047 · .0987) = .0112.
    """
    mos, std, _ = published_labels()
    columns = {"mos": mos[1:3], "std": std[1:3], "dataset": ["kadid10k"] * 2}
    spoken, objective = Spoken(), SoftLevels()
    objective.words = spoken  # type: ignore[assignment]
    inputs: Any = SimpleNamespace(ids=torch.zeros(2, 1, dtype=torch.long))
    examples: Any = [SimpleNamespace(level="good"), SimpleNamespace(level="fair")]
    model: Any = spoken
    loss, parts = objective(model, inputs, examples, Batch(**columns))  # type: ignore[typeddict-item]
    assert parts["divergence"].item() == pytest.approx(0.2154, abs=1e-4)
    assert parts["fidelity"].item() == pytest.approx(0.0112, abs=1e-4)
    assert (loss - parts["fidelity"]).item() == pytest.approx(0.2215, abs=1e-4)


def test_an_image_without_a_deviation_gets_two_point_labels(model: VisionLanguageModel) -> None:
    batch = labelled(model)
    labels = SoftLevels().labels(batch["mos"], batch["std"])
    assert labels[2].tolist() == pytest.approx([0, 0, 0.9, 0.1, 0], abs=1e-6)
    rated = [0, 1, 3]
    expected = soft_labels(batch["mos"][rated], batch["std"][rated], "pdf")
    torch.testing.assert_close(labels[rated], expected)


def test_images_are_paired_within_their_data_set() -> None:
    assert pairs(["a", "b", "a", "a", "c"]) == ([0, 2, 3], [2, 3, 0])
    assert pairs(["a", "b"]) == ([], [])


def test_soft_levels_need_a_level(model: VisionLanguageModel) -> None:
    batch = labelled(model)
    batch["text"] = ["It is dark."] * 4
    examples = Describe().examples(batch)
    inputs = model.encode([e.chat for e in examples], [e.answer for e in examples])
    with pytest.raises(InputError, match="a task that names a level"):
        SoftLevels()(model, inputs, examples, batch)


# Whole runs ---------------------------------------------------------------------------------------

TINY = {
    "mplug_owl2": "lit_biqa.backbones.tiny_chat.TinyMplugOwl2",
    "qwen_vl": "lit_biqa.backbones.tiny_chat.TinyQwenVL",
}


def settings(folder: Path, task: str, backbone: str, *readouts: str) -> dict[str, Any]:
    adam = {"lr": 0.003, "betas": [0.9, 0.98], "eps": 1e-4}
    init = {
        "backbone": {"class_path": TINY[backbone], "init_args": {"width": 32, "layers": 2}},
        "task": {"class_path": f"lit_biqa.tasks.{task}"},
        "readouts": [_readout(name) for name in readouts],
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": adam},
    }
    return {
        "model": {"class_path": "lit_biqa.methods.sft.SFT", "init_args": init},
        "data": {
            "train": [str(runs.write_images(folder, "train", 12, 0))],
            "val": [str(runs.write_images(folder, "val", 4, 1))],
            "test": [str(runs.write_images(folder, "test", 5, 2))],
            "loader": {
                "batch_size": 4,
                "eval_batch_size": 2,
                "num_workers": 0,
                "group_by_length": True,
            },
        },
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "log_every_n_steps": 1},
        "report": {"bootstrap": 0},
        "checkpoint": {"monitor": "val/loss", "mode": "min"},
    }


def _readout(name: str) -> dict[str, Any]:
    speaks = name in ("TwoPass", "OnePass", "GeneratedWord")
    short = {"sampling": {"temperature": 0.0, "budget": 5}} if speaks else {}
    return {"class_path": f"lit_biqa.readouts.levels.{name}", "init_args": short}


def fit(folder: Path, name: str, made: dict[str, Any], *more: object, ranks: int = 1) -> Path:
    file = runs.write_settings(folder / f"{name}.yaml", made)
    args = ["fit", "--config", file, "--run", folder / name, *more]
    runs.start(args, folder / f"{name}.log", ranks).succeed()
    return folder / name


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "test" / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("backbone", "task", "readouts"),
    [
        ("mplug_owl2", "DescribeAndConclude", ("OnePass", "GeneratedWord")),
        ("qwen_vl", "DescribeAndConclude", ("OnePass",)),
        ("qwen_vl", "NameLevel", ("LevelLogits",)),
    ],
)
def test_tasks_are_trained_and_tested(
    tmp_path: Path, backbone: str, task: str, readouts: tuple[str, ...]
) -> None:
    run = fit(tmp_path, "run", settings(tmp_path, task, backbone, *readouts))
    losses = runs.logged(run, "train/loss")
    assert list(losses.values())[-1] < next(iter(losses.values()))
    assert runs.logged(run, "val/loss")
    found = rows(run)
    assert len(found) == 5 * len(readouts)
    assert {row["condition"] for row in found} == {"one-pass", "word", "image"} & {
        *(row["condition"] for row in found)
    }


def test_two_stages_hand_over_a_folder_of_weights(tmp_path: Path) -> None:
    """The second starts from what the first wrote, and sees no image: its own may be gone."""
    first = settings(tmp_path, "Describe", "mplug_owl2")
    first["data"]["test"] = []
    described = fit(tmp_path, "describe", first)
    assert "trained" in (tmp_path / "describe.log").read_text()
    second = settings(tmp_path, "Conclude", "mplug_owl2", "FromDescription")
    second["model"]["init_args"]["backbone"] = {
        "class_path": "lit_biqa.backbones.owl2.MplugOwl2",
        "init_args": {"pretrained": str(described / "weights"), "tuning": {"parts": ["language"]}},
    }
    for image in tmp_path.glob("*.png"):
        image.unlink()
    concluded = fit(tmp_path, "conclude", second)
    one, two = (load_file(run / "weights" / "model.safetensors") for run in (described, concluded))
    assert one.keys() == two.keys()
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    assert changed
    assert not any("vision" in name or "visual" in name for name in changed)
    assert all(row["status"] == "ok" for row in rows(concluded))


def test_images_that_only_a_readout_sees_are_not_opened_to_train(tmp_path: Path) -> None:
    made = settings(tmp_path, "Conclude", "mplug_owl2", "TwoPass")
    made["data"]["val"] = []
    for image in tmp_path.glob("train-*.png"):
        image.write_bytes(b"no image")
    assert len(rows(fit(tmp_path, "run", made))) == 5


def talk(folder: Path) -> dict[str, Any]:
    """Conversations, every third with an image; the last batch of an epoch may have none."""
    records = []
    for number in range(12):
        asked = f"Is image {number} sharp?"
        record: dict[str, Any] = {"id": str(number)}
        if number % 3 == 0:
            record["image"], asked = f"train-{number}.png", f"<image>{asked}"
        said = {"from": "gpt", "value": f"It is {'sharp' if number % 2 else 'blurred'}."}
        records.append(record | {"conversations": [{"from": "human", "value": asked}, said]})
    (folder / "talk.json").write_text(json.dumps(records))
    return {
        "train": ["conversations"],
        "sets": {"conversations": {"file": str(folder / "talk.json"), "images": str(folder)}},
    }


def mixed(folder: Path, backbone: str = "mplug_owl2") -> dict[str, Any]:
    """Rows with and without image together: what one rank does not see, the other may."""
    made = settings(folder, "Converse", backbone)
    made["data"] |= talk(folder)
    made["data"]["loader"]["batch_size"] = 2
    return made


def text_alone(folder: Path) -> dict[str, Any]:
    """Recipe sft/conclude.yaml: what images alone pass through gets no gradient."""
    made = settings(folder, "Conclude", "mplug_owl2")
    made["model"]["init_args"]["backbone"]["init_args"]["tuning"] = {"parts": ["language"]}
    return made


def soft(folder: Path) -> dict[str, Any]:
    """Recipe sft/deqa.yaml: images are paired with those of other ranks."""
    made = settings(folder, "NameLevel", "qwen_vl", "LevelLogits")
    made["model"]["init_args"]["soft_levels"] = {
        "class_path": "lit_biqa.methods.soft_levels.SoftLevels"
    }
    return made


def imitate(folder: Path) -> dict[str, Any]:
    """Recipe grpo/small_warmup.yaml: texts with caption and reasoning in tags, in two forms."""
    made = settings(folder, "Imitate", "qwen_vl")
    made["model"]["init_args"]["task"]["init_args"] = {"forms": ["score", "both"]}
    for name in ("train", "val"):
        lines = (folder / f"{name}.csv").read_text().splitlines()
        tagged = (
            re.sub("([^,]*)$", r"<caption>\1</caption><think>\1</think>", x) for x in lines[1:]
        )
        (folder / f"{name}.csv").write_text("\n".join([lines[0], *tagged]))
    return made


#: Settings of every task that a recipe has, by name.
KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "converse": mixed,
    "converse with qwen": partial(mixed, backbone="qwen_vl"),
    "conclude": text_alone,
    "deqa": soft,
    "describe": partial(settings, task="Describe", backbone="qwen_vl"),
    "one stage": partial(settings, task="DescribeAndConclude", backbone="mplug_owl2"),
    "imitate": imitate,
    "qalign": partial(settings, task="NameLevel", backbone="mplug_owl2"),
}
TWO = {"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False}
STRATEGIES: dict[str, Any] = {
    "ddp": "ddp",
    "fsdp": {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": TWO,
    },
}


@pytest.fixture(scope="module", params=KINDS)
def alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("kind")
    made = KINDS[request.param](folder)
    made["data"]["val"] = []
    if not made["model"]["init_args"]["readouts"]:
        made["data"]["test"] = []
    return fit(folder, "alone", made), made


@pytest.mark.newest
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_do_what_one_does(alone: tuple[Path, dict[str, Any]], strategy: str) -> None:
    run, made = alone
    made = made | {"trainer": made["trainer"] | {"devices": 2, "strategy": STRATEGIES[strategy]}}
    other = fit(run.parent, strategy, made, ranks=2)
    expected = runs.logged(run, "train/loss")
    assert len(expected) >= 3
    assert runs.logged(other, "train/loss") == pytest.approx(expected, abs=1e-5)
    if made["data"]["test"]:
        for one, two in zip(rows(run), rows(other), strict=True):
            assert float(two["score"]) == pytest.approx(float(one["score"]), abs=1e-4)
    both = [load_file(each / "weights" / "model.safetensors") for each in (run, other)]
    assert max((both[0][name] - both[1][name]).abs().max() for name in both[0]) < 1e-5


def test_what_cannot_be_learned_is_said_before_weights_load(tmp_path: Path) -> None:
    made = settings(tmp_path, "Converse", "qwen_vl")
    made["data"]["test"] = []
    # Of which no decoder can be made.
    made["model"]["init_args"]["backbone"]["init_args"]["heads"] = 3
    file = runs.write_settings(tmp_path / "bad.yaml", made)
    run = runs.start(["fit", "--config", file, "--run", tmp_path / "run"], tmp_path / "log")
    assert run.wait() == 2
    assert "none of 12 train samples suits Converse" in run.printed
    assert not (tmp_path / "run").exists()


def test_a_text_longer_than_the_context_is_said_before_weights_load(tmp_path: Path) -> None:
    made = settings(tmp_path, "Describe", "qwen_vl")
    made["data"]["test"] = []
    made["model"]["init_args"]["backbone"]["init_args"] |= {"heads": 3, "context": 8}
    file = runs.write_settings(tmp_path / "bad.yaml", made)
    run = runs.start(["fit", "--config", file, "--run", tmp_path / "run"], tmp_path / "log")
    assert run.wait() == 2
    assert "tokens, and the context has 8 for text" in run.printed


def test_a_word_set_that_is_not_single_tokens_is_said_before_weights_load(tmp_path: Path) -> None:
    made = settings(tmp_path, "NameLevel", "mplug_owl2", "LevelLogits")
    words = {"scores": {"magnificent": 5.0, "poor": 1.0}}
    made["model"]["init_args"]["readouts"][0]["init_args"]["words"] = words
    file = runs.write_settings(tmp_path / "bad.yaml", made)
    run = runs.start(["fit", "--config", file, "--run", tmp_path / "run"], tmp_path / "log")
    assert run.wait() == 2
    assert "magnificent of the word set magnificent, poor are no single tokens" in run.printed


def test_conditions_must_differ() -> None:
    from lit_biqa.readouts.levels import LevelLogits

    with pytest.raises(InputError, match="need different conditions"):
        SFT(TinyQwenVL(), NameLevel(), lambda _: None, [LevelLogits(), LevelLogits()])  # type: ignore[arg-type, return-value]


def test_a_checkpoint_of_another_tuning_is_refused() -> None:
    model = TinyQwenVL(width=32, layers=1, tuning=Tuning("lora", parts=("language",), rank=2))
    method = SFT(model, NameLevel(), lambda _: None)  # type: ignore[arg-type, return-value]
    method.load()
    checkpoint: dict[str, Any] = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    method.on_load_checkpoint(checkpoint)
    checkpoint["state_dict"].popitem()
    with pytest.raises(InputError, match="holds other weights than the LoRA updates"):
        method.on_load_checkpoint(checkpoint)
