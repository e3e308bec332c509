"""Recipes of published weights: the authors' prompts, and a test on small folders."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
import yaml
from conftest import REPOSITORY
from hf_clips import small_clip
from peft import LoraConfig, get_peft_model
from PIL import Image
from scripted import script

from lit_biqa.backbones.mplug_owl2 import LORA_TARGETS, MplugOwl2ForConditionalGeneration
from lit_biqa.backbones.mplug_owl2.configuration import IMAGE_TOKEN_INDEX
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of
from lit_biqa.cli import analyse, describe
from lit_biqa.cli.config_files import merge_files, read
from lit_biqa.data.protocols import PROTOCOLS
from lit_biqa.io.digests import DIGESTS
from lit_biqa.paradigms import VisualQuality
from lit_biqa.text import prompts
from lit_biqa.text.levels import LEVELS
from lit_biqa.types import IMAGE, ask

CONFIGS = REPOSITORY / "configs/published"
OWLS = ("qalign", "one_align", "deqa", "deqa_lora", "q_instruct")
QWENS = ("q_insight", "visual_quality_r1", "visual_quality_r1_fast", "evoquality")
# Folders with the layouts of the hub, and what says where their parts lie.
PLACES = {
    "deqa": ["pretrained={0}/deqa", "layout.processor={0}/preprocessor"],
    "deqa_lora": ["pretrained={0}/deqa_lora", "layout.base={0}/owl"],
    "q_insight": ["pretrained={0}/Q-Insight"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each family, those of other layouts, and a data set."""
    folder = tmp_path_factory.mktemp("published")
    models: dict[str, VisionLanguageModel] = {
        "owl": TinyMplugOwl2(width=64, layers=2),
        "qwen": TinyQwenVL(vocabulary=300, width=32, layers=2),
    }
    for name, model in models.items():
        model.load()
        model.save(folder / name, state_of(model))
    shutil.copytree(folder / "qwen", folder / "Q-Insight" / "score_degradation")
    shutil.copytree(folder / "owl", folder / "deqa")
    (folder / "preprocessor").mkdir()
    weights = {"config.json", "model.safetensors", DIGESTS}
    for file in (folder / "deqa").iterdir():
        if file.name not in weights:
            file.rename(folder / "preprocessor" / file.name)
    write_lora(folder / "owl", folder / "deqa_lora")
    runs.write_images(folder, "test", 3, 0)
    return folder


def write_lora(base: Path, folder: Path) -> None:
    """An adapter as LLaVA's trainers write it."""
    config = LoraConfig(r=2, lora_alpha=4, target_modules=LORA_TARGETS)
    model = get_peft_model(MplugOwl2ForConditionalGeneration.from_pretrained(base), config)
    model.save_pretrained(folder)
    config_file = folder / "adapter_config.json"
    named = json.loads(config_file.read_text()) | {"base_model_name_or_path": "../ModelZoo/owl/"}
    config_file.write_text(json.dumps(named))
    whole = {n: w for n, w in model.state_dict().items() if ".visual_abstractor." in n}
    torch.save(whole, folder / "non_lora_trainables.bin")


def settings(name: str) -> dict[str, Any]:
    model: dict[str, Any] = read(CONFIGS / f"{name}.yaml")["model"]["init_args"]
    return model


def question(name: str) -> str:
    given = settings(name)
    if name in QWENS:
        return str(given["paradigm"]["init_args"]["question"])
    return str(given["readouts"][0]["init_args"]["question"])


def test_every_recipe_is_run_here_but_that_of_a_scorer() -> None:
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == {*OWLS, *QWENS, "clip", "rali"}


def test_rali_is_tested_on_the_lists_of_the_table_that_it_quotes() -> None:
    """Table 2 of Reasoning as Representation has seven sets, PIPAL among them."""
    settings = merge_files([CONFIGS / "rali.yaml"], [])
    assert settings["data"]["test"] == ["protocol/reasoning_as_representation"]
    sets = PROTOCOLS["reasoning_as_representation"].test
    assert len(sets) == 7
    assert {"spaq/qalign", "kadid10k/qalign", "pipal/deqa", "livew/all1169"} < set(sets)


QALIGN = (
    "USER: How would you rate the quality of this image?\n",
    " ASSISTANT: The quality of the image is",
)
Q_INSTRUCT = ("USER: ", "Rate the quality of the image. ASSISTANT:")


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        *((name, QALIGN) for name in ("qalign", "one_align", "deqa", "deqa_lora")),
        ("q_instruct", Q_INSTRUCT),
    ],
)
def test_levels_are_asked_with_the_authors_tokens(name: str, texts: tuple[str, str]) -> None:
    """Scripts of Q-Align and of Q-Instruct: one token -200 between the two texts, word next."""
    model = TinyMplugOwl2(width=64, layers=2)
    model.prepare()
    pixels = model.image_transform(Image.new("RGB", (30, 20)))
    words = settings(name)["readouts"][0]["init_args"].get("words", {})
    opening = words.get("opening", prompts.QUALITY_OPENING)
    row = model.encode_prompt(ask(question(name), pixels, opening=opening))
    tokenizer = model.processor.tokenizer
    before, after = (tokenizer.encode(text, add_special_tokens=False) for text in texts)
    begin = tokenizer.bos_token_id
    assert IMAGE_TOKEN_INDEX < 0
    assert row.ids[~row.image].tolist() == [begin, *before, *after]
    assert row.image.nonzero()[0].item() == 1 + len(before)


def test_q_instruct_compares_the_words_of_its_authors_script() -> None:
    words = settings("q_instruct")["readouts"][0]["init_args"]["words"]
    assert words["scores"] == {"good": 5.0, "poor": 1.0}


def test_weights_of_half_precision_are_held_in_it() -> None:
    """Where the hardware has bfloat16; float32 takes twice the memory."""
    for name in (*OWLS, *QWENS):
        assert settings(name)["backbone"]["init_args"]["tuning"]["precision"] == "auto"


LARGE = (2016, 1512)  # 3,048,192 pixels: 72 x 54 positions of 28 x 28


@pytest.mark.parametrize(("pixels", "positions"), [(12_845_056, 72 * 54), (1_003_520, 41 * 30)])
def test_published_weights_see_images_as_large_as_their_processor_lets_them(
    pixels: int, positions: int
) -> None:
    """The Hub's processors allow 12,845,056 pixels; one setting makes the row under our limit."""
    if pixels == 12_845_056:
        limits = {settings(name)["backbone"]["init_args"]["max_pixels"] for name in QWENS}
        assert limits == {pixels}
    model = TinyQwenVL(vocabulary=300, width=32, layers=2, max_pixels=pixels)
    image = model.image_transform(Image.new("RGB", LARGE))
    assert model.image_width(image) == positions


def chat_ml(*turns: str) -> str:
    return "".join(f"<|im_start|>{turn}" for turn in (*turns, "assistant\n"))


SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
TASK = "You are doing the image quality assessment task. Here is the question: "
RATE = (
    "What is your overall rating on the quality of this picture? The rating should be a float "
    "between 1 and 5, rounded to two decimal places, with 1 representing very poor quality and 5 "
    "representing excellent quality. "
)
ENDS = {
    "visual_quality_r1": "First output the thinking process in <think> </think> tags and then "
    "output the final answer with only one score in <answer> </answer> tags.",
    "visual_quality_r1_fast": "Please only output the final answer with only one score in <answer> "
    "</answer> tags.",
    "evoquality": "You FIRST think about the reasoning process as an internal monologue and then "
    r"provide the final answer. The final answer MUST BE put in \boxed{}.",
}


@pytest.mark.parametrize("name", QWENS)
def test_ratings_are_asked_in_the_authors_words(name: str) -> None:
    """Texts of the released demos; below the tokens of the template, with one image token."""
    model = TinyQwenVL(vocabulary=300, width=32, layers=2)
    model.prepare()
    pixels = model.image_transform(Image.new("RGB", (56, 56)))
    system = prompts.R1_SYSTEM if name == "q_insight" else ""
    row = model.encode_prompt(ask(question(name), pixels, system))
    if name == "q_insight":
        keys = (
            'Return the final answer in JSON format with the following keys: "rating": The score.'
        )
        turns: tuple[str, ...] = (
            f"system\n{system}<|im_end|>\n",
            f"user\n{RATE}{keys}{SEEN}<|im_end|>\n",
        )
    else:
        seen = f"{SEEN} " if name == "evoquality" else f"Picture 1: {SEEN}"
        turns = (f"user\n{seen}{TASK}{RATE}{ENDS[name]}<|im_end|>\n",)
    one = row.ids.tolist()
    positions = int(row.image.sum())
    first = one.index(model.image_id)
    compact = [*one[: first + 1], *one[first + positions :]]
    assert compact == model.tokenizer.encode(chat_ml(*turns), add_special_tokens=False)


def local(name: str, folder: Path) -> list[str]:
    """The recipe's settings with the small folder and images in the place of its own."""
    backbone = "--model.init_args.backbone.init_args."
    usual = ["pretrained={0}/qwen" if name in QWENS else "pretrained={0}/owl"]
    args = ["--config", str(CONFIGS / f"{name}.yaml"), "--ckpt_path", "none"]
    args += [backbone + place.format(folder) for place in PLACES.get(name, usual)]
    args += [f"{backbone}tuning.precision=float32", f"--data.test=['{folder}/test.csv']"]
    return [*args, "--data.loader.num_workers=0", "--data.loader.eval_batch_size=2"]


# VisualQuality-R1 is asked with its demo's number of the image and without it, Q-Insight under its
# own prompt and under another paper's.
CONDITIONS = {
    "visual_quality_r1": {"image", "unnumbered-image"},
    "q_insight": {"image", "paper-image", "paper-text"},
}


@pytest.mark.parametrize("name", [*OWLS, *QWENS])
def test_published_weights_are_tested_and_describe(name: str, folder: Path) -> None:
    given = settings(name)["readouts"]
    for readout in given if name in QWENS else ():
        readout["init_args"]["sampling"]["budget"] = 6
    args = ["test", *local(name, folder), "--run", folder / name]
    args += [f"--model.init_args.readouts={yaml.safe_dump(given, default_flow_style=True)}"]
    args += ["--trainer.precision=32-true", "--trainer.accelerator=cpu", "--report.bootstrap=0"]
    runs.start(args, folder / f"{name}.log").succeed()
    rows = (folder / name / "test" / "predictions.csv").read_text()
    named = {row["condition"] for row in table(folder / name / "test" / "results.csv")}
    conditions = {condition for condition in named if " - " not in condition}  # gaps of two
    if name in QWENS:
        assert conditions == CONDITIONS.get(name, {"image"})
    assert rows.count("\n") == 1 + 3 * len(conditions)
    assert IMAGE not in rows
    out = folder / f"{name}.jsonl"
    described = [f"--run={folder / name}", "--ckpt_path=none", f"--out={out}", "--budget=3"]
    assert describe.main(described) == 0
    assert out.read_text().count("\n") == 3


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Answers in the form that each question asks for.
WRITTEN = {
    "q_insight": '<think>\n{}\n</think>\n<answer>\n{{"rating": {}}}\n</answer>',
    "visual_quality_r1": "<think>{}</think><answer>{}</answer>",
    "visual_quality_r1_fast": "<answer>{1}</answer>",
    "evoquality": r"{} \boxed{{{}}}",
}


@pytest.mark.newest
@pytest.mark.parametrize("name", OWLS)
def test_attention_of_published_levels(name: str, folder: Path, tmp_path: Path) -> None:
    args = [*local(name, folder), "--out", str(tmp_path), "--samples", "2"]
    assert analyse.main(["attention", *args]) == 0
    assert all(0 <= float(row["share_mean"]) <= 1 for row in table(tmp_path / "attention.csv"))
    rows = table(tmp_path / "attention_samples.csv")
    assert len({row["name"] for row in rows}) == 2
    assert all(int(row["image_tokens"]) > 0 == int(row["description_tokens"]) for row in rows)


@pytest.mark.newest
@pytest.mark.parametrize("name", ["one_align", "q_instruct"])
def test_lens_of_published_levels(name: str, folder: Path, tmp_path: Path) -> None:
    """At the word that the small model names, of five levels or of Q-Instruct's two."""
    levels = settings(name)["readouts"][0]["init_args"].get("words", {}).get("scores", LEVELS)
    assert len(levels) == (2 if name == "q_instruct" else 5)
    args = ["logit-lens", *local(name, folder), "--out", str(tmp_path), "--samples", "1"]
    assert any(analyse.main([*args, "--level", level]) == 0 for level in levels)
    assert len({row["name"] for row in table(tmp_path / "logit_lens_samples.csv")}) == 1


@pytest.mark.newest
@pytest.mark.parametrize(
    ("name", "condition"),
    [*((name, "image") for name in QWENS), ("visual_quality_r1", "unnumbered-image")],
)
def test_published_ratings_are_studied(
    name: str, condition: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention at the digits of answers that the engine gives by script, and what moves them."""
    thoughts = ("Sharp edges.", "Noise everywhere.")
    answers = [WRITTEN[name].format(text, 3 - row) for row, text in enumerate(thoughts)]
    asked = script(monkeypatch, answers)
    args = [*local(name, folder), "--out", str(tmp_path), "--samples", "2"]
    assert analyse.main(["score-attention", *args, "--condition", condition]) == 0
    numbered = name.startswith("visual_quality_r1") and condition == "image"
    assert numbered == ("Picture 1" in "".join(message.text for message in asked[0].messages))
    rows = table(tmp_path / "score_attention_samples.csv")
    assert {float(row["score"]) for row in rows} == {2, 3}
    reasons = name != "visual_quality_r1_fast"
    assert all((int(row["reasoning_tokens"]) > 0) == reasons for row in rows)
    words = {row["word"] for row in table(tmp_path / "score_attention_words.csv")}
    assert words == ({"sharp", "edges", "noise", "everywhere"} if reasons else set())
    assert len(table(tmp_path / "score_causes.csv")) == 1


def test_visual_quality_r1_is_asked_the_same_without_the_number() -> None:
    first, second = settings("visual_quality_r1")["readouts"]
    plain = VisualQuality().asked
    assert question("visual_quality_r1") == f"Picture 1: {IMAGE}{plain}"
    assert second["init_args"]["paradigm"] == {"class_path": "lit_biqa.paradigms.VisualQuality"}
    assert first["init_args"]["sampling"] == second["init_args"]["sampling"]


def test_rali_is_fitted_on_clip_as_transformers_ships_it(tmp_path: Path) -> None:
    small_clip(tmp_path / "clip")
    train, test = (runs.write_images(tmp_path, name, 24, 0) for name in ("train", "test"))
    init = "--model.init_args."
    args = ["fit", "--config", CONFIGS / "clip.yaml", "--run", tmp_path / "run"]
    args += [f"{init}encoder.init_args.model=transformers:{tmp_path}/clip"]
    args += [f"{init}head.{size}" for size in ("pca=4", "prototypes=8", "buckets=4", "steps=5")]
    args += [f"--data.train=['{train}']", f"--data.test=['{test}']", "--data.texts.files=[]"]
    args += ["--data.loader.batch_size=8", "--data.loader.num_workers=0", "--report.bootstrap=0"]
    args += ["--trainer.max_epochs=1", "--trainer.precision=32-true", "--trainer.accelerator=cpu"]
    runs.start(args, tmp_path / "log").succeed()
    assert len(table(tmp_path / "run" / "test" / "predictions.csv")) == 24
    assert (tmp_path / "run" / "scorer.safetensors").exists()
