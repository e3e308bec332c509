"""Weights as other programs name and store them: what is read all the same, what is told.

Patterns to read are those of ``key_mapping`` of transformers' ``from_pretrained``. They are applied
in order, before transformers' own patterns for the names of its older releases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lit_biqa.types import InputError

#: DDP and DeepSpeed, torch.compile and Lightning Fabric put these before every name.
WRAPPED = {r"^(?:module\.|_orig_mod\.|_forward_module\.)+": ""}
#: Some servers' tools write the head below the decoder.
HEAD = {r"^model\.language_model\.lm_head\.": "lm_head."}
#: vLLM and SGLang hold Qwen2.5-VL as a causal language model beside a tower.
SERVED_QWEN = {
    r"^language_model\.lm_head\.": "lm_head.",
    r"^(?:model\.)?language_model\.model\.": "model.language_model.",
}

WEIGHTS = (
    *("model.safetensors.index.json", "model.safetensors"),
    *("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
"""Files of which transformers reads one; each names or holds all weights."""

# Part of a weight's name, the layout that has it, and what to do.
_NAMES = (
    (
        r"\.lora_[AB]\.|\.base_layer\.",
        "an adapter of peft inside its base",
        "merge it with merge_and_unload, and save the model that this returns",
    ),
    (
        r"_fsdp_wrapped_module\.|_flat_param",
        "a model wrapped by FSDP",
        "save its full state dict (torch.distributed.checkpoint.state_dict.get_model_state_dict)",
    ),
    (
        r"\.(qweight|qzeros|weight_packed)$",
        "a model quantised by GPTQ, AWQ or llm-compressor",
        "name the weights that were quantised; tuning.how=qlora holds them in 4 bits",
    ),
)
# File in a folder without weights, the layout that has it, and what to do.
_FILES = (
    (
        "zero_to_fp32.py",
        "the shards of DeepSpeed",
        "join them with `python zero_to_fp32.py . OUT --safe_serialization` in that folder",
    ),
    (
        "model_world_size_*_rank_*.pt",
        "the shards of verl",
        "join them with `python -m verl.model_merger merge --backend fsdp --local_dir FOLDER "
        "--target_dir OUT`",
    ),
    (
        "**/*.distcp",
        "the shards of torch.distributed.checkpoint",
        "join them with `accelerate merge-weights FOLDER OUT`",
    ),
    ("*.gguf", "weights for llama.cpp", "name the weights that they were made of"),
    ("weights/config.json", "a run", "name the folder weights in it"),
)


def layout_of_names(names: Iterable[str]) -> str:
    """Layout that unknown names of weights point to, and what to do; empty if none.

    Args:
        names: weights of a checkpoint that its model does not have.
    """
    unknown = list(names)
    for pattern, layout, remedy in _NAMES:
        if any(re.search(pattern, name) for name in unknown):
            return f"These are the names of {layout}: {remedy}"
    return ""


def check_has_weights(folder: Path) -> None:
    """Check that a folder holds files of weights that transformers reads.

    Args:
        folder: what `pretrained` names; a name of the hub is no folder and is not checked.

    Raises:
        InputError: if it holds none; says which other layout it has, and what to do.
    """
    if not folder.is_dir() or any((folder / name).exists() for name in WEIGHTS):
        return
    for pattern, layout, remedy in _FILES:
        if next(folder.glob(pattern), None) is not None:
            raise InputError(f"{folder} holds {layout}, not weights of transformers: {remedy}")
    raise InputError(
        f"{folder} holds no weights of transformers (none of {', '.join(WEIGHTS)}): name the "
        "folder that holds them beside config.json, or one inside `pretrained` with "
        "layout.subfolder"
    )
