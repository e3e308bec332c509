"""Every recipe of GRPO is run, on a backbone a million times smaller."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import runs
import yaml
from conftest import REPOSITORY
from timm_chats import network_folder

from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.backbones.weights import state_of
from lit_biqa.cli.config_files import merge_files
from lit_biqa.paradigms import Autoencoder, ChainOfThought, Score
from lit_biqa.readouts import Rated
from lit_biqa.rewards import Format, SecondPass
from lit_biqa.text import prompts
from lit_biqa.types import IMAGE

CONFIGS = REPOSITORY / "configs"
RECIPES = sorted(
    file.stem
    for file in CONFIGS.glob("grpo/*.yaml")
    if not file.stem.startswith(("small_", "smol_"))
)
SMALL_RECIPES, SMOL_RECIPES = (
    sorted(file.stem for file in CONFIGS.glob(f"grpo/{size}_*.yaml") if "warmup" not in file.stem)
    for size in ("small", "smol")
)
INIT = "--model.init_args."
SMALL = [f"{INIT}sampling.budget=6", f"{INIT}backbone.init_args.max_pixels=3136"]
SMALL += ["--trainer.precision=32-true", "--trainer.accelerator=cpu", "--trainer.max_steps=1"]
SMALL += ["--trainer.log_every_n_steps=1", "--data.loader.num_workers=0", "--report.bootstrap=0"]
SMALL += ["--data.loader.batch_size=2", "--data.loader.eval_batch_size=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights, images, and what people wrote about some."""
    folder = tmp_path_factory.mktemp("grpo")
    model = TinyQwenVL(vocabulary=300, width=32, layers=2)
    model.load()
    model.save(folder / "qwen", state_of(model))
    for name, count in (("train", 4), ("test", 2)):
        runs.write_images(folder, name, count, 0)
    people = [{"annotator": "a", "dims": {"flaw": "dark"}, "score": 2}]
    named = [*(f"train-{number}" for number in range(3)), "test-0"]
    records = [{"image": f"{name}.png", "annotations": people} for name in named]
    (folder / "degraded.csv").write_text("image,degradation,severity\ntest-0.png,blur,slight\n")
    (folder / "people.json").write_text(json.dumps(records))
    return folder


def arguments(folder: Path, recipe: str) -> list[object]:
    args: list[object] = ["fit", "--config", CONFIGS / f"grpo/{recipe}.yaml", *SMALL]
    train = ["train", "degraded"] if recipe == "multi_task" else ["train"]
    files = ", ".join(f"'{folder}/{name}.csv'" for name in train)
    args += [f"--data.train=[{files}]", f"--data.test=['{folder}/test.csv']"]
    args += [f"{INIT}backbone.init_args.pretrained={folder}/qwen"]
    if recipe == "human_aligned":
        args += [f"--data.texts.annotations={folder}/people.json"]
    return args


@pytest.mark.newest
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes(recipe: str, folder: Path) -> None:
    run, settings = folder / recipe, merge_files([CONFIGS / f"grpo/{recipe}.yaml"], [])
    readout = settings["model"]["init_args"]["readouts"][0]["init_args"] | {
        "sampling": {"budget": 6}
    }
    given = json.dumps([{"class_path": "lit_biqa.readouts.ratings.Rated", "init_args": readout}])
    args = [*arguments(folder, recipe), f"{INIT}readouts={given}", "--run", run]
    runs.start(args, folder / f"{recipe}.log").succeed()
    assert runs.logged(run, "train/loss") and runs.logged(run, "train/reward")
    assert (run / "weights" / "config.json").exists()
    with (run / "test" / "predictions.csv").open(newline="") as file:
        conditions = {row["condition"] for row in csv.DictReader(file)}
    texts = {text.replace("caption", "text") for text in readout["texts"]}
    with (run / "test" / "rouge.csv").open(newline="") as file:
        referenced = {row["n"] for row in csv.DictReader(file)}
    # Both images have texts in their CSV; annotations, of one image, take the place of these.
    assert referenced == {"1" if recipe == "human_aligned" else "2"}
    assert conditions == {"image"} | texts | {f"text-{m}" for m in readout.get("masks", ())}


@pytest.mark.parametrize("recipe", ["score", "multi_task"])
def test_recipes_of_q_insight_are_read_under_both_protocols(recipe: str) -> None:
    """Its own prompt names the conditions of its table; others stand beside them."""
    settings = merge_files([CONFIGS / f"grpo/{recipe}.yaml"], [])["model"]["init_args"]
    own, demo, paper = [each["init_args"] for each in settings["readouts"]]
    assert Rated(**own, paradigm=Score()).conditions == ("image", "reasoning")
    paradigm = Score(**demo["paradigm"]["init_args"])
    assert paradigm.asked == f"{prompts.SCORE}{IMAGE}"
    assert Rated(**{**demo, "paradigm": paradigm}).conditions == ("demo-image",)
    assert all(name.startswith("paper-") for name in Rated(**paper).conditions)


@pytest.mark.parametrize(
    ("recipe", "own"),
    [
        ("chain_of_thought", ("own-text",)),
        ("self_consistency", ()),
        ("autoencoder", ("masked-text", "masked-text-substring")),
        ("human_aligned", ()),
    ],
)
def test_paradigms_are_read_under_the_shared_prompt_and_their_own(
    recipe: str, own: tuple[str, ...]
) -> None:
    """Chain-of-Thought and Autoencoder are asked for no rating by their own first prompt."""
    settings = merge_files([CONFIGS / f"grpo/{recipe}.yaml"], [])["model"]["init_args"]
    paradigm = {"chain_of_thought": ChainOfThought, "autoencoder": Autoencoder}.get(recipe, Score)()
    first, *others = [
        Rated(**each["init_args"], paradigm=paradigm) for each in settings["readouts"]
    ]
    assert first.protocol == "paper"
    assert tuple(name for readout in others for name in readout.conditions) == own


@pytest.mark.parametrize(
    ("recipe", "updates"),
    [
        ("autoencoder", (True, False)),
        ("autoencoder_a1_b0", (False, True)),
        ("autoencoder_a1_b1", (True, True)),
    ],
)
def test_each_row_of_the_autoencoder_has_its_recipe(
    recipe: str, updates: tuple[bool, bool]
) -> None:
    """Table II by behaviour: the released v14 updates the tokens of pass 1, v14_1 those of 2."""
    file = CONFIGS / "reproduce/pure_textual_reasoning" / f"{recipe}.yaml"
    settings = merge_files([file], [])["model"]["init_args"]
    made = Autoencoder(**settings["paradigm"]["init_args"])
    assert made.updates == updates and made.system.endswith("follows a human thinking logics.")
    assert made.slots["format"].reward == SecondPass(Format("prefix"))


def test_lora_over_a_recipe(folder: Path) -> None:
    lora = ["--config", CONFIGS / "backbone/lora.yaml", "--data.test=[]"]
    lora += [f"{INIT}backbone.init_args.tuning.{each}" for each in ("rank=4", "precision=float32")]
    args = [*arguments(folder, "self_consistency"), *lora, "--run", folder / "lora"]
    runs.start(args, folder / "lora.log").succeed()
    held = runs.weights(folder / "lora" / "checkpoints" / "last.ckpt")
    assert held and all(".lora_" in name for name in held)


def test_weights_of_rewards_and_rewards_are_set_by_name(folder: Path) -> None:
    slots = f"{INIT}paradigm.init_args."
    chosen = [f"{slots}format.weight=0.25", f"{slots}score.reward=CosineScore"]
    chosen += [f"{slots}score.reward.tolerance=0.5"]
    args = [*arguments(folder, "score"), *chosen, "--print_config"]
    run = runs.start(args, folder / "printed.log")
    run.succeed()
    printed = yaml.safe_load(run.printed)["model"]["init_args"]["paradigm"]["init_args"]
    assert printed["format"]["weight"] == 0.25 and printed["format"]["credit"] == "both"
    assert printed["format"]["reward"]["class_path"] == "lit_biqa.rewards.Format"
    reward = {"class_path": "lit_biqa.rewards.CosineScore"}
    assert printed["score"]["reward"] == reward | {"init_args": {"tolerance": 0.5, "form": "json"}}


@pytest.mark.newest
def test_small_recipes(folder: Path, shared: Path) -> None:
    """The cold start and what goes on from it, on the real images and texts, by a step of each."""
    short = ["--trainer.max_steps=1", "--trainer.limit_test_batches=1", "--report.bootstrap=0"]
    short += [
        "--data.loader.num_workers=0",
        f"--data.root={shared}/data",
        "--data.loader.batch_size=2",
    ]
    short += ["--data.loader.eval_batch_size=2", "--trainer.limit_val_batches=1", "--data.limit=60"]
    said = "{class_path: lit_biqa.readouts.ratings.Rated, init_args: {sampling: {budget: 4}}}"
    short += [f"{INIT}readouts=[{said}]"]
    backbone = f"{INIT}backbone.init_args."
    language = f"{backbone}language.init_args."
    small = [f"{backbone}image={network_folder()}", f"{backbone}size=64"]
    small += [f"{language}texts=['texts/case_study_v11.json']", f"{language}width=64"]
    small += [f"{language}layers=1"]

    def run(recipe: str, *more: str) -> Path:
        args = ["fit", "--config", CONFIGS / f"grpo/{recipe}.yaml", "--run", folder / recipe]
        runs.start([*args, *short, *more], folder / f"{recipe}.log").succeed()
        return folder / recipe

    warm = run("small_warmup", *small)
    tiny = "{class_path: lit_biqa.backbones.small_decoder.SmallDecoder, init_args: {width: 64}}"
    smol = run("smol_warmup", *small[:2], f"{backbone}language={tiny}")
    for start, recipes in ((warm, SMALL_RECIPES), (smol, SMOL_RECIPES)):
        begun = [f"{backbone}pretrained={start}/weights", f"{INIT}sampling.budget=4"]
        for recipe in recipes:
            assert (run(recipe, *begun) / "test" / "results.csv").exists()
