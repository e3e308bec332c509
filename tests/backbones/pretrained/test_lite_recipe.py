"""The recipe of RALI on pretrained towers, on real weights and images, at a small size."""

from __future__ import annotations

from pathlib import Path

import runs
from made_up import installed
from PIL import Image

import lit_biqa


def test_lite_agiqa3k(tmp_path: Path, shared: Path) -> None:
    for name in ("lite0", "minilm"):
        installed(name)
    small = ["--data.limit=30", "--trainer.max_epochs=1", "--data.loader.batch_size=16"]
    small += [f"--model.init_args.head.{s}" for s in ("pca=8", "prototypes=10", "buckets=5")]
    small += ["--model.init_args.encoder.init_args.size=128", f"--data.root={shared}/data"]
    run = tmp_path / "run"
    arguments = ["fit", "--config", "rali/lite_agiqa3k", "--run", run, *small]
    runs.start(arguments, tmp_path / "log").succeed()
    photo = Image.new("RGB", (200, 150))
    assert lit_biqa.load_scorer(run)(photo).isfinite().all()
