"""A pretrained image network of timm beside a pretrained sentence encoder."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_biqa import limits
from lit_biqa.backbones.base import ImageTextEncoder
from lit_biqa.backbones.frozen import FrozenTower
from lit_biqa.backbones.precision import Precision, chosen, dtype_of
from lit_biqa.backbones.pretrained.folders import resolve
from lit_biqa.backbones.stage_tower import (
    StageTower,
    count_statistics,
    create_network,
)
from lit_biqa.backbones.text_embedding_cache import TextEmbeddingCache
from lit_biqa.backbones.timm_folder import frame_of, read_settings
from lit_biqa.backbones.transforms import CentreCrop, RandomCrop
from lit_biqa.io.digests import digest_of_plain, digests_of_files
from lit_biqa.types import InputError, check_range

_TOKENS = 256  # of a text that are read, as many as MiniLM was trained with; longer texts are cut


class TimmSentence(ImageTextEncoder):
    """Image statistics of a timm network, projected into the space of a sentence encoder.

    Both come pretrained; the projection is trained, and the network too where it is not frozen.
    The sentence encoder is frozen, so each text is embedded once, and its embedding kept on disk.

    Args:
        image: ``package:lite0``, or a folder of timm's form (``config.json`` and weights).
        text: ``package:minilm``, or a folder of transformers' form with a tokenizer; ``None`` for
            no projection, so that the head alone is fitted, to the statistics (``max_epochs: 0``).
        stages: places of the network's stages whose statistics are used, the head being the last;
            ``None`` for all. Early stages show distortions, late ones content.
        size: most pixels of the shorter side of an image that is scored; a larger image is scaled
            down, others keep their size. If the network is trained, all images are scaled to it
            and cropped to a square.
        crop: side of the random squares that a network is trained on which is not frozen, as a
            share of ``size``, to which images are then scaled.
        freeze_image: train the projection alone, on statistics of whole images that are computed
            once and kept on disk.
        dropout: of the image statistics, in training.
        temperature: of the contrastive softmax, fixed.
        precision: precision in which both networks run; ``auto`` is bfloat16 where the hardware
            has it, else float32.
        seed: of the projection.

    Raises:
        InputError: for numbers out of range, and for packages and folders that are missing or
            damaged.
    """

    def __init__(
        self,
        image: str = "package:lite0",
        text: str | None = "package:minilm",
        stages: list[int] | None = None,
        size: int = 512,
        crop: float = 0.75,
        freeze_image: bool = True,
        dropout: float = 0.3,
        temperature: float = 0.07,
        precision: Precision = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range("encoder.size", size, 32, limits.TOWER_SIDE)
        check_range("encoder.crop", crop, 32 / size, 1)
        check_range("encoder.dropout", dropout, 0, 0.99)
        if not temperature > 0:
            raise InputError(f"encoder.temperature is {temperature}: give more than 0")
        self.image_folder = resolve(image)
        self.text_folder = resolve(text) if text is not None else None
        described = read_settings(Path(self.image_folder))
        self.architecture = str(described["architecture"])
        self.stages = stages
        self.dim = self._dimensions()
        self.freeze_image, self.dropout, self.precision = freeze_image, dropout, precision
        self.temperature, self.seed = temperature, seed
        self.frame = frame_of(described, size)
        if not freeze_image:
            # Of one shape, so that all ranks run the sharded network equally often.
            self.frame = replace(self.frame, mode="shortest")
        side = round(crop * size)
        cropped = replace(self.frame, size=side, mode="shortest", margin=size / side - 1)
        self.train_transform = RandomCrop(cropped)
        self.eval_transform = CentreCrop(self.frame)
        self.images: StageTower | None = None

    def _dimensions(self) -> int:
        """Dimensions of the texts, or of the statistics."""
        if self.text_folder is not None:
            return int(read_settings(Path(self.text_folder))["hidden_size"])
        with torch.device("meta"):
            return count_statistics(create_network(self.architecture), self.stages)

    @property
    def loaded(self) -> bool:
        """True after `load`."""
        return self.images is not None

    def load(self) -> None:
        """Read both pretrained models; draw the projection from ``seed``."""
        network = create_network(self.architecture, self.image_folder)
        dim = self.dim if self.text_folder is not None else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.images = StageTower(network, dim, self.dropout, self.precision, self.stages)
        if self.freeze_image:
            self.images.freeze()
        self.texts = nn.Module() if self.text_folder is None else self._load_texts()
        self.log_scale = nn.Parameter(
            torch.tensor([math.log(1 / self.temperature)]), requires_grad=False
        )

    def _load_texts(self) -> nn.Module:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(self.text_folder)
        folder, dtype = Path(str(self.text_folder)), dtype_of(self.precision)
        files = digests_of_files(file for file in folder.iterdir() if file.is_file())
        digest = digest_of_plain([files, chosen(self.precision), _TOKENS])
        self._cached = TextEmbeddingCache(self._embed, digest)
        texts: nn.Module = AutoModel.from_pretrained(self.text_folder, dtype=dtype)
        return texts.requires_grad_(False)

    def train(self, mode: bool = True) -> TimmSentence:
        """Set the mode of the image tower; the sentence encoder stays in evaluation."""
        super().train(mode)
        if self.loaded:
            self.texts.eval()
        return self

    def frozen_network(self) -> FrozenTower | None:
        """The image network if it is frozen."""
        assert self.images is not None, "load() comes first"
        if not self.freeze_image:
            return None
        settings = {
            "architecture": self.architecture,
            "precision": chosen(self.precision),
            "stages": self.stages,
        }
        images = self.images
        return FrozenTower(images.network, self.frame, images.statistics, settings, images.observe)

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Pixels ``[B, 3, H, W]`` or statistics ``[B, F]`` to ``[B, D]``."""
        embeddings: Tensor = self.image_tower(pixels)
        return embeddings

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> Tensor:
        """B texts to ``[B, D]``: the mean over their tokens.

        Raises:
            InputError: if no sentence encoder was named.
        """
        if self.text_folder is None:
            raise InputError(
                "encoder.text is null, so there is nothing to align with: name a sentence encoder, "
                "or set trainer.max_epochs to 0 to fit the head alone"
            )
        return self._cached(texts).to(self.device)

    def _embed(self, texts: list[str]) -> Tensor:
        inputs = self.tokenizer(
            texts, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt"
        ).to(self.device)
        hidden = self.texts(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"][..., None].to(hidden.dtype)
        means: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return means

    @property
    def scale(self) -> Tensor:
        """Inverse temperature."""
        return self.log_scale.exp()

    @property
    def image_tower(self) -> nn.Module:
        """The network with its projection."""
        assert self.images is not None, "load() comes first"
        return self.images

    def blocks(self) -> list[nn.Module]:
        """Stages of the network if it is trained."""
        assert self.images is not None, "load() comes first"
        parts = [] if self.freeze_image else self.images.network.children()
        return [part for part in parts if any(True for _ in part.parameters())]

    def replicated(self) -> list[nn.Module]:
        """The sentence encoder, which a rank calls for new texts only, and a frozen network."""
        assert self.images is not None, "load() comes first"
        return [self.texts, *([self.images.network] * self.freeze_image)]

    def settings(self) -> dict[str, Any]:
        """The architecture, the frame of its pixels and the type that the network runs in."""
        return {
            "kind": "timm_stages",
            "architecture": self.architecture,
            "dim": self.dim,
            "projected": self.text_folder is not None,
            "precision": self.precision,
            "stages": self.stages,
            "frame": asdict(self.frame),
        }
