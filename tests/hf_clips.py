"""A CLIP as transformers ships it, in small: OpenAI's vocabulary, few layers."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

SIDE, DIM = 28, 16


def small_clip(folder: Path) -> CLIPModel:
    """Write ``config.json``, ``pytorch_model.bin`` and ``preprocessor_config.json``.

    OpenAI's folders hold a pickled file, with the places of positions among the weights.
    """
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 4, "image_size": SIDE, "patch_size": 14}
    text = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "vocab_size": 49408, "max_position_embeddings": 20}
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=DIM)
    clip = CLIPModel(config).eval()
    for parameter in clip.parameters():  # biases and norms count too
        torch.nn.init.normal_(parameter, std=0.3)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    places = {
        "text_model.embeddings.position_ids": torch.arange(20)[None],
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    torch.save({**clip.state_dict(), **places}, folder / "pytorch_model.bin")
    crop = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=crop).save_pretrained(folder)
    return clip
