"""Scorer: one safetensors file with its settings that maps images to scores.

Example:
    >>> score = lit_biqa.load_scorer("runs/first")
    >>> score(["one.jpg", "two.png"])
    tensor([3.2107, 4.0212])
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_biqa.backbones.by_shape import by_shape
from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.transforms import CentreCrop, Frame
from lit_biqa.data.images import UnreadableImage
from lit_biqa.io.files import replacing
from lit_biqa.io.seals import check_notes, seal_notes
from lit_biqa.scoring.inputs import Picture, as_list, open_picture
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer_file import scorer_file
from lit_biqa.scoring.scorer_header import check_shapes, read_header
from lit_biqa.types import InputError

FORMAT = "lit_biqa-rali-1"


class Scorer(nn.Module):
    """An image tower and a prototype head, ready to score.

    Attributes:
        tower: ``[B, 3, H, W] -> [B, D]``.
        head: ``[B, D] -> [B]``.
        transform: transform from an image to the tower's pixels.
        encoder: settings that the tower was built from.
        path: file that it was read from; ``None`` for none.
    """

    def __init__(
        self,
        tower: nn.Module,
        head: PrototypeHead,
        encoder: dict[str, Any],
        path: Path | None = None,
    ) -> None:
        super().__init__()
        self.tower, self.head, self.encoder, self.path = tower, head, encoder, path
        self.transform = CentreCrop(Frame(**encoder["frame"]))

    def __repr__(self) -> str:
        """One line: kind of tower, input size in pixels, number of prototypes, file."""
        frame, prototypes = self.transform.frame, len(self.head.prototypes)
        side = "shorter side at most" if frame.mode == "native" else f"{frame.size} x"
        file = f", {self.path}" if self.path else ""
        kind = self.encoder["kind"]
        return f"Scorer({kind}, {side} {frame.size}, {prototypes} prototypes{file})"

    def score_pixels(self, pixels: Tensor | Sequence[Tensor]) -> Tensor:
        """Scores ``[B]`` of transformed pixels ``[B, 3, H, W]``, or ``[3, H, W]`` each."""
        scores: Tensor = self.head(by_shape(self.tower, pixels))
        return scores

    @torch.inference_mode()
    def forward(
        self,
        images: Picture | Iterable[Picture],
        batch_size: int = 16,
        on_error: Literal["raise", "nan"] = "raise",
    ) -> Tensor:
        """Score images of any size whose shorter side has at least 8 pixels.

        Example:
            >>> score("one.jpg")
            tensor([3.2107])
            >>> score(["one.jpg", Image.open("two.png"), cv2.imread("three.png")[..., ::-1]])
            tensor([3.2107, 4.0212, 2.3354])

        Args:
            images: one image or a list of them, in any mixture: a path, a PIL image, a numpy array
                ``[H, W, 3]`` or grey ``[H, W]``, a tensor ``[3, H, W]`` or ``[1, H, W]``; or one
                tensor ``[N, 3, H, W]``. Arrays and tensors are RGB (OpenCV reads BGR), uint8 on
                0 to 255 or floats on 0 to 1, not normalised.
            batch_size: most images in a batch of the tower.
            on_error: handling of a file that cannot be read: ``raise``, or ``nan`` with a warning
                that names it. A wrong type, shape or range raises in either case.

        Returns:
            Predicted MOS ``[N]`` on [1, 5], 5 best, in float32 on the CPU; ``[1]`` for one image,
            of which ``.item()`` is the number.

        Raises:
            UnreadableImage: names the first image that cannot be read.
            InputError: if an item is no image, or has a wrong shape or range; names it.
        """
        if on_error not in ("raise", "nan"):
            raise InputError(f"on_error is {on_error!r}: give 'raise' or 'nan'.")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r}: give 1 or more.")
        pictures = as_list(images)
        scores = [torch.zeros(0)]
        for start in range(0, len(pictures), batch_size):
            pixels = []
            for place, picture in enumerate(pictures[start : start + batch_size], start):
                pixels.append(self._read(picture, place, on_error))
            scores.append(self._scored(pixels))
        return torch.cat(scores)

    def _read(self, picture: Picture, place: int, on_error: str) -> Tensor | None:
        """Pixels of a picture; ``None`` if it cannot be read."""
        try:
            return self.transform(open_picture(picture, place))
        except UnreadableImage as error:
            if on_error == "raise":
                raise
            warnings.warn(f"not scored: {error}", stacklevel=6)  # the caller's line
            return None

    def _scored(self, read: Sequence[Tensor | None]) -> Tensor:
        """Scores of a batch ``[B]``; ``nan`` for a picture without pixels."""
        scores = torch.full((len(read),), torch.nan)
        if pixels := [image for image in read if image is not None]:
            there = torch.tensor([image is not None for image in read])
            moved = [image.to(self.head.scores.device) for image in pixels]
            scores[there] = self.score_pixels(moved).float().cpu()
        return scores


def write_scorer(
    path: Path, tower: dict[str, Tensor], head: PrototypeHead, encoder: dict[str, Any]
) -> None:
    """Write a scorer to one file, whole or not at all.

    Args:
        path: file to write; an existing file is replaced.
        tower: weights of the image tower.
        head: fitted head.
        encoder: result of `ImageTextEncoder.settings`.

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


def load_scorer(path: str | Path, device: str | torch.device | None = "cpu") -> Scorer:
    """Load a scorer that a RALI fit has written.

    Args:
        path: scorer file, or the run folder that holds it.
        device: device to score on, such as ``cpu`` or ``cuda:1``; ``None`` takes CUDA if there is a
            GPU, else the CPU.

    Raises:
        InputError: if the file is absent, broken, of another kind, or its weights do not fit its
            settings; or if there is no such device.
    """
    from safetensors import safe_open

    path, where = scorer_file(Path(path)), usable_device(device)
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
        scorer = Scorer(build_tower(encoder), head, encoder, path)
        scorer.load_state_dict(weights)
    except InputError as error:
        raise InputError(f"{path}: {error}; copy it from its run again") from error
    except Exception as error:  # a manipulated file can raise any error
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise InputError(f"{path}: broken scorer ({reason}); copy it from its run again") from error
    return scorer.eval().requires_grad_(False).to(where)


def usable_device(name: str | torch.device | None) -> torch.device:
    """Device of that name; for ``None`` CUDA if there is a GPU, else the CPU.

    Raises:
        InputError: if there is no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a meta tensor holds no number
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"device {str(name)!r} cannot be used here: {reason}") from None
    return device
