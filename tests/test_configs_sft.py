"""Every recipe of supervised fine-tuning is run, on backbones a million times smaller."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import runs
from conftest import REPOSITORY
from llavas import write_internvl, write_llava_onevision
from timm_chats import network_folder

from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of

CONFIGS = REPOSITORY / "configs"
BACKBONE = "--model.init_args.backbone.init_args."
SHORT = ["--trainer.max_steps=2", "--trainer.precision=32-true", "--trainer.accelerator=cpu"]
SHORT += [
    "--trainer.log_every_n_steps=1",
    "--data.loader.num_workers=0",
    "--report.bootstrap=0",
    "--data.loader.batch_size=4",
]


def spoken(*names: str) -> str:
    """Readouts that say little."""
    short = "init_args: {sampling: {budget: 4}}"
    listed = (f"{{class_path: lit_biqa.readouts.levels.{name}, {short}}}" for name in names)
    return f"--model.init_args.readouts=[{', '.join(listed)}]"


SHORT_RATING = (
    "--model.init_args.readouts=[{class_path: lit_biqa.readouts.ratings.Rated, init_args: "
    "{protocol: matched, paradigm: {class_path: lit_biqa.paradigms.Score}, texts: [], "
    "sampling: {budget: 4}}}]"
)


def saved(model: VisionLanguageModel, folder: Path) -> Path:
    """A folder as checkpoints come, with random weights."""
    model.load()
    model.save(folder, state_of(model))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of four families, feedbacks on images, and a data set with MOS."""
    folder = tmp_path_factory.mktemp("sft")
    # 64 wide: less cannot be held in 4 bits.
    saved(TinyMplugOwl2(width=64, layers=2), folder / "owl")
    saved(TinyQwenVL(width=64, layers=2), folder / "qwen")
    # 512 tokens: with fewer some of the levels are several.
    write_internvl(folder / "internvl", vocabulary=512)
    write_llava_onevision(folder / "llava_onevision", vocabulary=512)
    for name, count in (("train", 10), ("test", 4)):
        runs.write_images(folder, name, count, 0)
    levels = ("poor", "average", "good", "very good")
    records = []
    for number in range(10):
        said = (
            f"It has grain {number}. Therefore, the quality of this image is {levels[number % 4]}."
        )
        turns = [
            {"from": "human", "value": "<image>Describe and evaluate the image."},
            {"from": "gpt", "value": said},
        ]
        records.append({"image": f"train-{number}.png", "conversations": turns})
    (folder / "feedbacks.json").write_text(json.dumps(records))
    return folder


def fit(folder: Path, recipe: str, name: str, *more: object) -> Path:
    data: Sequence[str] = [
        f"--data.train=['{folder}/train.csv']",
        f"--data.test=['{folder}/test.csv']",
    ]
    if recipe in ("describe", "conclude", "one_stage"):
        data = [f"--data.sets.conversations.file={folder}/feedbacks.json"]
        data += [
            f"--data.sets.conversations.images={folder}",
            "--data.sets.conversations.samples=10",
        ]
        data += ["--data.sets.conversations.train=8"]
    args = ["fit", "--config", CONFIGS / f"sft/{recipe}.yaml", *more, *SHORT, *data]
    start = (
        [] if "pretrained" in " ".join(map(str, more)) else [f"{BACKBONE}pretrained={folder}/owl"]
    )
    runs.start([*args, *start, "--run", folder / name], folder / f"{name}.log").succeed()
    return folder / name


def test_two_stages(folder: Path) -> None:
    described = fit(folder, "describe", "described")
    assert not (described / "test").exists()
    weights = f"{BACKBONE}pretrained={described}/weights"
    concluded = fit(folder, "conclude", "concluded", weights, spoken("TwoPass"))
    assert "two-pass" in (concluded / "test" / "results.csv").read_text()


def test_one_stage(folder: Path) -> None:
    run = fit(folder, "one_stage", "one_stage", spoken("OnePass", "GeneratedWord"))
    assert "one-pass" in (run / "test" / "results.csv").read_text()


@pytest.mark.parametrize("recipe", ["qalign", "deqa"])
def test_levels(folder: Path, recipe: str) -> None:
    run = fit(folder, recipe, recipe)
    assert (run / "test" / "results.csv").read_text().count("\n") >= 2
    parts = {"train/fidelity", "train/divergence"} if recipe == "deqa" else {"train/loss"}
    assert all(runs.logged(run, tag) for tag in parts)


def test_the_mos_is_written(folder: Path) -> None:
    """From images and MOS alone, and read back under the prompt of the training."""
    readout = SHORT_RATING.replace("paradigms.Score", "paradigms.WithoutReasoning")
    more = [f"{BACKBONE}pretrained={folder}/qwen", f"{BACKBONE}max_pixels=12544", readout]
    run = fit(folder, "score", "score", *more)
    assert runs.logged(run, "train/loss")
    assert (run / "test" / "predictions.csv").read_text().count("\n") == 5


@pytest.mark.parametrize("overlay", ["lora", "qlora"])
def test_overlays_of_low_rank(folder: Path, overlay: str) -> None:
    more = ["--config", CONFIGS / f"backbone/{overlay}.yaml", f"{BACKBONE}tuning.rank=4"]
    # What a CPU has of bfloat16 is slow, and precision is the GPU's affair.
    more += [f"{BACKBONE}tuning.precision=float32", f"{BACKBONE}tuning.checkpointing=false"]
    run = fit(folder, "qalign", overlay, *more)
    printed = (folder / f"{overlay}.log").read_text()
    assert "100.00%" not in printed
    held = runs.weights(run / "checkpoints" / "last.ckpt")
    assert held and all(".lora_" in name for name in held)
    assert (run / "weights" / "config.json").exists()


@pytest.mark.newest
@pytest.mark.parametrize(
    ("overlay", "limit"),
    [
        *((f"qwen{name}", "max_pixels=12544") for name in ("2_5_vl_3b", "2_5_vl_7b", "2_vl_7b")),
        ("qwen3_vl_8b", "max_pixels=65536"),
        *((name, "max_tiles=1") for name in ("internvl3_8b", "llava_onevision_7b")),
    ],
)
def test_overlays_of_another_backbone(folder: Path, overlay: str, limit: str) -> None:
    weights = folder / {"i": "internvl", "l": "llava_onevision", "q": "qwen"}[overlay[0]]
    more = ["--config", CONFIGS / f"backbone/{overlay}.yaml"]
    more += [f"{BACKBONE}pretrained={weights}", f"{BACKBONE}{limit}"]
    run = fit(folder, "qalign", overlay, *more)
    assert (run / "weights" / "tokenizer.json").exists()


def test_cross_domain(folder: Path) -> None:
    texts = folder / "reasonings.jsonl"
    records = [
        {"image": f"train-{number}.png", "texts": [f"<think>\nGrain {number}.\n</think>"]}
        for number in range(10)
    ]
    texts.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    args = ["fit", "--config", CONFIGS / "ract/cross_domain.yaml", *SHORT]
    args += [f"{BACKBONE}pretrained={folder}/qwen", f"{BACKBONE}max_pixels=12544"]
    args += [f"--data.train=['{folder}/train.csv']", f"--data.test=['{folder}/test.csv']"]
    args += [f"--data.texts.files=['{texts}']", "--model.init_args.task.init_args.scored=[train]"]
    args.append(SHORT_RATING)
    run = folder / "cross_domain"
    runs.start([*args, "--run", run], folder / "cross_domain.log").succeed()
    assert (run / "test" / "results.csv").read_text().count("\n") >= 2


@pytest.mark.newest
def test_small_recipes(folder: Path, shared: Path) -> None:
    """On the real images and texts, by one or two steps of each."""
    # Found under the data's root, as all that they read.
    words = f"{BACKBONE}language.init_args.texts=['texts/case_study_v11.json']"
    limits = [
        "--trainer.max_steps=1",
        "--trainer.limit_test_batches=1",
        "--data.loader.num_workers=0",
    ]
    limits += [
        f"--data.root={shared}/data",
        "--report.bootstrap=0",
        "--data.loader.eval_batch_size=2",
    ]
    limits += ["--data.loader.batch_size=2", "--data.limit=6"]

    def run(recipe: str, *more: str) -> Path:
        (file,) = CONFIGS.glob(f"*/{recipe}.yaml")
        args = ["fit", "--config", file, "--run", folder / recipe]
        runs.start([*args, *limits, *more], folder / f"{recipe}.log").succeed()
        return folder / recipe

    small = [words, f"{BACKBONE}image={network_folder()}", f"{BACKBONE}size=64"]
    small += [f"{BACKBONE}language.init_args.{s}" for s in ("width=64", "layers=1")]
    described = run("small_describe", *small)
    reasonings = [
        "--data.texts.files=['texts/baseline_v11_agiqa.json']",
        "--data.train=['agiqa3k']",
    ]
    reasonings += ["--data.texts.fields=['perception_text:think']", SHORT_RATING]
    two = run("small_conclude", f"{BACKBONE}pretrained={described}/weights", spoken("TwoPass"))
    one = run("small_one_stage", *small, spoken("OnePass", "GeneratedWord"))
    tiny = "{class_path: lit_biqa.backbones.small_decoder.SmallDecoder, init_args: {width: 64}}"
    run("smol_conclude", *small[1:3], f"{BACKBONE}language={tiny}")
    run("small_cross_domain", f"{BACKBONE}pretrained={described}/weights", *reasonings)
    assert "two-pass" in (two / "test" / "results.csv").read_text()
    assert "one-pass" in (one / "test" / "results.csv").read_text()
