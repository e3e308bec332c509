"""RALI's released files, made up with their published names, against the authors' formula."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pytest
import runs
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.decomposition import IncrementalPCA
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from lit_biqa.__main__ import main
from lit_biqa.scoring.scorer import load_scorer

DIM, DIMS, PROTOTYPES, SIDE = 16, 6, 9, 28


def release(folder: Path) -> Path:
    """``best/``, ``ckpt.pt`` and ``pca.pkl`` as they are published, in small."""
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 4, "image_size": SIDE, "patch_size": 14}
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "vocab_size": 99, "max_position_embeddings": 16}
    clip = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=DIM))
    for parameter in clip.parameters():  # biases and norms count too
        torch.nn.init.normal_(parameter, std=0.3)
    clip.save_pretrained(folder / "best")
    crop = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=crop).save_pretrained(
        folder / "best"
    )
    with torch.no_grad():  # of images that differ, so that the scores do
        pixels = torch.randn(64, 3, SIDE, SIDE) * torch.linspace(0.1, 3, 64)[:, None, None, None]
        pooled = clip.eval().vision_model(pixel_values=pixels).pooler_output
        values = clip.visual_projection(pooled).numpy()
    pca = IncrementalPCA(DIMS).fit(values)
    joblib.dump(pca, folder / "pca.pkl")
    scorer = {
        # The demo takes the absolute value of the scale.
        "pca_scale": -torch.tensor(np.sqrt(pca.var_), dtype=torch.float32),
        "pca_components": torch.tensor(pca.components_, dtype=torch.float32),
        "prototypes": torch.randn(PROTOTYPES, DIMS),
        "proto_scores": torch.linspace(1.5, 4.5, PROTOTYPES),
        "logit_scale": torch.tensor(1 / 0.07),
    }
    state = {f"clip.{name}": value for name, value in clip.state_dict().items()}
    state |= {f"scorer.{name}": value for name, value in scorer.items()}
    torch.save({"state_dict": state}, folder / "ckpt.pt")
    return folder


@torch.no_grad()
def as_the_authors_score(folder: Path, images: list[Image.Image]) -> Tensor:
    """The demo of the release, in its order."""
    clip = CLIPModel.from_pretrained(folder / "best").eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder / "best")
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    pooled = clip.vision_model(pixel_values=pixels).pooler_output
    embedded = clip.visual_projection(pooled)
    head = torch.load(folder / "ckpt.pt", weights_only=True)["state_dict"]
    mean = torch.tensor(joblib.load(folder / "pca.pkl").mean_, dtype=torch.float32)
    standard = (embedded - mean) / head["scorer.pca_scale"].abs()
    points = F.normalize(standard @ head["scorer.pca_components"].T, dim=-1)
    cosines = points @ F.normalize(head["scorer.prototypes"], dim=-1).T
    tau = 1 / head["scorer.logit_scale"].clamp(min=1e-6)
    weighted: Tensor = F.softmax(cosines / tau, dim=-1) @ head["scorer.proto_scores"]
    return weighted


def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(1)
    # Of the last one the centre lies between two pixels.
    sizes = ((40, 60), (28, 28), (75, 50), (31, 90), (45, 70))
    return [
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes
    ]


def test_scores_are_those_of_the_authors(tmp_path: Path) -> None:
    folder, out = release(tmp_path / "RALI"), tmp_path / "out"
    assert main(["import-rali", str(folder), "--out", str(out)]) == 0
    expected = as_the_authors_score(folder, pictures())
    assert expected.std() > 0.01
    scorer = load_scorer(out)
    torch.testing.assert_close(scorer(pictures()), expected, atol=1e-5, rtol=0)
    assert scorer.transform.frame.size == SIDE
    assert main(["import-rali", str(folder), "--out", str(out)]) == 2


def test_the_mean_may_come_as_an_array(tmp_path: Path) -> None:
    folder, mean = release(tmp_path / "RALI"), tmp_path / "mean.npy"
    np.save(mean, joblib.load(folder / "pca.pkl").mean_)
    expected = as_the_authors_score(folder, pictures())
    (folder / "pca.pkl").unlink()
    out = tmp_path / "out"
    assert main(["import-rali", str(folder), "--out", str(out), "--mean", str(mean)]) == 0
    torch.testing.assert_close(load_scorer(out)(pictures()), expected, atol=1e-5, rtol=0)


class Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["pca.pkl", "ckpt.pt"])
def test_nothing_but_arrays_is_unpickled(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, harm = release(tmp_path / "RALI"), tmp_path / "harm"
    state = {"mean_": np.zeros(DIM), "other": Malice(harm)}
    if name == "pca.pkl":
        (folder / name).write_bytes(pickle.dumps(state))
    else:
        torch.save({"state_dict": state}, folder / name)
    assert main(["import-rali", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "else is unpickled" in capsys.readouterr().err
    assert not harm.exists()
    assert not (tmp_path / "out" / "scorer.safetensors").exists()


def test_a_folder_without_its_files_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import-rali", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "ckpt.pt: no such file" in capsys.readouterr().err


def test_its_recipe_tests_the_imported_scorer(tmp_path: Path) -> None:
    folder, out = release(tmp_path / "RALI"), tmp_path / "imported"
    assert main(["import-rali", str(folder), "--out", str(out)]) == 0
    images = runs.write_images(tmp_path, "test", 3, 0)
    args = ["test", "--config", "published/rali", "--run", tmp_path / "run"]
    args += [f"--model.init_args.path={out / 'scorer.safetensors'}", f"--data.test=['{images}']"]
    args += ["--trainer.accelerator=cpu", "--data.loader.num_workers=0", "--report.bootstrap=0"]
    runs.start(args, tmp_path / "log").succeed()
    assert (tmp_path / "run/test/predictions.csv").read_text().count("\n") == 4
