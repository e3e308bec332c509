"""mPLUG-Owl2 once more, in plain loops from its description: slow, and with nothing to fuse.

It shares no code with the package, takes one unpadded row at a time, and computes in float64.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Restatement:
    """The forward pass on a state dict and the sizes of its configuration."""

    def __init__(self, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.weights = {name: tensor.double() for name, tensor in weights.items()}
        self.config = config
        self.vision = config["visual_config"]["visual_model"]
        self.abstractor = config["visual_config"]["visual_abstractor"]

    def logits(self, ids: list[int], images: Tensor) -> Tensor:
        """Logits ``[L, V]`` of one row ``ids`` whose placeholders take the ``images`` in order."""
        table, queue = self.weights["model.embed_tokens.weight"], list(images)
        vectors, copies = [], []
        for token in ids:
            new = list(self.see(queue.pop(0))) if token == -200 else [table[token]]
            vectors += new
            copies += [int(token == -200)] * len(new)
        hidden = torch.stack(vectors)
        for layer in range(self.config["num_hidden_layers"]):
            hidden = self.decoder_layer(hidden, copies, f"model.layers.{layer}")
        normed = [self.rms(vector, "model.norm") for vector in hidden]
        return torch.stack(normed) @ self.weights["lm_head.weight"].T

    def decoder_layer(self, hidden: Tensor, copies: list[int], at: str) -> Tensor:
        heads = self.config["num_attention_heads"]
        query, key, value = [], [], []
        for position, (vector, copy) in enumerate(zip(hidden, copies, strict=True)):
            normed = self.rms(vector, f"{at}.input_layernorm.multiway.{copy}")
            query.append(self.rotate(self.linear(normed, f"{at}.self_attn.q_proj"), position))
            name = f"{at}.self_attn.k_proj.multiway.{copy}"
            key.append(self.rotate(self.linear(normed, name), position))
            value.append(self.linear(normed, f"{at}.self_attn.v_proj.multiway.{copy}"))
        mixed = attention(query, key, value, heads, causal=True)
        hidden = hidden + self.linear(mixed, f"{at}.self_attn.o_proj")
        output = []
        for vector, copy in zip(hidden, copies, strict=True):
            normed = self.rms(vector, f"{at}.post_attention_layernorm.multiway.{copy}")
            gate, up = (self.linear(normed, f"{at}.mlp.{name}_proj") for name in ("gate", "up"))
            inner = gate * torch.sigmoid(gate) * up
            output.append(vector + self.linear(inner, f"{at}.mlp.down_proj"))
        return torch.stack(output)

    def see(self, image: Tensor) -> Tensor:
        """Image features of one image for the decoder: ``[Q + 1, H]``."""
        at = "model.visual_abstractor"
        features = self.tower(image.double())
        hidden = self.weights[f"{at}.query_embeds"][0]
        for layer in range(self.abstractor["num_hidden_layers"]):
            hidden = self.abstractor_layer(
                hidden, features, f"{at}.encoder.layers.{layer}.crossattention"
            )
        end = self.weights[f"{at}.vit_eos"][0]
        return torch.cat([self.linear(hidden, f"{at}.visual_fc"), end])

    def tower(self, image: Tensor) -> Tensor:
        at, side = "model.vision_model", self.vision["patch_size"]
        kernel = self.weights[f"{at}.embeddings.patch_embed.weight"].flatten(1)
        tokens = [self.weights[f"{at}.embeddings.cls_token"][0, 0]]
        grid = self.vision["image_size"] // side
        for row in range(grid):
            for column in range(grid):
                corner = image[:, row * side : (row + 1) * side]
                tokens.append(kernel @ corner[..., column * side : (column + 1) * side].flatten())
        hidden = torch.stack(tokens) + self.weights[f"{at}.embeddings.position_embedding"][0]
        eps = self.vision["layer_norm_eps"]
        hidden = self.layer_norm(hidden, f"{at}.embeddings.pre_layernorm", eps)
        for layer in range(self.vision["num_hidden_layers"]):
            hidden = self.tower_layer(hidden, f"{at}.encoder.layers.{layer}", eps)
        return self.layer_norm(hidden, f"{at}.post_layernorm", eps)

    def tower_layer(self, hidden: Tensor, at: str, eps: float) -> Tensor:
        heads = self.vision["num_attention_heads"]
        size = self.vision["hidden_size"] // heads
        normed = self.layer_norm(hidden, f"{at}.input_layernorm", eps)
        mixed = self.linear(normed, f"{at}.self_attn.query_key_value")
        parts: list[list[Tensor]] = [[], [], []]
        for vector in mixed:
            for which in range(3):
                starts = [(head * 3 + which) * size for head in range(heads)]
                parts[which].append(torch.cat([vector[start : start + size] for start in starts]))
        query, key, value = parts
        context = attention(query, key, value, heads, causal=False)
        hidden = hidden + self.linear(context, f"{at}.self_attn.dense")
        inner = self.linear(
            self.layer_norm(hidden, f"{at}.post_attention_layernorm", eps), f"{at}.mlp.fc1"
        )
        return hidden + self.linear(inner * torch.sigmoid(1.702 * inner), f"{at}.mlp.fc2")

    def abstractor_layer(self, hidden: Tensor, image: Tensor, at: str) -> Tensor:
        width, grid = self.abstractor["hidden_size"], self.abstractor["grid_size"]
        hidden = self.layer_norm(hidden, f"{at}.norm1", 1e-5)
        memory = torch.cat([hidden, self.layer_norm(image, f"{at}.normk", 1e-5)])
        of_queries = [code(position, width) for position in range(len(hidden))]
        of_image = [torch.zeros(width, dtype=torch.float64)]
        for row in range(grid):
            for column in range(grid):
                of_image.append(torch.cat([code(column, width // 2), code(row, width // 2)]))
        query = self.linear(hidden + torch.stack(of_queries), f"{at}.attention.query")
        key = self.linear(memory + torch.stack(of_queries + of_image), f"{at}.attention.key")
        value = self.linear(memory, f"{at}.attention.value")
        heads = self.abstractor["num_attention_heads"]
        context = attention(list(query), list(key), list(value), heads, causal=False)
        hidden = hidden + self.linear(context, f"{at}.output.out_proj")
        normed = self.layer_norm(hidden, f"{at}.output.norm2", 1e-5)
        gate, up = (self.linear(normed, f"{at}.output.mlp.{name}") for name in ("w1", "w3"))
        inner = gate * torch.sigmoid(gate) * up
        eps = self.abstractor["layer_norm_eps"]
        inner = self.layer_norm(inner, f"{at}.output.mlp.ffn_ln", eps)
        return hidden + self.linear(inner, f"{at}.output.mlp.w2")

    def linear(self, hidden: Tensor, at: str) -> Tensor:
        output = hidden @ self.weights[f"{at}.weight"].T
        bias = self.weights.get(f"{at}.bias")
        return output if bias is None else output + bias

    def layer_norm(self, hidden: Tensor, at: str, eps: float) -> Tensor:
        centred = hidden - hidden.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * self.weights[f"{at}.weight"] + self.weights[f"{at}.bias"]

    def rms(self, vector: Tensor, at: str) -> Tensor:
        mean = float(vector.square().sum()) / len(vector)
        scaled = vector / math.sqrt(mean + self.config["rms_norm_eps"])
        return scaled * self.weights[f"{at}.weight"]

    def rotate(self, vector: Tensor, position: int) -> Tensor:
        """Each head's pairs (j, j + half) turned by ``position * theta ** (-2 j / size)``."""
        heads = self.config["num_attention_heads"]
        size = len(vector) // heads
        turned = vector.clone()
        for head in range(heads):
            for low in range(size // 2):
                angle = position * self.config["rope_theta"] ** (-2 * low / size)
                a, b = head * size + low, head * size + low + size // 2
                turned[a] = vector[a] * math.cos(angle) - vector[b] * math.sin(angle)
                turned[b] = vector[b] * math.cos(angle) + vector[a] * math.sin(angle)
        return turned


def code(position: int, width: int) -> Tensor:
    half = width // 2
    angles = [position / 10000 ** (index / half) for index in range(half)]
    values = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    return torch.tensor(values, dtype=torch.float64)


def attention(
    query: list[Tensor], key: list[Tensor], value: list[Tensor], heads: int, causal: bool
) -> Tensor:
    """Position by position and head by head."""
    size = len(query[0]) // heads
    rows = []
    for index, asking in enumerate(query):
        seen = index + 1 if causal else len(key)
        context = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = [float(asking[part] @ key[j][part]) / math.sqrt(size) for j in range(seen)]
            weights = [math.exp(score - max(scores)) for score in scores]
            mixed = sum(weight * value[j][part] for j, weight in enumerate(weights))
            context.append(torch.as_tensor(mixed) / sum(weights))
        rows.append(torch.cat(context))
    return torch.stack(rows)
