"""RALI's speed: what scoring adds to the encoder, files to scores, the fit of the head.

Weights are random, since no speed depends on them.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from bench_rows import Row, mark
from PIL import Image
from torch import Tensor

from lit_biqa.backbones.clip import OpenClip
from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.dead_leaves import dead_leaves
from lit_biqa.data.images import list_images
from lit_biqa.data.settings import LoaderSettings
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead, bucketed_kmeans, principal_axes
from lit_biqa.scoring.scorer import Scorer

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Plan:
    """Device and sizes of the scoring measurement.

    Attributes:
        name: of the encoder and where it runs.
        device: that scores.
        encoder: its weights are never read.
        head: of the scorer.
        dtype: of the encoder.
        batches: sizes of the batches that are scored; files are read in the first of them.
        repeats: passes over each.
        workers: processes that read images, one run for each number.
        files: images that each of these runs reads.
        cost: most that scoring may take, in times of the encoder alone.
        busy: least share of the time that the encoder may be busy with the most workers.
    """

    name: str
    device: torch.device
    encoder: OpenClip | TinyClip
    head: HeadSettings = HeadSettings()
    dtype: torch.dtype = torch.float32
    batches: tuple[int, ...] = (16, 64)
    repeats: int = 5
    workers: tuple[int, ...] = (0, 1, 2)
    files: int = 96
    cost: float | None = 1.03
    busy: float | None = None

    def scorer(self) -> Scorer:
        """A scorer whose head is fitted to noise."""
        dim = self.encoder.dim
        head = PrototypeHead(dim, replace(self.head, finetune=False))
        head.fit(*embeddings(self.head.prototypes + dim, dim))
        settings = self.encoder.settings()
        scorer = Scorer(build_tower(settings), head, settings).eval().requires_grad_(False)
        scorer.to(self.device).tower.to(self.dtype)
        return scorer

    def pixels(self, count: int) -> Tensor:
        """Pixels ``[count, 3, H, W]`` where they are scored."""
        size = self.encoder.frame.size
        return torch.randn(count, 3, size, size).to(self.device, self.dtype)


def measure(small: bool, images: Path | None) -> Iterator[Row]:
    """All rows, one by one.

    Args:
        small: very little of everything, to see that it runs.
        images: folder of images to read; ``None`` makes JPEG files of 512 x 384 pixels.

    Raises:
        InputError: if there is no image in the folder.
    """
    with tempfile.TemporaryDirectory() as made:
        files = list_images(images) if images else make_images(Path(made), 8 if small else 48)
        if small:
            head = HeadSettings(pca=16, prototypes=20, buckets=10, steps=5)
            tiny = TinyClip(dim=32, width=8, size=32)
            plan = Plan(
                "tiny, CPU", CPU, tiny, head, batches=(2, 4), workers=(0, 1), files=8, cost=None
            )
            yield from chain(scoring(plan), reading(plan, files), fitting(head, 100, 32))
            return
        plan = Plan("ViT-B-32, CPU", CPU, OpenClip("ViT-B-32", None))
        yield from chain(scoring(plan), reading(plan, files))
        yield from fitting(HeadSettings(), 7046, 768)


def scoring(plan: Plan) -> Iterator[Row]:
    """Time from pixels to scores over the encoder's share of it, the median of several passes.

    Both are read in the same pass: on a busy machine two passes over the encoder differ by more
    than the head takes.
    """
    scorer = plan.scorer()
    done: list[float] = []
    scorer.tower.register_forward_hook(lambda *_: done.append(mark(plan.device)))

    def ratio(pixels: Tensor) -> float:
        start = mark(plan.device)
        scorer.score_pixels(pixels)
        return (mark(plan.device) - start) / (done.pop() - start)

    for batch in plan.batches:
        pixels = plan.pixels(batch)
        ratio(pixels)  # the first pass allocates
        found = statistics.median(ratio(pixels) for _ in range(plan.repeats))
        yield Row(f"{plan.name}: scoring over encoder, batch {batch}", found, "", plan.cost)


def reading(plan: Plan, files: list[Path]) -> Iterator[Row]:
    """Images per second from files, and the share of the time that the encoder is busy."""
    scorer = plan.scorer()
    names = [str(files[n % len(files)]) for n in range(plan.files)]
    for workers in plan.workers:
        data = BIQADataModule(
            predict=names,
            loader=LoaderSettings(eval_batch_size=plan.batches[0], num_workers=workers),
        )
        data.use_transforms(plan.encoder.train_transform, scorer.transform)
        data.setup("predict")
        rate, busy = _pace(plan, scorer, data)
        least = plan.busy if workers == max(plan.workers) else None
        yield Row(f"{plan.name}: files to scores, workers {workers}", rate, "images/s")
        yield Row(f"{plan.name}: encoder busy, workers {workers}", busy, "", least, least=True)


def _pace(plan: Plan, scorer: Scorer, data: BIQADataModule) -> tuple[float, float]:
    batches = iter(data.predict_dataloader())
    first = next(batches)["pixels"]  # workers start, the encoder allocates
    scorer.score_pixels(first.to(plan.device, plan.dtype))
    count, busy, start = 0, 0.0, mark(plan.device)
    for batch in batches:
        pixels = batch["pixels"].to(plan.device, plan.dtype, non_blocking=True)
        begun = mark(plan.device)
        scorer.score_pixels(pixels)
        busy += mark(plan.device) - begun
        count += len(pixels)
    took = mark(plan.device) - start
    return count / took, busy / took


def fitting(head: HeadSettings, count: int, dim: int) -> Iterator[Row]:
    """The head from cached embeddings: its clusters, then all of it with the fine-tuning."""
    vectors, mos = embeddings(count, dim)
    start = mark(CPU)
    values = vectors.double().numpy()
    standard = (values - values.mean(0)) / values.std(0)
    points = standard @ principal_axes(standard, head.pca)
    bucketed_kmeans(points, mos.double().numpy(), head.prototypes, head.buckets, head.seed)
    yield Row(f"PCA and bucketed k-means, {count} x {dim}", mark(CPU) - start, "s", 10)
    start = mark(CPU)
    PrototypeHead(dim, head).fit(vectors, mos)
    yield Row(f"head refitted with fine-tuning, {count} x {dim}", mark(CPU) - start, "s", 60)


def embeddings(count: int, dim: int) -> tuple[Tensor, Tensor]:
    """Made-up embeddings ``[count, dim]`` and MOS ``[count]``, which one of their causes follows.

    The variance of the causes falls as their rank, so that clusters are as vague as real ones.
    """
    rng = np.random.default_rng(0)
    mos = np.clip(rng.normal(3, 0.7, count), 1, 5)
    causes = rng.standard_normal((count, dim)) / np.sqrt(1 + np.arange(dim))
    causes[:, 0] += mos
    mixed = causes @ np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    return torch.from_numpy(mixed).float(), torch.from_numpy(mos).float()


def make_images(folder: Path, count: int) -> list[Path]:
    """JPEG files of 512 x 384 pixels with the statistics of photographs."""
    scene = np.tile(dead_leaves(np.random.default_rng(0), 256), (2, 2, 1))
    files = [folder / f"{n}.jpg" for n in range(count)]
    for n, file in enumerate(files):
        Image.fromarray(np.roll(scene, 37 * n, axis=(0, 1))[:384]).save(file, quality=90)
    return files
