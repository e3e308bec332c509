"""A rank of two that runs a sharded `TimmSentence`.

A module of its own: a spawned process imports lit_biqa before timm and transformers here, as a
torchvision that does not fit torch needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from lit_biqa.backbones.timm_sentence import TimmSentence


def made(folders: tuple[Path, Path], **settings: Any) -> TimmSentence:
    image, text = folders
    return TimmSentence(str(image), str(text), **{"size": 64, **settings})


def of_sizes(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    return [torch.randn(3, *s, generator=torch.Generator().manual_seed(sum(s))) for s in sizes]


# Of each rank: images of one shape or of three, and texts of which some or none are new.
IMAGES = [of_sizes((64, 64), (64, 64), (64, 64)), of_sizes((64, 64), (64, 96), (96, 64))]
TEXTS = [["dim", "the image is sharp"], ["sharp", "sharp"]]


def embedded(encoder: TimmSentence, rank: int) -> torch.Tensor:
    with torch.no_grad():
        images = encoder.encode_images(IMAGES[rank])
        _, texts, _ = encoder(IMAGES[0][0][None], TEXTS[rank])
        _, again, _ = encoder(IMAGES[0][0][None], [TEXTS[0][rank], "sharp"])
    return torch.cat([images, texts, again])


def rank_of_two(rank: int, port: int, folders: tuple[Path, Path], results: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    encoder = made(folders)
    encoder.load()
    encoder.eval()
    encoder.shard(init_device_mesh("cpu", (2,)))
    torch.save(embedded(encoder, rank), results / f"{rank}.pt")
    dist.destroy_process_group()
