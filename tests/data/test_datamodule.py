"""One object for all data of a run: parts, loaders, caches, prediction."""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from torch import Generator, Tensor, nn

from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.embeddings import EmbeddingRow, Embeddings, Role, write_embeddings
from lit_biqa.data.loader import BatchLoader
from lit_biqa.data.settings import ImageSettings, LoaderSettings, SetSettings, TextSettings
from lit_biqa.data.synthetic import SyntheticSettings
from lit_biqa.types import Batch, InputError


def evaluate(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.resize((4, 4)))).permute(2, 0, 1) / 255


def augment(image: Image.Image, generator: Generator) -> Tensor:
    return evaluate(image) + torch.rand(1, generator=generator)


def table(folder: Path, name: str, count: int) -> str:
    """A CSV of ``count`` images named ``name-0.png`` and on, MOS from 1 to 5; its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "mos"))
        for i in range(count):
            Image.new("RGB", (8, 8), (i, i, i)).save(folder / f"{name}-{i}.png")
            rows.writerow((f"{name}-{i}.png", 1 + 4 * i / (count - 1)))
    return str(path)


def ready(data: BIQADataModule, stage: str) -> BIQADataModule:
    data.prepare_data()
    data.setup(stage)
    data.use_transforms(augment, evaluate)
    return data


def names(loader: BatchLoader | list[BatchLoader]) -> list[str]:
    assert isinstance(loader, BatchLoader)
    return [name for batch in loader for name in batch["name"]]


def batch_of(loader: BatchLoader) -> Batch:
    first: Batch = next(iter(loader))
    return first


def test_sets_are_mixed_and_the_same_share_of_each_held_out(tmp_path: Path) -> None:
    specs = [table(tmp_path, "one", 20), table(tmp_path, "two", 10)]
    data = ready(
        BIQADataModule(train=specs, val=0.2, loader=LoaderSettings(batch_size=5, num_workers=0)),
        "fit",
    )
    train, val = data.samples["train"], data.samples["val"]
    assert [s.dataset for s in val].count("one") == 4
    assert [s.dataset for s in val].count("two") == 2
    assert len({s.path for s in train} | {s.path for s in val}) == 30
    assert names(data.gallery_dataloader()) == [s.name for s in train]
    assert names(data.val_dataloader()) == [s.name for s in val]
    shown = names(data.train_dataloader())
    assert len(shown) == 20  # the last batch, of 4, is left out
    assert shown != [s.name for s in train][:20]
    assert set(shown) < {s.name for s in train}
    again = ready(BIQADataModule(train=specs[::-1], val=0.2), "fit").samples["val"]
    assert {s.path for s in again} == {s.path for s in val}
    other = ready(
        BIQADataModule(train=specs, val=0.2, loader=LoaderSettings(seed=1)), "fit"
    ).samples["val"]
    assert {s.path for s in other} != {s.path for s in val}


def test_setting_up_twice_holds_out_once(tmp_path: Path) -> None:
    data = BIQADataModule(train=[table(tmp_path, "one", 20)])
    first = [s.name for s in ready(data, "fit").samples["val"]]
    assert [s.name for s in ready(data, "fit").samples["val"]] == first
    assert len(data.samples["train"]) == 18


def test_validation_sets_named_or_none(tmp_path: Path) -> None:
    one, two = table(tmp_path, "one", 6), table(tmp_path, "two", 4)
    data = ready(
        BIQADataModule(train=[one], val=[two], loader=LoaderSettings(num_workers=0)), "fit"
    )
    assert len(data.samples["train"]) == 6
    assert len(names(data.val_dataloader())) == 4
    assert len(ready(BIQADataModule(val=[two]), "validate").samples["val"]) == 4
    none = ready(BIQADataModule(train=[one], val=0), "fit")
    assert none.val_dataloader() == []
    assert len(none.samples["train"]) == 6
    with pytest.raises(InputError, match=r"data\.val is 1\.5"):
        BIQADataModule(train=[one], val=1.5).setup("fit")
    (tmp_path / "two.csv").write_text("image,mos\ntwo-0.png,3\n")
    with pytest.raises(InputError, match="two: nothing can be held out of its 1"):
        BIQADataModule(train=[two]).setup("fit")


def test_all_test_sets_are_one_loader(tmp_path: Path) -> None:
    specs = [table(tmp_path, "one", 3), table(tmp_path, "two", 4)]
    data = ready(
        BIQADataModule(test=specs, loader=LoaderSettings(eval_batch_size=5, num_workers=2)), "test"
    )
    batches = list(data.test_dataloader())
    assert [len(b["mos"]) for b in batches] == [5, 2]
    assert [d for b in batches for d in b["dataset"]] == ["one"] * 3 + ["two"] * 4
    assert torch.equal(batches[0]["mos"], torch.tensor([1, 3, 5, 1, 1 + 4 / 3]))
    assert batches[0]["split"][0].startswith("all@")


def test_training_on_test_images_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = table(tmp_path, "one", 10)
    ready(BIQADataModule(train=[one], test=[one, table(tmp_path, "two", 4)]), "fit")
    assert "9 test images of one are also training images" in caplog.text
    assert "of two" not in caplog.text


def test_nothing_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.train"):
        BIQADataModule().setup("fit")
    with pytest.raises(InputError, match=r"data\.predict"):
        BIQADataModule().setup("predict")
    with pytest.raises(InputError, match=r"data\.test"):
        ready(BIQADataModule(), "test").test_dataloader()
    with pytest.raises(InputError, match="koniq10k"):
        BIQADataModule(train=["koniq"]).setup("fit")


def test_training_rows_are_pairs_and_all_others_have_the_first_text(tmp_path: Path) -> None:
    one = table(tmp_path, "one", 10)
    texts = tmp_path / "root" / "texts.jsonl"
    texts.parent.mkdir()
    records = [
        {"image": f"one-{i}.png", "texts": [f"{i}-{k}" for k in range(3)]} for i in range(10)
    ]
    texts.write_text("\n".join(map(json.dumps, records)))
    data = BIQADataModule(
        root=str(texts.parent),
        train=[one],
        texts=TextSettings(files=["texts.jsonl"]),
        loader=LoaderSettings(batch_size=9, num_workers=0),
    )
    ready(data, "fit")
    batches = list(data.train_dataloader())
    pairs = [(n, t) for b in batches for n, t in zip(b["name"], b["text"], strict=True)]
    assert len(set(pairs)) == 27
    assert all(name == f"one-{text[0]}.png" for name, text in pairs)
    for part, loader in (("train", data.gallery_dataloader()), ("val", data.val_dataloader())):
        assert isinstance(loader, BatchLoader)
        firsts = [text for batch in loader for text in batch["text"]]
        assert firsts == [f"{s.index}-0" for s in data.samples[part]]
    data.row_per_text = False
    images = [name for batch in data.train_dataloader() for name in batch["name"]]
    assert sorted(images) == sorted(s.name for s in data.samples["train"])
    data.row_per_text = True
    data.texts = replace(data.texts, per_image=1)
    ready(data, "fit")
    assert sorted(batch_of(data.train_dataloader())["text"]) == sorted(
        s.texts[0] for s in data.samples["train"]
    )


def test_unreadable_images_stop_or_are_passed_over(tmp_path: Path) -> None:
    one = table(tmp_path, "one", 6)
    (tmp_path / "one-2.png").write_bytes(b"\x89PNG")
    data = BIQADataModule(
        train=[one], val=[one], test=[one], loader=LoaderSettings(batch_size=6, num_workers=0)
    )
    for stop in (ready(data, "fit").train_dataloader(), data.gallery_dataloader()):
        with pytest.raises(InputError, match=r"one-2\.png"):
            list(stop)
    data = BIQADataModule(
        train=[one],
        val=[one],
        test=[one],
        images=ImageSettings(on_bad="skip"),
        loader=LoaderSettings(batch_size=6, num_workers=0),
    )
    batch = batch_of(ready(data, "fit").train_dataloader())
    assert batch["status"] == ["ok"] * 6
    assert "one-2.png" not in batch["name"]
    for loader in (data.val_dataloader(), data.test_dataloader(), data.gallery_dataloader()):
        assert isinstance(loader, BatchLoader)
        assert [s == "ok" for s in batch_of(loader)["status"]] == [i != 2 for i in range(6)]


def test_absent_images_are_an_error_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = table(tmp_path, "one", 6)
    (tmp_path / "one-2.png").unlink()
    with pytest.raises(InputError, match=r"one-2\.png"):
        BIQADataModule(test=[one]).setup("test")
    assert (
        len(
            ready(BIQADataModule(test=[one], images=ImageSettings(missing="skip")), "test").samples[
                "test"
            ]
        )
        == 5
    )
    assert "1 images of part test are not on disk" in caplog.text


def test_folders_files_and_sets_are_predicted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = table(tmp_path / "sets", "one", 2)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    Image.new("L", (8, 8), 255).save(tmp_path / "photos" / "b.JPG", "jpeg")
    Image.new("L", (1, 1), 255).save(tmp_path / "photos" / "pixel.png")
    Image.new("RGBA", (9, 15)).save(tmp_path / "photos" / "deep" / "a.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG")
    for name in ("notes.txt", "deep/raw.NEF"):
        (tmp_path / "photos" / name).touch()
    file = str(tmp_path / "photos" / "b.JPG")
    data = BIQADataModule(
        predict=[str(tmp_path / "photos"), file, one], loader=LoaderSettings(num_workers=0)
    )
    batch = batch_of(ready(data, "predict").predict_dataloader())
    assert "photos: files of these kinds are not read: deep/raw.NEF, notes.txt" in caplog.text
    photos = ["b.JPG", "broken.png", "deep/a.png", "pixel.png"]
    assert batch["dataset"] == ["photos"] * 4 + ["images"] + ["one"] * 2
    assert batch["name"] == [*photos, file, "one-0.png", "one-1.png"]
    bad = {"broken.png", "pixel.png"}
    assert [s == "ok" for s in batch["status"]] == [name not in bad for name in batch["name"]]
    assert "1 x 1 pixels are too small to rate" in batch["status"][3]
    assert batch["index"].tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert batch["mos"].isnan().tolist() == [True] * 5 + [False] * 2
    assert torch.equal(batch["pixels"][0], torch.ones(3, 4, 4))


class Brightness(LightningModule):
    """Scores an image by its mean; counts the batches of each loop."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss: Tensor = (self.weight * batch["pixels"].mean()).sum()
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        raise AssertionError("nothing is held out")

    def predict_step(self, batch: Batch, batch_idx: int) -> list[tuple[str, float, str]]:
        scores = batch["pixels"].mean((1, 2, 3)).tolist()
        return list(zip(batch["name"], scores, batch["status"], strict=True))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer() -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightning_predicts_every_image_once(tmp_path: Path) -> None:
    table(tmp_path, "one", 5)
    (tmp_path / "one-3.png").write_bytes(b"\x89PNG")
    data = BIQADataModule(predict=str(tmp_path), loader=LoaderSettings(eval_batch_size=2))
    data.use_transforms(augment, evaluate)
    batches = trainer().predict(Brightness(), datamodule=data)
    assert batches is not None
    rows = [row for batch in batches for row in batch]
    assert [name for name, _, _ in rows] == [f"one-{i}.png" for i in range(5)]
    assert [status == "ok" for _, _, status in rows] == [True, True, True, False, True]
    assert [score for _, score, _ in rows][2] == pytest.approx(2 / 255)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightning_fits_without_validation(tmp_path: Path) -> None:
    data = BIQADataModule(
        train=[table(tmp_path, "one", 6)], val=0, loader=LoaderSettings(batch_size=2)
    )
    data.use_transforms(augment, evaluate)
    fitted = trainer()
    fitted.fit(Brightness(), datamodule=data)
    assert fitted.global_step == 3


@pytest.mark.parametrize("item", ["nowhere", "koniq", "notes.txt", "empty"])
def test_what_cannot_be_predicted_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=item):
        BIQADataModule(predict=[item]).setup("predict")


def cache(folder: Path, roles: str, dataset: str = "one") -> str:
    """Embeddings of ``one-0.png`` and on, the i-th ``[i, i]``, a letter of ``roles`` for each."""
    words: dict[str, Role] = {"t": "train", "v": "val", "e": "test"}
    rows = [
        EmbeddingRow(dataset, "all@0", i, f"one-{i}.png", 3.0, 0.5, words[role])
        for i, role in enumerate(roles)
    ]
    path = folder / "embeddings.safetensors"
    vectors = torch.arange(len(rows)).float()[:, None].expand(-1, 2)
    write_embeddings(path, Embeddings(vectors, tuple(rows)))
    return str(path)


def test_cached_embeddings_need_no_image_and_no_label_file(tmp_path: Path) -> None:
    data = BIQADataModule(
        images=ImageSettings(embeddings=cache(tmp_path, "ttvtee")),
        loader=LoaderSettings(batch_size=3, num_workers=0),
    )
    ready(data, "fit")
    batch = batch_of(data.train_dataloader())
    assert torch.equal(batch["pixels"], batch["index"].float()[:, None].expand(-1, 2))
    assert sorted(batch["index"].tolist()) == [0, 1, 3]
    assert batch_of(data.gallery_dataloader())["index"].tolist() == [0, 1, 3]
    assert names(data.val_dataloader()) == ["one-2.png"]
    assert names(data.test_dataloader()) == ["one-4.png", "one-5.png"]
    bare = ready(BIQADataModule(images=ImageSettings(embeddings=cache(tmp_path, "t" * 20))), "fit")
    assert (len(bare.samples["train"]), len(bare.samples["val"])) == (18, 2)


def test_cached_embeddings_of_the_sets_that_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = table(tmp_path, "one", 6)
    path = cache(tmp_path, "tttv")
    with pytest.raises(InputError, match=r"no embedding of 2 of 6 images \(one/one-4\.png"):
        BIQADataModule(train=[one], images=ImageSettings(embeddings=path)).setup("fit")
    data = BIQADataModule(
        train=[one], val=0.25, images=ImageSettings(embeddings=path, missing="skip")
    )
    ready(data, "fit")
    assert (len(data.samples["train"]), len(data.samples["val"])) == (3, 1)
    assert "2 images have no embedding" in caplog.text


def test_the_embedded_data_set_is_made_once_and_split_by_source(tmp_path: Path) -> None:
    settings = SyntheticSettings(sources=6, images_per_source=3, size=32, texts=2)
    data = BIQADataModule(
        root=str(tmp_path),
        train=["synthetic"],
        test=["synthetic"],
        val=0.2,
        sets=SetSettings(synthetic=settings),
        loader=LoaderSettings(num_workers=0),
    )
    ready(data, "fit")
    sources = [
        {s.groups["reference"] for s in data.samples[part]} for part in ("train", "val", "test")
    ]
    assert sum(map(len, sources)) == 6 and len(set.union(*sources)) == 6
    assert all(len(s.texts) == 2 for s in data.samples["train"])
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    data.prepare_data()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == made


def test_the_real_images_and_texts(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    data = BIQADataModule(
        root=str(shared / "data"),
        train=["agiqa3k/random-0"],
        test=["agiqa3k/random-0", "livew/all"],
        texts=TextSettings(
            files=["texts/baseline_v11_agiqa.json"], fields=["perception_text:think"]
        ),
        images=ImageSettings(missing="skip"),
        loader=LoaderSettings(eval_batch_size=8, num_workers=0),
    )
    ready(data, "fit")
    assert {part: len(found) for part, found in data.samples.items()} == {
        "train": 2147,
        "val": 239,
        "test": 596 + 655,
    }
    batch = batch_of(data.train_dataloader())
    assert batch["pixels"].shape == (64, 3, 4, 4)
    texts = [[len(s.texts) for s in data.samples[part]] for part in ("val", "test")]
    assert texts == [[1] * 239, [1] * 596 + [0] * 655]
    assert all(batch["text"]) and batch["mos"].min() >= 1 and batch["mos"].max() <= 5
    assert batch_of(data.test_dataloader())["status"] == ["ok"] * 8
    assert [r.getMessage() for r in caplog.records] == [
        "livew/all: 507 images of part test are not on disk"
    ]


def test_a_wrong_name_is_said_before_anything_is_made(tmp_path: Path) -> None:
    data = BIQADataModule(root=str(tmp_path), train=["synthetic"], test=["konik"])
    with pytest.raises(InputError, match="koniq10k"):
        data.prepare_data()
    assert list(tmp_path.iterdir()) == []


def test_a_limit_draws_the_same_images_of_each_set_and_names_the_split(tmp_path: Path) -> None:
    for name, count in (("one", 9), ("two", 3)):
        rows = [f"{name}{i}.png,{1 + i / 4}" for i in range(count)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["image,mos", *rows]))
        for i in range(count):
            Image.new("L", (8, 8), 20 * i).save(tmp_path / f"{name}{i}.png")
    named = [str(tmp_path / "one.csv"), str(tmp_path / "two.csv")]

    def drawn(seed: int) -> list[tuple[str, str, str]]:
        data = BIQADataModule(
            root=str(tmp_path), test=named, limit=4, loader=LoaderSettings(seed=seed)
        )
        data.setup("test")
        return [(sample.dataset, sample.split, sample.name) for sample in data.samples["test"]]

    first = drawn(0)
    assert [dataset for dataset, _, _ in first] == ["one"] * 4 + ["two"] * 3
    assert first == drawn(0) != drawn(1)
    splits = {dataset: split for dataset, split, _ in first}
    assert splits["one"].startswith("all-limit-4@")
    assert splits["two"].startswith("all@")
    assert splits["one"] != drawn(1)[0][1]


@pytest.mark.parametrize(("stage", "made"), [(TrainerFn.TESTING, False), (TrainerFn.FITTING, True)])
def test_a_test_makes_no_training_set(stage: TrainerFn, made: bool, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("image,mos\na.png,3\n")
    sets = SetSettings(synthetic=SyntheticSettings(sources=2, images_per_source=1, size=32))
    data = BIQADataModule(
        root=str(tmp_path / "data"),
        train=["synthetic"],
        test=[str(tmp_path / "own.csv")],
        sets=sets,
    )
    data.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    data.trainer.state.fn = stage
    data.prepare_data()
    assert bool(list(tmp_path.glob("data/synthetic-*"))) == made
