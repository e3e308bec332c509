"""A timm network beside a sentence encoder, from folders that are made here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from sentence_ranks import embedded, made, rank_of_two
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizerFast
from two_ranks import run_two_ranks

from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.stage_tower import Standardise, create_network
from lit_biqa.backbones.timm_sentence import TimmSentence
from lit_biqa.io.cache import CACHE
from lit_biqa.types import InputError

LITE0 = "tf_efficientnet_lite0"
CLASSIFIER: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 1000}
CLASSIFIER |= {"classifier": "classifier", "first_conv": "conv_stem"}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sharp", "dim", "image", "the", "is"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An image network and a text encoder of random weights, as timm and transformers save them."""
    image, text = tmp_path_factory.mktemp("image"), tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    save_file(timm.create_model(LITE0).state_dict(), image / "model.safetensors", {"format": "pt"})
    settings = {"architecture": LITE0, "pretrained_cfg": CLASSIFIER}
    (image / "config.json").write_text(json.dumps(settings))
    (text / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab_file=str(text / "vocab.txt")).save_pretrained(text)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(WORDS), intermediate_size=32, **size)).save_pretrained(text)
    return image, text


@pytest.fixture
def encoder(folders: tuple[Path, Path]) -> TimmSentence:
    encoder = made(folders)
    encoder.load()
    return encoder.train()


def pixels(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_statistics_are_unit_length_means_and_deviations(encoder: TimmSentence) -> None:
    assert encoder.images is not None
    statistics = encoder.images.statistics(pixels())
    assert statistics.shape == (3, 2 * (16 + 24 + 40 + 112 + 320 + 1280))
    last, stages = encoder.images.network.forward_intermediates(pixels())  # type: ignore[operator]
    first, head = stages[0].flatten(2).double(), last.flatten(2).double()
    by_hand = torch.cat([first.mean(2), first.var(2, correction=0).sqrt()], 1)
    by_hand /= by_hand.norm(dim=1, keepdim=True)
    torch.testing.assert_close(statistics[:, :32].double(), by_hand, atol=1e-5, rtol=0)
    assert statistics[:, -2560:].norm(dim=1) == pytest.approx(torch.ones(3))
    assert head.shape[1] == 1280


def test_features_do_not_depend_on_the_images_beside(folders: tuple[Path, Path]) -> None:
    encoder = made(folders)
    encoder.load()  # in training mode, as Lightning holds it
    network = encoder.frozen_network()
    assert network is not None
    before = network.digest
    with torch.no_grad():
        together = network.features(list(pixels()))
        alone = torch.cat([network.features([image]) for image in pixels()])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert network.digest == before
    large = torch.randn(3, 96, 64, generator=torch.Generator().manual_seed(2))
    mixed = network.features([pixels()[0], large, pixels()[1]])
    torch.testing.assert_close(mixed[[0, 2]], alone[:2], atol=1e-5, rtol=0)


def test_nothing_runs_behind_the_last_stage(folders: tuple[Path, Path]) -> None:
    every, some = made(folders), made(folders, stages=[3, 0])
    for encoder in (every, some):
        encoder.load()
    assert every.images is not None and some.images is not None
    network: Any = some.images.network
    network.conv_head = network.blocks[-1] = nn.Linear(1, 1)  # which would fail
    with torch.no_grad():
        whole, part = every.images.statistics(pixels()), some.images.statistics(pixels())
    fourth = whole[:, 2 * (16 + 24 + 40) : 2 * (16 + 24 + 40 + 112)]
    assert torch.equal(part, torch.cat([fourth, whole[:, :32]], 1))


def test_some_stages_alone(folders: tuple[Path, Path]) -> None:
    every, some = made(folders), made(folders, stages=[0, 5])
    for encoder in (every, some):
        encoder.load()
    assert every.images is not None and some.images is not None
    with torch.no_grad():
        whole, part = every.images.statistics(pixels()), some.images.statistics(pixels())
    assert torch.equal(part, torch.cat([whole[:, :32], whole[:, -2560:]], 1))
    digests = [encoder.frozen_network().digest for encoder in (every, some)]  # type: ignore[union-attr]
    assert digests[0] != digests[1]
    tower = build_tower(some.settings())
    tower.load_state_dict(some.images.state_dict())
    for stages in ([], [6], [1, 1], [-1]):
        with pytest.raises(InputError, match=r"stages=.* from 0 to 5"):
            made(folders, stages=stages).load()


def test_without_texts_the_embedding_is_the_statistics(folders: tuple[Path, Path]) -> None:
    encoder = TimmSentence(str(folders[0]), None, size=64)
    encoder.load()
    network = encoder.frozen_network()
    assert network is not None and encoder.dim == 2 * (16 + 24 + 40 + 112 + 320 + 1280)
    with torch.no_grad():
        statistics = network.features(list(pixels(8)))
        network.observe(statistics)
        embeddings = encoder.embed_images(statistics)
    varies = statistics.std(0, correction=0) > 1e-4  # others are divided by a little more
    expected = (statistics - statistics.mean(0)) / statistics.std(0, correction=0)
    assert varies.sum() > 1000
    torch.testing.assert_close(embeddings[:, varies], expected[:, varies], atol=0.03, rtol=0)
    with pytest.raises(InputError, match=r"encoder\.text is null"):
        encoder.embed_texts(["sharp"])


def test_rows_are_standardised_by_all_that_were_trained_on() -> None:
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    layer = Standardise(4).train()
    for start in range(0, 10, 3):
        layer(rows[start : start + 3])
    layer.eval()
    expected = (rows - rows.mean(0)) / rows.std(0, correction=0)
    torch.testing.assert_close(layer(rows), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(layer(rows + 1000), torch.full((10, 4), 4.0))
    assert layer.count == 10


@pytest.mark.parametrize("frozen", [True, False])
def test_the_projection_learns_and_the_network_where_it_is_not_frozen(
    frozen: bool, folders: tuple[Path, Path]
) -> None:
    encoder = made(folders, freeze_image=frozen)
    encoder.load()
    encoder.train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    images, texts, scale = encoder(pixels(), ["the image is sharp", "dim", "is dim"])
    (scale * images @ texts.T).sum().backward()
    learned = {name.split(".")[1] for name, p in encoder.named_parameters() if p.grad is not None}
    assert learned == ({"project"} if frozen else {"project", "network"})
    changed = {n for n, value in encoder.named_buffers() if not torch.equal(value, before[n])}
    assert all(".standardise." in name for name in changed)
    assert not any(m.training for m in encoder.modules() if isinstance(m, nn.BatchNorm2d))


def test_each_text_is_embedded_once(
    encoder: TimmSentence, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encoder.embed_texts(["the image is sharp", "dim", "dim"])
    assert first.shape == (3, encoder.dim) and torch.equal(first[1], first[2])

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("embedded again")

    later = made(folders)
    later.load()
    for each in (encoder, later):
        monkeypatch.setattr(each.texts, "forward", fail)
        assert torch.equal(each.embed_texts(["dim"])[0], first[1])


def test_embeddings_belong_to_the_encoders_files_and_precision(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    text = tmp_path / "text"
    shutil.copytree(folders[1], text)

    def embed(**settings: Any) -> int:
        encoder = made((folders[0], text), **settings)
        encoder.load()
        encoder.embed_texts(["dim"])
        return len(list((tmp_path / "cache" / "texts").iterdir()))

    assert [embed(), embed(seed=1), embed(precision="bfloat16")] == [1, 1, 2]
    (text / "tokenizer.json").open("a").write("\n")
    assert embed() == 3


def test_padding_changes_no_text(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = []
    for texts in (["the image is sharp", "dim"], ["dim"]):
        monkeypatch.setenv(CACHE, str(tmp_path / str(len(texts))))
        encoder = made(folders)
        encoder.load()
        embedded.append(encoder.embed_texts(texts))
    together, alone = embedded
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=0)


def test_a_scorer_rebuilds_the_tower(encoder: TimmSentence) -> None:
    encoder(pixels(), ["dim", "sharp", "image"])
    encoder.eval()
    tower = build_tower(json.loads(json.dumps(encoder.settings())))
    tower.load_state_dict(encoder.image_tower.state_dict())
    assert torch.equal(tower.eval()(pixels()), encoder.encode_images(pixels()))


def test_what_is_wrong_is_told(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"config\.json: no settings of a model"):
        TimmSentence(str(tmp_path), str(folders[1]))
    with pytest.raises(InputError, match="temperature is 0"):
        made(folders, temperature=0)
    for name in ("resnet999", "hf-hub:somebody/net"):
        with pytest.raises(InputError, match="timm has no network"):
            create_network(name)


def test_ranks_may_call_frozen_networks_unequally_often(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "ranks"))
    run_two_ranks(rank_of_two, folders, tmp_path)
    monkeypatch.setenv(CACHE, str(tmp_path / "alone"))
    alone = made(folders)
    alone.load()
    alone.eval()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found, embedded(alone, rank), atol=1e-5, rtol=0)
