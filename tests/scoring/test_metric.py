"""Metrics of tensors: scores near Pillow's, gradients near finite differences, clear refusals."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from small_scorers import KINDS, real_images, write_small
from torch import Tensor

import lit_biqa
from lit_biqa.scoring.mean_score import MeanScore
from lit_biqa.scoring.metric import ScorerMetric
from lit_biqa.types import InputError


def smooth(height: int, width: int, count: int) -> Tensor:
    """Images ``[N, 3, H, W]`` on [0, 1] of coarse and fine noise, as different as photographs."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    fine = torch.rand(count, 3, height, width, generator=generator)
    return images + torch.linspace(0, 0.9, count)[:, None, None, None] * (fine - images)


def pictures(images: Tensor) -> list[Image.Image]:
    levels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(image) for image in levels]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A scorer of each kind."""
    folder = tmp_path_factory.mktemp("scorers")
    fitted = pictures(smooth(90, 120, 16))
    return {kind: write_small(kind, folder / f"{kind}.safetensors", fitted) for kind in KINDS}


@pytest.fixture(scope="module")
def metric(paths: dict[str, Path]) -> ScorerMetric:
    return lit_biqa.metric("rali", scorer=paths["tiny"], device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_real_images_are_near_those_by_pillow(
    kind: str, shared: Path, tmp_path: Path
) -> None:
    images = real_images(shared, 24)
    path = write_small(kind, tmp_path / "scorer.safetensors", images)
    metric, scorer = lit_biqa.metric("rali", path, "cpu"), lit_biqa.load_scorer(path, "cpu")
    batches = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255 for image in images]
    with torch.no_grad():
        scores = torch.cat([metric(batch) for batch in batches])
    assert scores.shape == (24, 1)
    by_pillow = scorer(images)
    assert by_pillow.std() > 0.1
    # Random weights see noise, so that the rounding of pixels shows more than in a fitted tower.
    assert (scores[:, 0] - by_pillow).square().mean().sqrt() < 0.05 * by_pillow.std()
    assert spearmanr(scores[:, 0], by_pillow).statistic > 0.98


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: str, paths: dict[str, Path]) -> None:
    metric = lit_biqa.metric("rali", paths[kind], "cpu").double()
    images = (0.1 + 0.8 * smooth(40, 56, 2).double()).requires_grad_()
    assert torch.autograd.gradcheck(metric, images, fast_mode=True)
    metric(images).sum().backward()
    assert images.grad is not None and images.grad.flatten(1).abs().amax(1).min() > 0


def test_a_loss_of_it_improves_an_image(metric: ScorerMetric) -> None:
    image = smooth(64, 64, 1).requires_grad_()
    optimizer = torch.optim.Adam([image], 0.01)
    before = metric(image).item()
    for _ in range(20):
        optimizer.zero_grad()
        (-metric(image.clamp(0, 1)).mean()).backward()
        optimizer.step()
    assert metric(image.clamp(0, 1)).item() > before + 0.1


def test_neither_mode_nor_autocast_nor_gradients_touch_it(metric: ScorerMetric) -> None:
    images = smooth(40, 56, 2)
    expected = metric(images)
    assert torch.equal(metric(images.double()), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(metric(images), expected)
    around = torch.nn.Sequential(metric).train()
    assert not any(module.training for module in metric.modules())
    assert not any(parameter.requires_grad for parameter in around.parameters())


WRONG: list[tuple[Any, str]] = [
    ([torch.zeros(3, 9, 9)], r"^list is no batch of images: give a tensor \[N, 3, H, W\]"),
    (torch.zeros(3, 9, 9), r"the shape \[3, 9, 9\]: give \[N, 3, H, W\]"),
    (torch.zeros(1, 4, 9, 9), r"the shape \[1, 4, 9, 9\]"),
    (torch.zeros(0, 3, 9, 9), r"the shape \[0, 3, 9, 9\]"),
    (torch.zeros(1, 3, 9, 9, dtype=torch.uint8), r"values of uint8: give floats on \[0, 1\]"),
    (torch.zeros(1, 3, 7, 9), r"9 x 7 pixels are too small to rate: the shorter side needs 8"),
    (torch.full((1, 3, 9, 9), 255.0), r"from 255 to 255: give \[0, 1\].*clamp\(0, 1\)"),
    (torch.full((1, 3, 9, 9), -0.01), r"from -0\.01 to -0\.01"),
    (torch.full((1, 3, 9, 9), math.nan), r"from nan to nan"),
    (torch.zeros(1, 3, 9, 9, device="meta"), r"on meta and the metric on cpu"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_no_batch_is_refused_in_one_line(
    metric: ScorerMetric, given: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        metric(given)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_made_is_refused(paths: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no metric 'rally'\. Did you mean rali\?"):
        lit_biqa.metric("rally", paths["tiny"])
    with pytest.raises(InputError, match="no such scorer"):
        lit_biqa.metric("rali", tmp_path / "absent.safetensors")
    low = lit_biqa.metric("rali", paths["tiny"], "cpu").bfloat16()
    with pytest.raises(InputError, match=r"weights of bfloat16: call metric\.float\(\)"):
        low(torch.zeros(1, 3, 9, 9))


def test_the_mean_is_over_all_images(metric: ScorerMetric) -> None:
    mean, images = MeanScore(metric), smooth(40, 56, 5)
    expected = metric(images)[:, 0]
    mean.update(images[:2])
    torch.testing.assert_close(mean(images[2:]), expected[2:].mean())
    torch.testing.assert_close(mean.compute(), expected.mean())
    mean.reset()
    mean.update(images[:1])
    torch.testing.assert_close(mean.compute(), expected[0])


def test_the_mean_can_be_copied_after_a_batch_with_gradients(metric: ScorerMetric) -> None:
    mean = MeanScore(metric)
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    mean(images).backward()
    assert images.grad is not None
    assert float(copy.deepcopy(mean).compute()) == float(mean.clone().compute())


def test_refused_images_leave_the_mean_as_it_is(metric: ScorerMetric) -> None:
    mean, images = MeanScore(metric), smooth(40, 56, 2)
    mean(images)
    before = float(mean.compute())
    with pytest.raises(InputError, match="give"):
        mean(images * 255)
    assert (int(mean.count), float(mean.compute())) == (2, before)
    with pytest.raises(InputError, match="has its own"):
        MeanScore(metric, "cpu")


def test_rounding_beyond_the_range_is_no_fault(metric: ScorerMetric) -> None:
    images = torch.ones(1, 3, 40, 40)
    assert torch.isfinite(metric(images * (1 + 1e-6))).all()


def test_the_mean_of_a_batch_has_gradients(paths: dict[str, Path]) -> None:
    mean, images = MeanScore(paths["tiny"], "cpu"), smooth(40, 56, 2).requires_grad_()
    mean(images).backward()
    assert images.grad is not None and bool(images.grad.any())
    assert not mean.total.requires_grad
    mean.update(images)
    assert not mean.total.requires_grad
