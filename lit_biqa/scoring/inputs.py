"""Input forms of a scorer: paths, PIL images, arrays, tensors and lists of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lit_biqa import limits
from lit_biqa.data.images import open_image
from lit_biqa.types import InputError

Array = npt.NDArray[Any]
Picture = str | Path | Image.Image | Array | Tensor
_FORMS = "give a path, a PIL image, a numpy array [H, W, 3], a tensor [3, H, W] or a list of these"


def as_list(pictures: Picture | Iterable[Picture]) -> list[Picture]:
    """One or more pictures as a list; a tensor ``[N, C, H, W]`` becomes N pictures.

    Example:
        >>> as_list("one.jpg")
        ['one.jpg']

    Raises:
        InputError: if the input is neither picture nor list; names its type.
    """
    if isinstance(pictures, str | Path | Image.Image | np.ndarray):
        return [pictures]
    if isinstance(pictures, Tensor):
        return list(pictures) if pictures.ndim == 4 else [pictures]
    single = (bytes, bytearray, memoryview, Mapping, np.generic)
    if isinstance(pictures, single) or not isinstance(pictures, Iterable):
        raise InputError(f"{type(pictures).__name__} is no picture: {_FORMS}.")
    return list(pictures)


def name_of(picture: object, place: int) -> str:
    """Name of a picture in messages: its path, or ``picture 3``, counted from 1."""
    if isinstance(picture, str | Path):
        return str(picture)
    return str(getattr(picture, "filename", "") or f"picture {place + 1}")


def open_picture(picture: Picture, place: int = 0) -> Image.Image:
    """Open a picture in any form as 8-bit RGB, large enough to be rated.

    Args:
        picture: a path; a PIL image; an array ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]`` or
            ``[H, W, 4]``; a tensor ``[H, W]``, ``[1, H, W]``, ``[3, H, W]`` or ``[4, H, W]``.
            The order of colours is red, green, blue, alpha; values are uint8 on 0 to 255, or
            floats on 0 to 1, which are rounded to 8 bits.
        place: number of the picture in its list, from 0, for messages.

    Raises:
        UnreadableImage: if it cannot be decoded or is too small; names it.
        InputError: if its type, shape or range is wrong; names it, and prints none of its data.
    """
    name = name_of(picture, place)
    if isinstance(picture, np.ndarray | Tensor):
        picture = _from_values(picture, name)
    if not isinstance(picture, str | Path | Image.Image):
        raise InputError(f"{name} is of type {type(picture).__name__}: {_FORMS}.")
    return open_image(picture, least_side=limits.RATED_SIDE, name=name)


def _from_values(values: Array | Tensor, name: str) -> Image.Image:
    """Image from an array (channels last) or a tensor (channels first)."""
    if isinstance(values, Tensor):
        tensor, expected = values.detach().cpu(), "a tensor [H, W] or [C, H, W]"
        tensor = tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor
    else:
        tensor, expected = _as_tensor(values, name), "an array [H, W] or [H, W, C]"
    tensor = tensor[..., None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3 or tensor.shape[2] not in (1, 3, 4) or not tensor.numel():
        shape = list(values.shape)
        raise InputError(f"{name} has the shape {shape}: give {expected} of 1, 3 or 4 channels.")
    pixels = _as_bytes(tensor, name).contiguous().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _as_tensor(values: Array, name: str) -> Tensor:
    if values.dtype.kind not in "uif":
        raise InputError(f"{name} has values of {values.dtype}: give uint8, or floats on 0 to 1.")
    # A copy, because torch takes neither read-only nor reversed arrays, such as array[..., ::-1].
    return torch.from_numpy(values.copy())


def _as_bytes(values: Tensor, name: str) -> Tensor:
    if values.dtype == torch.uint8:
        return values
    if not values.dtype.is_floating_point:
        dtype = str(values.dtype).removeprefix("torch.")
        raise InputError(f"{name} has values of {dtype}: give uint8, or floats on 0 to 1.")
    low, high = (float(end) for end in values.aminmax())
    if not (low >= 0 and high <= 1):  # also nan
        raise InputError(
            f"{name} has floats from {low:.4g} to {high:.4g}: give 0 to 1, not normalised."
        )
    return (values.float() * 255).round().to(torch.uint8)
