"""The portable file: what was written scores alike however images come; nothing else is read."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import shutil
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
from lit_biqa.scoring.scorer_file import newest_scorer
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
    images = [*noise(), *noise(8, 8, 1), *noise(9, 300, 1)]
    together, alone = scorer(images), scorer(images, batch_size=1)
    torch.testing.assert_close(together, alone)
    assert together.dtype == torch.float32
    assert not together.requires_grad


def test_no_image_gives_no_score(scorer: Scorer) -> None:
    assert scorer([]).shape == (0,)
    assert scorer(torch.zeros(0, 3, 8, 8, dtype=torch.uint8)).shape == (0,)


def test_one_image_in_any_form_gives_one_score(scorer: Scorer, tmp_path: Path) -> None:
    image = noise(count=1)[0]
    file = tmp_path / "one.png"
    image.save(file)
    expected = scorer([image])
    array, tensor = np.array(image), as_tensor(image)
    alpha = np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    forms: list[Any] = [file, str(file), image, array, alpha, tensor, tensor.float() / 255]
    # As OpenCV reads it, turned into RGB: an array that runs backwards.
    forms += [np.ascontiguousarray(array[..., ::-1])[..., ::-1], array / 255.0]
    for form in forms:
        score = scorer(form)
        assert score.shape == (1,)
        assert torch.equal(score, expected)


def test_grey_in_any_form(scorer: Scorer) -> None:
    image = noise(count=1)[0].convert("L")
    array = np.array(image)
    tensor = torch.from_numpy(array)
    for form in (array, array[..., None], tensor, tensor[None], tensor[None, None]):
        assert torch.equal(scorer(form), scorer(image))


def test_a_list_may_be_any_iterable(scorer: Scorer, tmp_path: Path) -> None:
    for place, image in enumerate(noise()):
        image.save(tmp_path / f"{place}.png")
    assert torch.equal(scorer(sorted(tmp_path.glob("*.png"))), scorer(noise()))
    assert torch.equal(scorer(iter(noise())), scorer(tuple(noise())))


WRONG: list[tuple[Any, str]] = [
    (7, r"^int is no picture: give a path"),
    (b"\x89PNG" * 999, r"^bytes is no picture"),
    ({"one.jpg": 1}, r"^dict is no picture"),
    ([b"\x89PNG" * 999], r"^picture 1 is of type bytes"),
    (
        np.zeros((3, 40, 50), np.uint8),
        r"picture 1 has the shape \[3, 40, 50\]: give an array",
    ),
    (np.zeros((2, 9, 9, 3), np.uint8), r"picture 1 has the shape \[2, 9, 9, 3\]"),
    (torch.zeros(40, 50, 3), r"picture 1 has the shape \[40, 50, 3\]: give a tensor"),
    ([torch.zeros(2, 3, 9, 9)], r"picture 1 has the shape \[2, 3, 9, 9\]"),
    (torch.zeros(3, 0, 9), r"picture 1 has the shape \[3, 0, 9\]"),
    (torch.rand(3, 9, 9) * 255, r"picture 1 has floats from .* to 25\d.*: give 0 to 1"),
    (torch.full((3, 9, 9), math.nan), r"picture 1 has floats from nan to nan"),
    (torch.zeros(3, 9, 9, dtype=torch.int64), r"picture 1 has values of int64: give uint8"),
    (np.zeros((9, 9), np.complex64), r"picture 1 has values of complex64"),
    (np.array([["a.jpg"]]), r"picture 1 has values of <U5"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[message for _, message in WRONG])
@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_what_is_no_picture_is_named_in_one_line_without_its_data(
    scorer: Scorer, given: Any, message: str, on_error: Any
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        scorer(given, on_error=on_error)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


def test_what_cannot_be_read_is_named(scorer: Scorer, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        scorer([*noise(), broken])
    with pytest.raises(UnreadableImage, match=r"picture 4: 7 x 9 pixels are too small to rate"):
        scorer([*noise(), Image.new("RGB", (7, 9))])
    with pytest.raises(UnreadableImage, match=r"is a folder"):
        scorer(tmp_path)


def test_a_broken_file_may_give_nan_and_a_warning_that_names_it(
    scorer: Scorer, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    one, two = noise(count=2)
    with pytest.warns(UserWarning, match=r"not scored: .*broken\.png: not an image") as caught:
        scores = scorer([one, broken, two], on_error="nan", batch_size=2)
    assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name]
    assert scores.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(scores[[0, 2]], scorer([one, two]))
    with pytest.warns(UserWarning, match="too small"):
        assert scorer(Image.new("RGB", (1, 1)), on_error="nan").isnan().tolist() == [True]
    with pytest.raises(InputError, match="on_error is 'skip': give 'raise' or 'nan'"):
        scorer(one, on_error="skip")


def test_a_run_folder_stands_for_its_scorer(path: Path, scorer: Scorer, tmp_path: Path) -> None:
    assert torch.equal(lit_biqa.load_scorer(tmp_path)(noise()), scorer(noise()))
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match=r"bare is a folder without scorer\.safetensors"):
        lit_biqa.load_scorer(tmp_path / "bare")


def test_a_scorer_shows_itself_in_one_line(scorer: Scorer, path: Path) -> None:
    assert repr(scorer) == f"Scorer(tiny, 32 x 32, 12 prototypes, {path})"


def test_devices(path: Path) -> None:
    assert lit_biqa.load_scorer(path, "cpu")(noise()).device.type == "cpu"
    for name in ("gpu", "cuda:99", "xla"):
        with pytest.raises(InputError, match=f"device '{name}' cannot be used here: ") as caught:
            lit_biqa.load_scorer(path, name)
        assert "\n" not in str(caught.value)


def test_the_newest_scorer_of_all_runs(path: Path, tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        shutil.copy(path, copied := tmp_path / "runs" / name / "scorer.safetensors")
        os.utime(copied, (0, 1000 - age))
    assert newest_scorer(tmp_path / "runs").parent.name == "new"
    with pytest.raises(InputError, match=r"no scorer\.safetensors in .*absent.*lit_biqa fit"):
        newest_scorer(tmp_path / "absent")


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
    (tmp_path / "folder").mkdir()
    for absent in (tmp_path / "absent.safetensors", tmp_path / "folder"):
        with pytest.raises(InputError, match=r"no such scorer|is a folder without"):
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
