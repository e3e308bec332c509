"""A small image-text encoder with random weights, for CPUs, tests and the quickstart."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa import limits
from lit_biqa.backbones.base import ImageTextEncoder
from lit_biqa.backbones.transforms import CentreCrop, Frame, RandomCrop
from lit_biqa.types import InputError, check_range


class TinyClip(ImageTextEncoder):
    """A residual CNN and a bag of words, both trained from random weights.

    Nothing is pretrained, so the text tower is trained too. Normalisation is by groups, not by
    batch, so that several processes compute the same as one.

    Args:
        dim: dimensions D of the shared space.
        width: channels of the first image layer; each of the three stages doubles them.
        size: side of the square that is scored, in pixels; images are scaled to it.
        crop: side of the random training squares as a share of ``size``. The network takes any
            size, so scoring uses the whole square.
        context: tokens of a text that are read; longer texts are cut.
        temperature: initial temperature of the contrastive softmax; it is trained.
        seed: seed of the weights.

    Raises:
        InputError: for numbers out of range.
    """

    def __init__(
        self,
        dim: int = 128,
        width: int = 16,
        size: int = 256,
        crop: float = 0.5,
        context: int = 160,
        temperature: float = 0.07,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range("encoder.dim", dim, 1, limits.TOWER_WIDTH)
        check_range("encoder.width", width, 8, limits.TOWER_WIDTH)
        if width % 8:
            raise InputError(f"encoder.width is {width}: give a multiple of 8")
        check_range("encoder.size", size, 1, limits.TOWER_SIDE)
        check_range("encoder.crop", crop, 1 / size, 1)
        check_range("encoder.context", context, 3, limits.TOWER_WIDTH)
        if not temperature > 0:
            raise InputError(f"encoder.temperature is {temperature}: give more than 0")
        self.dim, self.width, self.seed = dim, width, seed
        self.context, self.temperature = context, temperature
        self.frame = Frame(size)
        side = round(crop * size)
        self.train_transform = RandomCrop(Frame(side, margin=size / side - 1))
        self.eval_transform = CentreCrop(self.frame)
        self.images: nn.Module | None = None

    @property
    def loaded(self) -> bool:
        """True once the towers exist."""
        return self.images is not None

    def load(self) -> None:
        """Make both towers with weights drawn from ``seed`` and no other randomness."""
        import open_clip

        self.tokenizer = open_clip.SimpleTokenizer(context_length=self.context)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.images = ImageTower(self.width, self.dim)
            self.texts = TextTower(self.tokenizer.vocab_size, self.dim)
            self.log_scale = nn.Parameter(torch.tensor([math.log(1 / self.temperature)]))

    def embed_images(self, pixels: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B, D]``."""
        features: Tensor = self.image_tower(pixels)
        return features

    def embed_texts(self, texts: list[str]) -> Tensor:
        """B texts to ``[B, D]``."""
        features: Tensor = self.texts(self.tokenizer(texts).to(self.device))
        return features

    @property
    def scale(self) -> Tensor:
        """Inverse temperature, at most 100."""
        return self.log_scale.exp().clamp(max=100.0)

    @property
    def image_tower(self) -> nn.Module:
        """The CNN."""
        assert self.images is not None, "load() comes first"
        return self.images

    def blocks(self) -> list[nn.Module]:
        """Both towers."""
        return [self.image_tower, self.texts]

    def settings(self) -> dict[str, Any]:
        """Size of the image tower, and the frame of its pixels."""
        frame = asdict(self.frame)
        return {"kind": "tiny", "dim": self.dim, "width": self.width, "frame": frame}


class ResidualBlock(nn.Module):
    """Two convolutions beside a linear path, at half the resolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(channels, out, 1, stride=2, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(8, out), nn.GroupNorm(8, out)])

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, out, H/2, W/2]``."""
        hidden = F.gelu(self.norms[0](self.first(x)))
        return F.gelu(self.norms[1](self.second(hidden)) + self.skip(x))


class ImageTower(nn.Module):
    """A CNN over the image and its local detail, pooled by mean and standard deviation.

    Quality shows in detail (the image minus its local mean) and in its variation over the image.
    Given both, a small network with random weights learns quality in a few epochs.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        # Small strides, because blocks, noise and blur are visible in single pixels.
        stem = nn.Conv2d(6, width, 3, stride=2, padding=1)
        self.stem = nn.Sequential(stem, nn.GroupNorm(8, width), nn.GELU())
        self.stages = nn.Sequential(
            *(ResidualBlock(width * 2**n, width * 2 ** (n + 1)) for n in range(3))
        )
        self.project = nn.Linear(16 * width, dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B, D]``."""
        # With channels last, torch's group norm takes the variance as the mean of squares less the
        # squared mean, and rounding spoils it on flat images; nor is it faster.
        pixels = pixels.contiguous()
        local_mean = F.avg_pool2d(pixels, 5, stride=1, padding=2, count_include_pad=False)
        # Detail has about a quarter of the image's contrast; the factor makes them equally strong.
        channels = torch.cat([pixels, 4 * (pixels - local_mean)], dim=1)
        hidden = self.stages(self.stem(channels)).flatten(2)
        # The deviation has no gradient if all positions are equal; the floor keeps it finite.
        spread = (hidden.var(dim=2, unbiased=False) + 1e-6).sqrt()
        features: Tensor = self.project(torch.cat([hidden.mean(2), spread], dim=1))
        return features


class TextTower(nn.Module):
    """Mean of token embeddings, projected: a bag of words, without their order.

    A transformer with random weights learned less from a few thousand texts in the same time.
    """

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, T]`` token ids, 0 for padding, to ``[B, D]``."""
        there = (tokens != 0)[..., None]
        mean = (self.tokens(tokens) * there).sum(1) / there.sum(1)
        features: Tensor = self.project(mean)
        return features
