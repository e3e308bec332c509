"""Every shipped configuration is run, at a reduced size."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import runs
import torch
from conftest import REPOSITORY
from PIL import Image

from lit_biqa.cli.config_files import merge_files
from lit_biqa.runs import recipes
from lit_biqa.runs.recipes import how_made

CONFIGS = REPOSITORY / "configs"
REPRODUCE = sorted(CONFIGS.glob("reproduce/*/*.yaml"))
OVERLAYS = sorted(CONFIGS.glob("trainer/*.yaml"))
HEAD = "--model.init_args.head."
SMALL_HEAD = [f"{HEAD}pca=4", f"{HEAD}prototypes=8", f"{HEAD}buckets=4", f"{HEAD}steps=5"]
SHORT = ["--trainer.max_epochs=1", "--data.loader.num_workers=0", "--report.bootstrap=0"]
ENCODER = "--model.init_args.encoder.init_args."
SMALL = [f"{ENCODER}size=32", f"{ENCODER}dim=16", *SMALL_HEAD, *SHORT]


def own_data(folder: Path) -> list[str]:
    """A little data set in the place of the recipe's."""
    data = [
        runs.write_images(folder, name, 24, seed) for seed, name in enumerate(("train", "test"))
    ]
    named = [f"--data.train=['{data[0]}']", f"--data.test=['{data[1]}']", "--data.texts.files=[]"]
    return [*named, "--data.loader.batch_size=8"]


def fit(recipe: Path, folder: Path, *args: str) -> Path:
    run = folder / "run"
    runs.start(["fit", "--config", recipe, "--run", run, *args], folder / "log").succeed()
    assert (run / "test" / "results.csv").read_text().count("\n") >= 2
    return run


def scores(file: Path) -> list[float]:
    with file.open(newline="") as opened:
        return [float(row["score"]) for row in csv.DictReader(opened)]


def test_every_configuration_is_among_these_tests() -> None:
    files = {str(file.relative_to(CONFIGS)) for file in CONFIGS.rglob("*.yaml")}
    rali = {
        "own_csv",
        "lite_agiqa3k",
        "lite_head",
        "lite_mixed",
        "lite_finetuned",
        "lite_own_words",
        "tiny_agiqa3k",
        "clip_vit_l_14_336",
        "refit_head",
        "score",
    }
    trainer = {"cpu", "cpu_bfloat16", "gpu", "ddp", "fsdp2_8gpu", "nodes"}
    sft = {"describe", "conclude", "one_stage", "qalign", "deqa"}
    sft |= {f"small_{name}" for name in ("describe", "conclude", "one_stage", "qalign")}
    sft |= {"smol_conclude", "score"}
    backbone = {"lora", "qlora", "qwen2_5_vl_3b", "qwen2_5_vl_7b", "processor_pixels"}
    backbone |= {"qwen2_vl_7b", "qwen3_vl_8b", "internvl3_8b", "llava_onevision_7b"}
    grpo = {"score", "score_without_reasoning", "visual_quality_r1", "chain_of_thought"}
    grpo |= {"self_consistency", "autoencoder", "human_aligned", "multi_task"}
    grpo.add("self_consistency_no_numbers")
    grpo |= {"small_warmup", "small_score", "small_chain_of_thought", "small_self_consistency"}
    grpo |= {"small_autoencoder", "small_human_aligned", "small_ranking_score"}
    grpo |= {f"smol_{name}" for name in ("warmup", "score", "self_consistency")}
    ract = {"cross_domain", "small_cross_domain"}
    published = {"qalign", "one_align", "deqa", "deqa_lora", "q_instruct", "q_insight", "rali"}
    published |= {"clip", "visual_quality_r1", "visual_quality_r1_fast", "evoquality"}
    # Each is checked in tests/test_configs_reproduce.py.
    reproduce = {str(file.relative_to(CONFIGS / "reproduce"))[:-5] for file in REPRODUCE}
    known = {
        "reproduce": reproduce,
        "published": published,
        "rali": rali,
        "ract": ract,
        "trainer": trainer,
        "sft": sft,
        "backbone": backbone,
        "grpo": grpo,
        "metric": {"niqe", "brisque"},  # run in tests/methods/test_pyiqa_metric.py
        "served": {"q_insight"},  # checked in tests/served/test_served_faults.py
    }
    expected = {f"{folder}/{name}.yaml" for folder, names in known.items() for name in names}
    assert files == expected | {"quickstart.yaml", "quickstart_pretrained.yaml"}


def test_weights_that_recipes_start_from_are_made_by_recipes() -> None:
    texts = [file.read_text() for file in CONFIGS.rglob("*.yaml")]
    starts = {path for text in texts for path in re.findall("pretrained: (runs/.*)", text)}
    assert "runs/small_describe/weights" in starts
    for path in map(Path, starts):
        assert f"/{path.parent.name} --run {path.parent}" in how_made(path)


def test_recipes_say_that_the_limit_on_pixels_is_ours_and_name_the_other() -> None:
    released = merge_files([CONFIGS / "backbone/processor_pixels.yaml"], [])
    limits = released["model"]["init_args"]["backbone"]["init_args"]
    smaller = [name for name in recipes.names() if _pixels(name) == 1_003_520]
    assert {"grpo/score", "ract/cross_domain"} < set(smaller)
    for name in smaller:
        header = " ".join(recipes.read(name).header.split())
        if not name.startswith("backbone/"):
            assert "Pixels: images above 1,003,520 are scaled down to it, which is ours" in header
            assert f"{limits['max_pixels']:,}, as --config backbone/processor_pixels does" in header
    assert _pixels("published/q_insight") == limits["max_pixels"]
    assert limits["context"] > limits["max_pixels"] // 28**2


def _pixels(name: str) -> int | None:
    model = merge_files([recipes.find(name)], []).get("model", {}).get("init_args", {})
    pixels: int | None = (model.get("backbone") or {}).get("init_args", {}).get("max_pixels")
    return pixels


def test_quickstart(tmp_path: Path) -> None:
    made = ["--data.sets.synthetic.sources=12", "--data.sets.synthetic.size=48"]
    place = [f"--data.root={tmp_path}", "--data.loader.batch_size=16"]
    run = fit(CONFIGS / "quickstart.yaml", tmp_path, *SMALL, *made, *place)
    assert (run / "scorer.safetensors").exists()


def test_own_csv(tmp_path: Path) -> None:
    rows = ["image,mos"]
    for i in range(40):
        Image.effect_noise((48, 48), i).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{100 - 2 * i}")
    file = tmp_path / "ratings.csv"
    file.write_text("\n".join(rows))
    named = [f"--data.{part}=['{file}/random-0']" for part in ("train", "test")]
    run = fit(CONFIGS / "rali/own_csv.yaml", tmp_path, *named, "--data.sets.scale=[0, 100]")
    assert (run / "scorer.safetensors").exists()


@pytest.mark.newest
def test_tiny_agiqa3k(tmp_path: Path, shared: Path) -> None:
    limits = ["--trainer.limit_train_batches=2", "--trainer.limit_test_batches=1"]
    fit(CONFIGS / "rali/tiny_agiqa3k.yaml", tmp_path, *SMALL, *limits, f"--data.root={shared}/data")


@pytest.mark.newest
def test_clip_vit_l_14_336(tmp_path: Path) -> None:
    """The paper's recipe with an architecture a thousand times smaller, from a local folder."""
    tower = {"image_size": 28, "patch_size": 14, "width": 32, "head_width": 16, "layers": 1}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": tower, "text_cfg": text}
    folder = tmp_path / "clip"
    folder.mkdir()
    described = {"model_cfg": model, "preprocess_cfg": {"size": 28}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    import open_clip

    built = open_clip.CLIP(16, tower, text, quick_gelu=True)
    torch.save(built.state_dict(), folder / "open_clip_pytorch_model.bin")
    encoder = [f"{ENCODER}model=local-dir:{folder}", f"{ENCODER}pretrained=null"]
    data = own_data(tmp_path / "data")
    recipe = CONFIGS / "rali/clip_vit_l_14_336.yaml"
    plain = ["--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    run = fit(recipe, tmp_path, *SMALL_HEAD, *SHORT, *encoder, *data, *plain)
    refit = [
        CONFIGS / "rali/refit_head.yaml",
        "--data.images.embeddings",
        run / "embeddings.safetensors",
    ]
    refit += ["--model.init_args.scorer", run / "scorer.safetensors", f"{HEAD}prototypes=6"]
    again = tmp_path / "again"
    command = ["fit", "--config", run / "config.yaml", "--config", *refit, "--run", again]
    runs.start(command, tmp_path / "refit.log").succeed()
    score = ["test", "--config", CONFIGS / "rali/score.yaml", *data[1:2], "--run", tmp_path / "s"]
    score += ["--model.path", again / "scorer.safetensors", "--data.loader.num_workers=0"]
    runs.start(score, tmp_path / "score.log").succeed()
    first, second = (scores(path / "test" / "predictions.csv") for path in (again, tmp_path / "s"))
    assert first == pytest.approx(second, abs=1e-3)


@pytest.mark.newest
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_overlays_fit_every_recipe(overlay: Path, tmp_path: Path) -> None:
    """Merged and checked against the Trainer; what one CPU cannot run is printed."""
    for recipe in (CONFIGS / "quickstart.yaml", CONFIGS / "rali/clip_vit_l_14_336.yaml"):
        args = ["fit", "--config", recipe, "--config", overlay, "--print_config"]
        run = runs.start(args, tmp_path / recipe.stem)
        run.succeed()
        assert "use_distributed_sampler: false" in run.printed
        for line in overlay.read_text().splitlines():
            if line.startswith("  ") and ":" in line and not line.strip().startswith("#"):
                assert line.split(":")[0].strip() in run.printed
