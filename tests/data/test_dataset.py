"""Rows of a data set: pairs, what is random in them, and images that cannot be read."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import file_of
from lightning.pytorch.plugins.precision import HalfPrecision
from PIL import Image
from torch import Generator, Tensor

from lit_biqa.data.dataset import (
    BlindReader,
    EvaluateReader,
    QualityDataset,
    TrainReader,
    collate,
)
from lit_biqa.data.loader import BatchLoader
from lit_biqa.distributed import GlobalBatchSampler
from lit_biqa.types import Batch, InputError, Message, Sample


def evaluate(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.resize((2, 2)))).permute(2, 0, 1).float()


def natural(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


def augment(image: Image.Image, generator: Generator) -> Tensor:
    return evaluate(image) + torch.rand(1, generator=generator)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Six grey images of different shade and size; sample i has i texts."""
    made = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (4 + i, 4), (i, i, i)).save(path)
        texts = tuple(f"{i}-{k}" for k in range(i))
        made.append(
            Sample("set", "all@0", 10 + i, path.name, path, 1 + i / 2, 0.1 * i, texts=texts)
        )
    return made


def break_(*samples: Sample) -> None:
    for sample in samples:
        file = file_of(sample)
        file.write_bytes(file.read_bytes()[:40])


def batches(data: QualityDataset, size: int = 2, workers: int = 0, draw: int = 0) -> list[Batch]:
    sampler = GlobalBatchSampler(len(data), size, shuffle=False)
    sampler.set_epoch(draw)
    loader = BatchLoader(
        dataset=data, sampler=sampler, batch_size=None, collate_fn=collate, num_workers=workers
    )
    return list(loader)


def test_a_batch_has_the_columns_of_its_samples(samples: list[Sample]) -> None:
    batch = batches(QualityDataset(samples, EvaluateReader(evaluate)), size=4)[1]
    assert torch.equal(
        batch["pixels"], torch.tensor([4.0, 5.0])[:, None, None, None].expand(2, 3, 2, 2)
    )
    assert torch.equal(batch["mos"], torch.tensor([3.0, 3.5]))
    assert torch.allclose(batch["std"], torch.tensor([0.4, 0.5]))
    assert torch.equal(batch["index"], torch.tensor([14, 15]))
    assert batch["name"] == ["4.png", "5.png"]
    assert batch["dataset"] == ["set", "set"] and batch["split"] == ["all@0", "all@0"]
    assert batch["text"] == ["4-0", "5-0"] and batch["status"] == ["ok", "ok"]
    assert len(batch["samples"]) == 2 and batch["samples"][1] is samples[5]


def test_the_samples_of_a_batch_pass_through_as_they_are(samples: list[Sample]) -> None:
    exact = replace(samples[0], mos=4.069082066870276)  # float32 cannot hold it
    (batch,) = batches(QualityDataset([exact], EvaluateReader(evaluate)))
    moved = HalfPrecision("bf16-true").convert_input(dict(batch))
    assert moved["mos"].dtype == torch.bfloat16
    assert moved["samples"][0].mos == 4.069082066870276


def test_pixels_of_several_shapes_are_a_list(samples: list[Sample]) -> None:
    (batch,) = batches(QualityDataset(samples[:2], EvaluateReader(natural)))
    assert [tuple(p.shape) for p in batch["pixels"]] == [(3, 4, 4), (3, 4, 5)]


def test_pairs_have_a_row_for_each_text_and_none_for_images_without(samples: list[Sample]) -> None:
    data = QualityDataset(samples[:4], EvaluateReader(evaluate), pairs=True)
    rows = [(b["name"][0], b["text"][0]) for b in batches(data, size=1)]
    assert rows == [
        ("1.png", "1-0"),
        ("2.png", "2-0"),
        ("2.png", "2-1"),
        ("3.png", "3-0"),
        ("3.png", "3-1"),
        ("3.png", "3-2"),
    ]
    assert len(QualityDataset(samples[:1], EvaluateReader(evaluate), pairs=True)) == 1


def test_rows_without_an_image_have_no_pixels(samples: list[Sample]) -> None:
    alone = replace(samples[0], path=None)
    for reader in (EvaluateReader(evaluate), TrainReader(augment)):
        (mixed,) = batches(QualityDataset([alone, samples[1]], reader))
        assert mixed["pixels"][0] is None and mixed["pixels"][1].shape == (3, 2, 2)
        assert mixed["status"] == ["ok", "ok"]
        (none,) = batches(QualityDataset([alone, alone], reader))
        assert none["pixels"] == [None, None]


def test_a_blind_reader_opens_nothing(samples: list[Sample]) -> None:
    gone = [replace(sample, path=Path("nowhere.png")) for sample in samples[4:]]
    (batch,) = batches(QualityDataset(gone, BlindReader()))
    assert batch["pixels"] == [None, None]
    assert batch["status"] == ["ok", "ok"] and batch["text"] == ["4-0", "5-0"]


def test_each_text_comes_with_its_prompt_and_its_conclusion(samples: list[Sample]) -> None:
    why, how = (Message("user", "Why?"),), (Message("user", "How sharp?"), Message("user", "!"))
    sample = replace(samples[2], prompts=(why, how), conclusions=("It is bad.", ""))
    more = replace(samples[3], prompts=(why,))  # texts joined later have no prompt
    data = QualityDataset([sample, more], EvaluateReader(evaluate), pairs=True)
    (batch,) = batches(data, size=5)
    assert batch["text"] == ["2-0", "2-1", "3-0", "3-1", "3-2"]
    assert batch["prompt"] == [why, how, why, (), ()]
    assert batch["conclusion"] == ["It is bad.", "", "", "", ""]
    assert data.lengths == [3 + 4 + 10, 3 + 11, 3 + 4, 3, 3]
    (batch,) = batches(QualityDataset([sample, samples[0]], EvaluateReader(evaluate)))
    assert (batch["prompt"], batch["conclusion"]) == ([why, ()], ["It is bad.", ""])


def test_augmentation_follows_from_seed_draw_and_row_alone(samples: list[Sample]) -> None:
    def noise(seed: int = 0, draw: int = 0, size: int = 2, workers: int = 0) -> Tensor:
        data = QualityDataset(samples, TrainReader(augment), seed=seed)
        shade = torch.arange(6)[:, None, None, None]
        return torch.cat([b["pixels"] for b in batches(data, size, workers, draw)]) - shade

    first = noise()
    assert len(set(first.flatten().tolist())) == 6
    torch.manual_seed(5)  # no global state comes in
    assert torch.equal(noise(size=3), first)
    assert torch.equal(noise(workers=2), first)
    assert not torch.isin(noise(draw=1), first).any()
    assert not torch.isin(noise(seed=1), first).any()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_stops_with_one_line(samples: list[Sample], workers: int) -> None:
    break_(samples[3])
    data = QualityDataset(samples, EvaluateReader(evaluate))
    with pytest.raises(
        InputError, match=r"^image of set cannot be read: .*images.on_bad=skip"
    ) as e:
        batches(data, workers=workers)
    assert str(samples[3].path) in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_replaced_and_counted_once(
    samples: list[Sample], workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.basicConfig(force=True)  # to stderr, from workers too
    break_(samples[2], samples[3], samples[5])
    data = QualityDataset(samples, TrainReader(augment), on_bad_image="replace")
    for draw in range(2):
        found = batches(data, size=3, workers=workers, draw=draw)
        assert [b["name"] for b in found] == [
            ["0.png", "1.png", "4.png"],
            ["4.png", "4.png", "0.png"],
        ]
        assert {s for b in found for s in b["status"]} == {"ok"}
    assert [s.name for s in data.bad_images] == ["2.png", "3.png", "5.png"]
    told = [line for line in capfd.readouterr().err.splitlines() if "skipped image" in line]
    assert len(told) == 3
    assert sum("(3 so far)" in line for line in told) == 1


def test_no_readable_image_at_all_is_an_error(samples: list[Sample]) -> None:
    break_(*samples)
    data = QualityDataset(samples, TrainReader(augment), on_bad_image="replace")
    with pytest.raises(InputError, match="none of the 6 images can be read"):
        batches(data)


def test_an_unreadable_image_is_marked(samples: list[Sample]) -> None:
    break_(samples[1])
    data = QualityDataset(samples, EvaluateReader(evaluate), on_bad_image="mark")
    batch = batches(data, size=3)[0]
    assert batch["pixels"].shape == (3, 3, 2, 2)
    assert batch["name"] == ["0.png", "1.png", "2.png"]
    assert [s.partition(":")[0] for s in batch["status"]] == ["ok", "unreadable", "ok"]
    assert str(samples[1].path) in batch["status"][1]


def test_no_sample_is_an_error() -> None:
    with pytest.raises(InputError, match="no images to load"):
        QualityDataset([], EvaluateReader(evaluate))


def too_narrow(image: Image.Image, generator: Generator | None = None) -> Tensor:
    if image.width > 200 * image.height:
        raise InputError("too narrow: crop it")
    return evaluate(image)


def test_an_image_that_a_backbone_cannot_take_is_a_bad_image(samples: list[Sample]) -> None:
    """Among workers too, where it is trained on and where it is evaluated."""
    narrow = file_of(samples[1])
    Image.new("RGB", (6000, 20)).save(narrow)
    for reader in (EvaluateReader(too_narrow), TrainReader(too_narrow)):
        with pytest.raises(InputError, match=rf"set cannot be read: {narrow}: too narrow.*skip"):
            batches(QualityDataset(samples, reader), workers=1)
        replaced = QualityDataset(samples, reader, on_bad_image="replace")
        seen = batches(replaced, 6, workers=1)[0]
        assert seen["name"][:2] == ["0.png", "2.png"]
        assert [sample.name for sample in replaced.bad_images] == ["1.png"]
        marked = batches(QualityDataset(samples, reader, on_bad_image="mark"), 6)[0]
        assert marked["status"][:2] == ["ok", f"unreadable: {narrow}: too narrow: crop it"]


def test_an_image_larger_than_allowed_is_a_bad_image(samples: list[Sample]) -> None:
    for reader in (EvaluateReader(evaluate, 30), TrainReader(augment, 30)):
        marked = batches(QualityDataset(samples, reader, on_bad_image="mark"), 6)[0]
        assert [status == "ok" for status in marked["status"]] == [True] * 4 + [False] * 2
        assert "9 x 4 pixels are more than the 30 allowed" in marked["status"][5]
