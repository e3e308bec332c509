"""The portable file: what was written scores alike however images come; nothing else is read."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import lit_biqa
from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.data.images import UnreadableImage
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead, weighted_score
from lit_biqa.scoring.scale import within_scale
from lit_biqa.scoring.scorer import Scorer, load_scorer, write_scorer
from lit_biqa.types import InputError

Change = Callable[[dict[str, Any], dict[str, Any], dict[str, Tensor]], object]


@pytest.fixture(scope="module")
def encoder() -> TinyClip:
    made = TinyClip(dim=16, width=8, size=32)
    made.load()
    return made.eval()


@pytest.fixture(scope="module")
def head() -> PrototypeHead:
    generator = torch.Generator().manual_seed(0)
    made = PrototypeHead(16, HeadSettings(pca=8, prototypes=12, buckets=6, finetune=False))
    made.fit(torch.randn(60, 16, generator=generator), 1 + 4 * torch.rand(60, generator=generator))
    return made


@pytest.fixture
def path(tmp_path: Path, encoder: TinyClip, head: PrototypeHead) -> Path:
    file = tmp_path / "scorer.safetensors"
    write_scorer(file, encoder.image_tower.state_dict(), head, encoder.settings())
    return file


@pytest.fixture
def scorer(path: Path) -> Scorer:
    return load_scorer(path)


def noise(height: int = 40, width: int = 50, count: int = 3) -> list[Image.Image]:
    values = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return [Image.fromarray(value) for value in values]


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def rewrite(path: Path, change: Change) -> None:
    """Write the file again with its encoder settings, head settings or tensors changed."""
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    encoder, head = json.loads(notes["encoder"]), json.loads(notes["head"])
    change(encoder, head, tensors)
    notes |= {"encoder": json.dumps(encoder), "head": json.dumps(head)}
    save_file(tensors, path, metadata=notes)


def test_a_file_scores_as_what_it_was_written_from(
    path: Path, encoder: TinyClip, head: PrototypeHead
) -> None:
    images = noise()
    pixels = torch.stack([encoder.eval_transform(image) for image in images])
    with torch.no_grad():
        expected = head(encoder.embed_images(pixels))
    scores = lit_biqa.load_scorer(path)(images)
    assert torch.equal(scores, expected)
    assert scores.std() > 0
    assert 1 <= scores.min() <= scores.max() <= 5


def test_images_score_alike_however_they_come(scorer: Scorer, tmp_path: Path) -> None:
    images = noise()
    files = [tmp_path / f"{n}.png" for n in range(3)]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    tensors = [as_tensor(image) for image in images]
    expected = scorer(images)
    assert torch.equal(scorer(files), expected)
    assert torch.equal(scorer([str(file) for file in files]), expected)
    assert torch.equal(scorer(tensors), expected)
    assert torch.equal(scorer(torch.stack(tensors)), expected)
    assert torch.equal(scorer([images[0], files[1], tensors[2]]), expected)


def test_batches_change_nothing_and_shapes_may_differ(scorer: Scorer) -> None:
    images = [*noise(), *noise(1, 1, 1), *noise(5, 300, 1)]
    together, alone = scorer(images), scorer(images, batch_size=1)
    torch.testing.assert_close(together, alone)
    assert together.dtype == torch.float32
    assert not together.requires_grad


def test_no_image_gives_no_score(scorer: Scorer) -> None:
    assert scorer([]).shape == (0,)
    assert scorer(torch.zeros(0, 3, 8, 8, dtype=torch.uint8)).shape == (0,)


def test_a_single_image_is_no_list_of_its_parts(scorer: Scorer) -> None:
    singles: list[Any] = ["one.jpg", Path("one.jpg"), *noise(count=1), as_tensor(noise()[0])]
    for single in singles:
        with pytest.raises(InputError, match=r"\[image\] for a single one"):
            scorer(single)


def test_what_cannot_be_read_is_named(scorer: Scorer, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        scorer([*noise(), broken])
    with pytest.raises(InputError, match="uint8"):
        scorer(torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, h, t: e.update(kind="torch.load"), "unknown kind of image tower 'torch.load'"),
        (lambda e, h, t: e.update(width=16), "size mismatch"),
        (lambda e, h, t: e.update(dim=32), "size mismatch"),
        (lambda e, h, t: e.update(dim="wide"), "invalid literal"),
        (lambda e, h, t: e.pop("kind"), "KeyError: 'kind'"),
        (lambda e, h, t: e["frame"].update(colour="grey"), "unexpected keyword"),
        (lambda e, h, t: h.update(pca=4), "size mismatch"),
        (lambda e, h, t: h.update(code="exit()"), "unexpected keyword"),
        (lambda e, h, t: t.pop("head.scores"), "missing: head.scores"),
        (lambda e, h, t: t.update(extra=torch.zeros(1)), "not expected: extra"),
        (lambda e, h, t: t["head.scores"].add_(1e-6), "differs from the digest"),
        (lambda e, h, t: h.update(lr=0.02), "differs from the digest"),
        (lambda e, h, t: e.update(kind="open_clip", config={}), "KeyError: 'vision_cfg'"),
        (
            lambda e, h, t: e.update(
                kind="open_clip",
                config={"embed_dim": 16, "vision_cfg": {"timm_model_name": "hf-hub:a/b"}},
            ),
            "'hf-hub:a/b' is not one of timm's own",
        ),
        (
            lambda e, h, t: e.update(
                kind="open_clip", config={"embed_dim": 16, "vision_cfg": {"patch_size": 0}}
            ),
            "ZeroDivisionError",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_tampered_with_is_refused(path: Path, change: Change, message: str) -> None:
    rewrite(path, change)
    with pytest.raises(InputError, match=message) as caught:
        load_scorer(path)
    assert str(path) in str(caught.value)


LAYERED = {"embed_dim": 16, "vision_cfg": {"layers": 10**6, "width": 64, "patch_size": 16}}
STAGES = {"embed_dim": 16, "vision_cfg": {"layers": [200] * 4, "width": 64}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, h, t: h.update(prototypes=10**9), "head.prototypes is 1000000000: give 1 to"),
        (lambda e, h, t: h.update(prototypes=10**6), "size mismatch: head.prototypes"),
        (lambda e, h, t: h.update(pca=10**9), "size mismatch: head.axes"),
        (lambda e, h, t: h.update(temperature=0), r"head\.temperature is 0: give a positive"),
        (lambda e, h, t: h.update(temperature=math.nan), r"head\.temperature is nan"),
        (lambda e, h, t: h.update(temperature=-math.inf), r"head\.temperature is -inf"),
        (lambda e, h, t: e.update(dim=10**9), "dim is 1e\\+09, more than the 32,768 allowed"),
        (lambda e, h, t: e.update(width=32_768), "size mismatch"),
        (lambda e, h, t: e["frame"].update(size=30_000), "size is 30000, more than the 4,096"),
        (lambda e, h, t: e["frame"].update(size=0), "frame of size 0"),
        (lambda e, h, t: e["frame"].update(margin=1000), "frame of size 32 and margin 1000"),
        (lambda e, h, t: e["frame"].update(margin=math.inf), "margin is inf"),
        (lambda e, h, t: e["frame"].update(mode="pad"), "frame of mode 'pad'"),
        (lambda e, h, t: e["frame"].update(std=[1, 1, 0]), "positive deviation"),
        (lambda e, h, t: e.update(kind="open_clip", config=LAYERED), "layers is 1e\\+06"),
        (lambda e, h, t: e.update(kind="open_clip", config=STAGES), "layers is 800, more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_a_header_announces_take_no_memory(
    path: Path, change: Change, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(path, change)
    monkeypatch.setattr(nn.Module, "load_state_dict", None)  # nothing comes as far as this
    with pytest.raises(InputError, match=message) as caught, LargestTensor() as largest:  # type: ignore[no-untyped-call]
        load_scorer(path)
    assert str(path) in str(caught.value)
    assert largest.bytes <= path.stat().st_size


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the memory of every tensor that is made."""

    bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.device.type != "meta":
            self.bytes = max(self.bytes, made.untyped_storage().nbytes())
        return made


def test_a_scorer_without_a_digest_is_read_as_before(path: Path, scorer: Scorer) -> None:
    rewrite(path, lambda e, h, t: None)
    with safe_open(path, framework="pt") as file:
        notes = {k: v for k, v in file.metadata().items() if k != "digest"}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata=notes)
    assert torch.equal(load_scorer(path)(noise()), scorer(noise()))


def test_scores_stay_on_the_scale_in_their_order(
    path: Path, encoder: TinyClip, head: PrototypeHead
) -> None:
    """Also of a scorer whose fitted prototypes lie beyond, as the fine-tuning leaves them."""
    wild = copy.deepcopy(head)
    wild.scores.sub_(3.0).mul_(1.3).add_(3.0)
    raw = weighted_score(wild.compress(torch.randn(500, 16)), wild.prototypes, wild.scores, 0.07)
    assert raw.min() < 1 and raw.max() > 5
    found = within_scale(raw)
    assert found.min() >= 1 and found.max() <= 5
    assert scipy.stats.spearmanr(raw, found).statistic == 1.0
    inside = (raw >= 1.1) & (raw <= 4.9)
    assert torch.equal(found[inside], raw[inside]) and inside.any()
    write_scorer(path, encoder.image_tower.state_dict(), wild, encoder.settings())
    pixels = torch.stack([encoder.eval_transform(image) for image in noise(count=20)])
    with torch.no_grad():
        embedded = encoder.embed_images(pixels)
        assert torch.equal(load_scorer(path)(noise(count=20)), wild(embedded))


def test_foreign_and_broken_files_are_refused(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    with pytest.raises(InputError, match="not a scorer"):
        load_scorer(foreign)
    for content in (b"", whole[: len(whole) // 2], pickle.dumps({"kind": "tiny"})):
        foreign.write_bytes(content)
        with pytest.raises(InputError, match=r"foreign\.safetensors: broken scorer"):
            load_scorer(foreign)
    for absent in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(InputError, match=r"no such scorer|is a folder"):
            load_scorer(absent)


@pytest.mark.parametrize("when", ["write_bytes", "replace"])
def test_a_full_disk_leaves_the_file_that_was_there(
    path: Path,
    head: PrototypeHead,
    encoder: TinyClip,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    before = path.read_bytes()
    write = Path.write_bytes

    def fail(self: Path, given: Any) -> int:
        if when == "write_bytes":
            write(self, given[: len(given) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, when, fail)
    with pytest.raises(InputError, match=r"cannot be written.*No space left"):
        write_scorer(path, {"stem": torch.zeros(3)}, head, encoder.settings())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
