"""Image towers rebuilt from the settings in a scorer file, without weights or text towers."""

from __future__ import annotations

from typing import Any

from torch import nn

from lit_biqa.types import InputError

# The smallest text tower: open_clip builds no model without one.
_NO_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def build_tower(settings: dict[str, Any]) -> nn.Module:
    """Image tower with random weights.

    Args:
        settings: the ``settings`` of an encoder; only the kinds listed here are built, so that a
            file from elsewhere cannot name code to run.

    Raises:
        InputError: if the kind is unknown, or the settings name a model to download.
    """
    if settings["kind"] == "tiny":
        from lit_biqa.backbones.tiny import ImageTower

        return ImageTower(int(settings["width"]), int(settings["dim"]))
    if settings["kind"] == "open_clip":
        return _open_clip_tower(settings["config"])
    if settings["kind"] == "timm_stages":
        from lit_biqa.backbones.stage_tower import StageTower, create_network

        network = create_network(str(settings["architecture"]))
        dim = int(settings["dim"]) if settings.get("projected", True) else None
        stages = settings.get("stages")
        tower = StageTower(network, dim, precision=settings["precision"], stages=stages)
        tower.freeze()
        return tower
    raise InputError(
        f"unknown kind of image tower {settings['kind']!r}: known are tiny, "
        "open_clip and timm_stages"
    )


def _open_clip_tower(config: dict[str, Any]) -> nn.Module:
    import open_clip

    name = config["vision_cfg"].get("timm_model_name") or ""
    if ":" in name:  # timm would download the model that the file names
        raise InputError(f"image tower {name!r} is not one of timm's own")
    model = open_clip.CLIP(
        embed_dim=config["embed_dim"],
        vision_cfg={**config["vision_cfg"], "timm_model_pretrained": False},
        text_cfg=_NO_TEXT,
        quick_gelu=config.get("quick_gelu", False),
    )
    tower: nn.Module = model.visual
    return tower
