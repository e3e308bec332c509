"""Small scorers of each kind of image tower, with random weights, and real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.stage_tower import StageTower
from lit_biqa.backbones.transforms import CentreCrop, Frame
from lit_biqa.data.images import open_image
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import write_scorer

DIM = 16
VIT = {"image_size": 28, "patch_size": 14, "layers": 2, "width": 32, "head_width": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "patch_size": None}
OF_TIMM = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": ""}
STAGES = {"architecture": "test_efficientnet", "projected": True, "precision": "float32"}


def _clip(tower: dict[str, Any], **frame: Any) -> dict[str, Any]:
    config = {"embed_dim": DIM, "vision_cfg": tower}
    return {"kind": "open_clip", "config": config, "frame": Frame(tower["image_size"], **frame)}


#: Settings of an encoder by name: each kind of `build_tower`, each kind of tower of open_clip, and
#: each mode of a frame.
KINDS: dict[str, dict[str, Any]] = {
    "tiny": {"kind": "tiny", "width": 8, "frame": Frame(48, margin=0.25)},
    "vit": _clip(VIT),
    "resnet": _clip(RESNET, mode="floor"),
    "timm_clip": _clip(OF_TIMM, mode="squash", bicubic=False),
    "timm_stages": {"kind": "timm_stages", **STAGES, "frame": Frame(64, "native")},
}


def write_small(kind: str, path: Path, images: Sequence[Image.Image]) -> Path:
    """Write a scorer whose head is fitted to some images, so that its scores differ among images.

    Args:
        kind: key of `KINDS`.
        path: file to write.
        images: at least twelve.
    """
    encoder = {"dim": DIM, **KINDS[kind]}
    frame = encoder["frame"]
    torch.manual_seed(0)
    tower = build_tower(encoder).eval()
    pixels = [CentreCrop(frame)(image)[None] for image in images]
    with torch.no_grad():
        _calibrate(tower, pixels)
        if isinstance(tower, StageTower):
            tower.observe(torch.cat([tower.statistics(image) for image in pixels]))
        embeddings = torch.cat([tower(image) for image in pixels])
    # A warm softmax: a cold one over random features would enlarge the rounding of floats.
    settings = HeadSettings(8, 10, 5, temperature=0.5, finetune=False)
    head = PrototypeHead(DIM, settings)
    head.fit(embeddings, torch.linspace(1, 5, len(images)))
    write_scorer(path, tower.state_dict(), head, encoder | {"frame": asdict(frame)})
    return path


def _calibrate(tower: nn.Module, pixels: Sequence[Tensor]) -> None:
    """Batch normalisation by images: without, random layers enlarge the rounding of floats."""
    norms = [module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.ones_(norm.weight)  # some begin at zero and would show nothing
        norm.momentum = None  # the mean over all images
        norm.train()
    for image in pixels if norms else ():
        tower(image)
    for norm in norms:
        norm.eval()


def real_images(shared: Path, count: int) -> list[Image.Image]:
    """Photographs of LIVE in the Wild at half their size, some upright; skipped if too few."""
    folder = shared / "data" / "LIVE-W" / "ChallengeDB_release" / "Images"
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in {".jpg", ".bmp"})
    if len(files) < count:
        pytest.skip(f"{folder} holds {len(files)} images, not {count}")
    images = [open_image(file) for file in files[:count]]
    return [image.resize((image.width // 2, image.height // 2)) for image in images]
