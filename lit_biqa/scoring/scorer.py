"""The portable scorer: one safetensors file with its settings, from images to scores.

Example:
    >>> score = lit_biqa.load_scorer("scorer.safetensors")
    >>> score(["one.jpg", "two.png"])
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.transforms import CentreCrop, Frame
from lit_biqa.data.images import ImageLike, open_image
from lit_biqa.io.files import refuse_special, replacing
from lit_biqa.io.seals import check_notes, seal_notes
from lit_biqa.runs.recipes import how_made
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer_header import check_shapes, read_header
from lit_biqa.types import InputError

FORMAT = "lit_biqa-rali-1"


class Scorer(nn.Module):
    """An image tower and a prototype head, ready to score.

    Attributes:
        tower: ``[B, 3, H, W] -> [B, D]``.
        head: ``[B, D] -> [B]``.
        transform: from an image to the pixels of the tower.
        encoder: settings that the tower was built from.
    """

    def __init__(self, tower: nn.Module, head: PrototypeHead, encoder: dict[str, Any]) -> None:
        super().__init__()
        self.tower, self.head, self.encoder = tower, head, encoder
        self.transform = CentreCrop(Frame(**encoder["frame"]))

    def score_pixels(self, pixels: Tensor) -> Tensor:
        """Scores ``[B]`` of transformed pixels ``[B, 3, H, W]``."""
        scores: Tensor = self.head(self.tower(pixels))
        return scores

    @torch.inference_mode()
    def forward(self, images: Sequence[ImageLike] | Tensor, batch_size: int = 16) -> Tensor:
        """Score images of any size.

        Args:
            images: N PIL images, paths or uint8 tensors ``[3, H, W]``; or one tensor
                ``[N, 3, H, W]``.
            batch_size: images that the tower sees at a time.

        Returns:
            Predicted MOS ``[N]`` on [1, 5], 5 best, in float32 on the CPU.

        Raises:
            UnreadableImage: naming the first image that cannot be read.
            InputError: if a single image is given instead of a list of them.
        """
        if not isinstance(images, Tensor | Sequence) or _is_one_image(images):
            raise InputError("give a list of images, [image] for a single one.")
        device = self.head.scores.device
        scores = [torch.zeros(0)]
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            pixels = torch.stack([self.transform(open_image(image)) for image in batch])
            scores.append(self.score_pixels(pixels.to(device)).float().cpu())
        return torch.cat(scores)


def _is_one_image(images: Sequence[ImageLike] | Tensor) -> bool:
    """Whether what should hold images would fall into letters or channels."""
    return isinstance(images, str) or (isinstance(images, Tensor) and images.ndim != 4)


def write_scorer(
    path: Path, tower: dict[str, Tensor], head: PrototypeHead, encoder: dict[str, Any]
) -> None:
    """Write a scorer to one file, whole or not at all.

    Args:
        path: of the file; a file that is there is replaced.
        tower: weights of the image tower.
        head: fitted head.
        encoder: what :meth:`ImageTextEncoder.settings` gives.

    Raises:
        InputError: if the file cannot be written.
    """
    from safetensors.torch import save

    notes = {
        "format": FORMAT,
        "encoder": json.dumps(encoder),
        "head": json.dumps(dataclasses.asdict(head.settings)),
    }
    tensors = {f"tower.{name}": value for name, value in tower.items()}
    tensors |= {f"head.{name}": value for name, value in head.state_dict().items()}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as part:
        part.write_bytes(save(plain, metadata=seal_notes(notes, plain)))


def load_scorer(path: str | Path, device: str | torch.device = "cpu") -> Scorer:
    """Read a scorer that a RALI fit has written.

    Raises:
        InputError: if the file is absent, broken, of another kind, or its weights do not fit
            the settings beside them.
    """
    from safetensors import safe_open

    path = Path(path)
    refuse_special(path)
    if not path.is_file():
        raise InputError(f"{path}: no such scorer of RALI; {how_made(path)}")
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            if notes.get("format") != FORMAT:
                raise InputError(f"not a scorer of {FORMAT}; take the file of a RALI fit")
            encoder, settings = read_header(notes)
            names = list(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            check_shapes(encoder, settings, shapes)
            weights = {name: file.get_tensor(name) for name in names}
        check_notes(notes, weights)
        head = PrototypeHead(int(encoder["dim"]), settings)
        scorer = Scorer(build_tower(encoder), head, encoder)
        scorer.load_state_dict(weights)
    except InputError as error:
        raise InputError(f"{path}: {error}; copy it from its run again") from error
    except Exception as error:  # what was tampered with fails in every way there is
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise InputError(f"{path}: broken scorer ({reason}); copy it from its run again") from error
    return scorer.eval().requires_grad_(False).to(device)
