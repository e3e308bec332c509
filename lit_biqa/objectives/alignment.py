"""Contrastive alignment of images and texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, image_ids: Tensor) -> Tensor:
    """Symmetric InfoNCE that does not use the other texts of an image as negatives.

    With several texts per image, a batch may hold an image twice. Its second text describes it just
    as well, so pairs of the same image off the diagonal are left out of both softmaxes.

    Args:
        images: image embeddings ``[B, D]``, not necessarily normalised.
        texts: embeddings of the paired texts ``[B, D]``, not necessarily normalised.
        scale: inverse temperature, a positive scalar.
        image_ids: ``[B]``, equal for rows of the same image.

    Returns:
        Mean of the image-to-text and text-to-image cross-entropies, a scalar in nats.

    Source: CLIP (Radford et al., 2021, figure 3), as used by RALI (section 4, contrastive
    alignment); the exclusion of duplicates is ours.
    """
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    target = torch.arange(len(logits), device=logits.device)
    same = image_ids[:, None] == image_ids[None, :]
    duplicates = same & (target[:, None] != target[None, :])
    logits = logits.masked_fill(duplicates, float("-inf"))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
