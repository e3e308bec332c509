"""Weights that stay in their files until they are sharded are those of a model read whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from chatters import BACKBONES, loaded, reader, reread
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from two_ranks import run_two_ranks

from lit_biqa.backbones.precision import Precision
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.io.digests import DIGESTS
from lit_biqa.methods.grpo.reference import Reference

# Precision of the files, and tuning.
CASES: dict[str, tuple[Precision, Tuning]] = {
    "widened": ("bfloat16", Tuning()),
    "narrowed": ("float32", Tuning(precision="bfloat16")),
    "widened beside updates": ("bfloat16", Tuning("lora", rank=3)),
    "updates of a part": ("bfloat16", Tuning("lora", ["bridge"], rank=3, precision="bfloat16")),
}
STORED: tuple[Precision, ...] = ("bfloat16", "float32")
FAMILIES = [BACKBONES[name] for name in ("mPLUG-Owl2", "Qwen2.5-VL", "InternVL3", "TimmChat")]
TIED = "tied words"


def state(model: VisionLanguageModel) -> dict[str, tuple[Tensor, bool]]:
    """Whole weights by name, and which of them are trained."""
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    return {
        name: (weight.full_tensor() if hasattr(weight, "full_tensor") else weight, name in trained)
        for name, weight in model.state_dict().items()
    }


def process(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    mesh = init_device_mesh("cpu", (2,))
    for family in FAMILIES:
        for name, (stored, tuning) in CASES.items():
            model = reader(family, str(folder / f"{family.__name__}-{stored}"), tuning)
            with model.unread.taking():
                model.load()
            held = model.token_embedding.weight.untyped_storage().nbytes()
            reference = Reference(copied=True)
            reference.keep(model)
            model.shard(mesh)
            reference.shard(mesh, None)
            assert reference.copy is not None
            found = held, state(model), state(reference.copy)
            torch.save(found, folder / f"{family.__name__}-{name}-{rank}.pt")
    tied = QwenVL(str(folder / TIED))
    with tied.unread.taking():
        tied.load()
    tied.shard(mesh)
    assert tied.head.weight is tied.token_embedding.weight
    torch.save(state(tied), folder / f"{TIED}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of weights, and what two processes read from them."""
    folder = tmp_path_factory.mktemp("shares")
    for family in FAMILIES:
        for precision in STORED:
            model = loaded(family, Tuning(precision=precision))
            model.save(folder / f"{family.__name__}-{precision}", model.state())
    _tie(shutil.copytree(folder / "TinyQwenVL-bfloat16", folder / TIED))
    run_two_ranks(process, folder, limit=540)  # four backbones, four times each
    return folder


def _tie(folder: Path) -> None:
    """Take the head out of a folder, whose words are it then."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / DIGESTS).unlink()


@pytest.mark.newest
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_shares_are_those_of_weights_read_whole(family: Any, name: str, folder: Path) -> None:
    stored, tuning = CASES[name]
    expected = state(reread(family, str(folder / f"{family.__name__}-{stored}"), tuning))
    for rank in range(2):
        held, found, copied = torch.load(folder / f"{family.__name__}-{name}-{rank}.pt")
        assert held <= 4  # one value stands for the embedding until it is sharded
        assert found.keys() == copied.keys() == expected.keys()
        for weight, (values, trained) in expected.items():
            assert found[weight][0].dtype == copied[weight][0].dtype == values.dtype, weight
            assert torch.equal(found[weight][0], values), weight
            assert torch.equal(copied[weight][0], values), weight
            assert found[weight][1] == trained, weight
            assert not copied[weight][1], weight


def test_words_that_are_the_head_stay_it(folder: Path) -> None:
    model = QwenVL(str(folder / TIED))
    model.load()
    expected = state(model)
    for rank in range(2):
        found = torch.load(folder / f"{TIED}-{rank}.pt")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name][0], values) for name, (values, _) in expected.items())


def test_pickled_weights_are_read_at_once(tmp_path: Path) -> None:
    made = loaded(TinyQwenVL)
    made.save(tmp_path, made.state())
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    for name in ("model.safetensors", DIGESTS):
        (tmp_path / name).unlink()
    model = QwenVL(str(tmp_path))
    with model.unread.taking():
        model.load()
    pairs = zip(model.state().items(), made.state().items(), strict=True)
    assert all(one[0] == other[0] and torch.equal(one[1], other[1]) for one, other in pairs)
