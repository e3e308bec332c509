"""The modules of `TimmChat`, and the files that they are saved in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lit_biqa.backbones.grid_tower import GridProjector, GridTower
from lit_biqa.backbones.timm_folder import save_network
from lit_biqa.backbones.weights import reading
from lit_biqa.types import InputError

SETTINGS, IMAGE = "timm_chat.json", "image"
_PROJECTOR = "projector.safetensors"


class ComposedModel(nn.Module):
    """Image tower, projection and language model, with what backbones ask of a model.

    Attributes:
        config: configuration of the language model.
    """

    def __init__(self, tower: GridTower, projector: GridProjector, language: Any) -> None:
        super().__init__()
        self.tower, self.projector, self.language = tower, projector, language
        self.config = language.config

    def get_input_embeddings(self) -> nn.Module:
        """Token embedding."""
        words: nn.Module = self.language.get_input_embeddings()
        return words

    def get_output_embeddings(self) -> nn.Module:
        """Head."""
        head: nn.Module = self.language.get_output_embeddings()
        return head

    def set_attn_implementation(self, name: str) -> None:
        """Set the attention of the language model."""
        self.language.set_attn_implementation(name)

    def activation_checkpointing_enable(self, options: dict[str, Any]) -> None:
        """Recompute activations of the language model."""
        self.language.activation_checkpointing_enable(options)


@dataclass(frozen=True)
class VisionFiles:
    """Files of image network and projection, written beside those of the language model."""

    architecture: str
    settings: dict[str, int]
    described: dict[str, Any]
    network: dict[str, Tensor]
    projector: dict[str, Tensor]

    def save_pretrained(self, folder: Path) -> None:
        """Write them into a folder."""
        from safetensors.torch import save_file

        save_network(folder / IMAGE, self.described, self.network)
        plain = {name: weight.contiguous() for name, weight in self.projector.items()}
        save_file(plain, folder / _PROJECTOR, {"format": "pt"})
        (folder / SETTINGS).write_text(json.dumps(self.settings), encoding="utf-8")


def load_projector(folder: Path, projector: GridProjector) -> None:
    """Read the weights of a projection from the folder of its model.

    Raises:
        InputError: if they are absent or do not fit.
    """
    path = folder / _PROJECTOR
    from safetensors.torch import load_file

    with reading(str(path), "its projection"):
        weights = load_file(path)
    try:
        projector.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"{path}: the projection does not fit the image network beside it and the language "
            "model: copy the folder from its run again"
        ) from error
