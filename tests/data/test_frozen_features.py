"""Features of a frozen network: computed once, kept on disk, refused if they are another's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from lit_biqa.data.dataset import EvaluateReader
from lit_biqa.data.frozen_features import FeatureCache, FeatureReader, cached_features
from lit_biqa.data.images import UnreadableImage
from lit_biqa.types import InputError, Sample


class Means:
    """Network whose features are the means of the channels; it counts the images that it sees."""

    def __init__(self, digest: str = "a" * 64) -> None:
        self.digest, self.images = digest, 0

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        return lambda image: torch.tensor(image.getpixel((0, 0))).float()[:, None, None] / 255

    @property
    def observe(self) -> Callable[[Tensor], None]:
        return lambda features: None

    def features(self, pixels: Sequence[Tensor]) -> Tensor:
        self.images += len(pixels)
        return torch.stack([image.mean((1, 2)) for image in pixels])


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    monkeypatch.setenv("LIT_BIQA_CACHE", str(tmp_path / "cache"))
    made = []
    for number in range(11):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (20 + number, 16), (10 * number, 20, 30)).save(path)
        made.append(Sample("own", "all", number, path.name, path))
    return made


def read(network: Means, samples: Sequence[Sample]) -> dict[Path, Tensor]:
    return cached_features(network, samples, 10**6, torch.device("cpu"))


def test_an_image_is_seen_once(samples: list[Sample]) -> None:
    network = Means()
    first = read(network, samples)
    assert network.images == len(first) == 11
    again = read(network, samples)
    assert network.images == 11
    for sample in samples:
        assert sample.path is not None
        red = round(10 * sample.index / 255, 6)
        assert again[sample.path][0].item() == pytest.approx(red, abs=1e-3)
        assert torch.equal(again[sample.path], first[sample.path])


def test_another_file_with_the_same_name_is_another_image(samples: list[Sample]) -> None:
    network = Means()
    read(network, samples)
    path = samples[3].path
    assert path is not None
    Image.new("RGB", (20, 20), (255, 0, 0)).save(path)
    assert read(network, samples)[path][0] == 1
    assert network.images == 12


def test_another_network_has_features_of_its_own(samples: list[Sample]) -> None:
    read(Means(), samples)
    other = Means("b" * 64)
    read(other, samples)
    assert other.images == 11


def test_features_of_another_network_are_refused(samples: list[Sample]) -> None:
    read(Means(), samples)
    other = FeatureCache("a" * 16 + "b" * 48)  # its folder has the same name
    with pytest.raises(InputError, match=r"of another network.*; remove .*features"):
        read(Means(other.digest), samples)


def test_damaged_features_are_refused(samples: list[Sample]) -> None:
    read(Means(), samples)
    path = next(FeatureCache("a" * 64).files.folder.iterdir())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"digest.*; remove .*features"):
        read(Means(), samples)


def test_images_that_cannot_be_read_are_left_to_the_loader(samples: list[Sample]) -> None:
    broken, absent = samples[0].path, samples[1].path
    assert broken is not None and absent is not None
    broken.write_bytes(b"no image")
    absent.unlink()
    network = Means()
    features = read(network, samples)
    assert len(features) == 9
    reader = FeatureReader(EvaluateReader(network.transform), features)
    assert reader(samples[2], Generator()) is not None
    for sample in samples[:2]:
        with pytest.raises(UnreadableImage):
            reader(sample, Generator())
    stand_in = reader.stand_in()
    assert stand_in.shape == (3,) and not stand_in.any()
