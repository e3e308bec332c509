"""Images cut into tiles by a processor of transformers, each image as one tensor.

A row of pixels below the tiles holds what the decoder has to know beside them. The image thus
passes through loaders, batches and devices like any other tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch.nn.functional as F
from PIL import Image
from torch import Tensor


class Tiles(NamedTuple):
    """An image as its model takes it.

    Attributes:
        tiles: ``[T, 3, H, W]``; T is 1 for models that do not cut images.
        positions: number of positions that the image takes in the decoder.
        height: of the image before it was cut, in pixels; 0 for models that do not ask for it.
        width: likewise.
    """

    tiles: Tensor
    positions: int
    height: int
    width: int

    @classmethod
    def of(cls, pixels: Tensor) -> Tiles:
        """Tiles of the pixels ``[T, 3, H + 1, W]`` that `TileTransform` makes."""
        return cls(pixels[..., :-1, :], *pixels[0, 0, -1, :3].long().tolist())

    def packed(self) -> Tensor:
        """Pixels ``[T, 3, H + 1, W]``; float32 holds the numbers exactly."""
        pixels = F.pad(self.tiles.float(), (0, 0, 0, 1))
        pixels[0, 0, -1, :3] = pixels.new_tensor(self[1:])
        return pixels


@dataclass(frozen=True)
class TileTransform:
    """Transform from an image to pixels ``[T, 3, H + 1, W]``; picklable, for workers.

    Attributes:
        processor: processor of transformers.
        token: text of the image token.
        image_id: id of the image token.
    """

    processor: Any
    token: str
    image_id: int

    def __call__(self, image: Image.Image) -> Tensor:
        """Scale, cut and normalise the image as the checkpoint says."""
        made = self.processor(text=self.token, images=image, return_tensors="pt")
        tiles = made["pixel_values"].flatten(0, -4)
        positions = int((made["input_ids"] == self.image_id).sum())
        height, width = made["image_sizes"][0].tolist() if "image_sizes" in made else (0, 0)
        return Tiles(tiles, positions, height, width).packed()


def limit_tiles(images: Any, most: int) -> bool:
    """Set the most tiles of an image, in place.

    Args:
        images: image processor of transformers.
        most: number of tiles, without the one that shows the image as a whole.

    Returns:
        False if the processor does not cut images.
    """
    if hasattr(images, "max_patches"):
        images.max_patches = most
    elif hasattr(images, "image_grid_pinpoints"):
        area = most * images.size["height"] * images.size["width"]
        grids = images.image_grid_pinpoints
        images.image_grid_pinpoints = [grid for grid in grids if grid[0] * grid[1] <= area]
    else:
        return False
    return True
