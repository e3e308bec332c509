"""Recipes on pretrained towers, on the real weights and images, at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs
from made_up import installed
from PIL import Image

import lit_biqa

HEAD = [f"--model.init_args.head.{s}" for s in ("pca=8", "prototypes=10", "buckets=5")]
SHORT = ["--data.limit=30", "--data.loader.batch_size=16", "--report.bootstrap=0"]
SIZE = "--model.init_args.encoder.init_args.size=128"


def fit(recipe: str, folder: Path, *more: str) -> Path:
    for name in ("lite0", "minilm"):
        installed(name)
    arguments = ["fit", "--config", recipe, "--run", folder / "run", *SHORT, *more]
    runs.start(arguments, folder / "log").succeed()
    return folder / "run"


RECIPES = ["lite_agiqa3k", "lite_head", "lite_mixed", "lite_finetuned", "lite_own_words"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_of_rali(recipe: str, tmp_path: Path, shared: Path) -> None:
    more = [] if recipe == "lite_head" else ["--trainer.max_epochs=1"]
    if recipe == "lite_own_words":  # those of another model, in the place of one's own
        more += ["--data.texts.files=['texts/baseline_v11_agiqa.json']"]
        more += ["--data.texts.fields=['perception_text:think']"]
    run = fit(f"rali/{recipe}", tmp_path, *HEAD, SIZE, *more, f"--data.root={shared}/data")
    score = lit_biqa.load_scorer(run)
    assert score(Image.new("RGB", (200, 150))).isfinite().all()
    assert "livew" in (run / "test" / "predictions.csv").read_text()


def test_quickstart_pretrained(tmp_path: Path) -> None:
    made = [f"--data.sets.synthetic.{s}" for s in ("sources=10", "size=48")]
    run = fit("quickstart_pretrained", tmp_path, *HEAD, *made, f"--data.root={tmp_path}")
    assert (run / "scorer.safetensors").exists()
