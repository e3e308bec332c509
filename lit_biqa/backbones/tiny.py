"""A small image-text encoder with random weights, for CPUs, tests and first steps."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa.backbones.base import ImageTextEncoder
from lit_biqa.backbones.transforms import CentreCrop, Frame, RandomCrop


class TinyClip(ImageTextEncoder):
    """A residual CNN and a one-layer transformer, both trained from random weights.

    Nothing is pretrained, so the text tower is trained too; normalisation is by groups, not by
    batch, so that several processes compute what one does.

    Args:
        dim: dimensions D of the shared space.
        width: channels of the first image layer; each of the three stages doubles them.
        size: pixels of the square that an image is cropped to.
        crop_margin: training crops are taken from an image scaled to this much more.
        context: tokens of a text that are read; longer texts are cut.
        temperature: of the contrastive softmax at the start; it is trained.
        seed: of the weights.
    """

    def __init__(
        self,
        dim: int = 128,
        width: int = 32,
        size: int = 192,
        crop_margin: float = 0.33,
        context: int = 160,
        temperature: float = 0.07,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dim, self.width, self.seed = dim, width, seed
        self.context, self.temperature = context, temperature
        self.frame = Frame(size)
        self.train_transform = RandomCrop(self.frame, crop_margin)
        self.eval_transform = CentreCrop(self.frame)
        self.images: nn.Module | None = None

    @property
    def loaded(self) -> bool:
        """Whether the towers exist."""
        return self.images is not None

    def load(self) -> None:
        """Make both towers with weights drawn from ``seed``, whatever was drawn before."""
        import open_clip

        self.tokenizer = open_clip.SimpleTokenizer(context_length=self.context)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.images = ImageTower(self.width, self.dim)
            self.texts = TextTower(self.tokenizer.vocab_size, self.context, self.dim)
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
        """The size of the image tower and the frame of its pixels."""
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
    """A CNN whose features are pooled by mean and standard deviation over the image.

    The deviation keeps what quality shows itself in: how far sharpness and noise vary.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.GroupNorm(8, width), nn.GELU())
        self.stages = nn.Sequential(
            *(ResidualBlock(width * 2**n, width * 2 ** (n + 1)) for n in range(3))
        )
        self.project = nn.Linear(16 * width, dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B, D]``."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        hidden = self.stages(self.stem(pixels)).flatten(2)
        # Where every position is equal the deviation has no gradient: a floor keeps it finite.
        spread = (hidden.var(dim=2, unbiased=False) + 1e-6).sqrt()
        features: Tensor = self.project(torch.cat([hidden.mean(2), spread], dim=1))
        return features


class TextTower(nn.Module):
    """One transformer layer, averaged over the tokens that are there."""

    def __init__(self, vocabulary: int, context: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.positions = nn.Parameter(torch.randn(context, dim) * 0.01)
        self.layer = nn.TransformerEncoderLayer(
            dim, 4, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.project = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, T]`` token ids, 0 where there is none, to ``[B, D]``."""
        there = tokens != 0
        tokens = tokens[:, : int(there.sum(1).max())]
        there = there[:, : tokens.shape[1]]
        hidden = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        hidden = self.layer(hidden, src_key_padding_mask=~there)
        mean = (hidden * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        features: Tensor = self.project(mean)
        return features
