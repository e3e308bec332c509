"""The DataModule in runs on texts: conversations, images not looked for, batches by length."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn

from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.dataset import EvaluateReader, QualityDataset, collate
from lit_biqa.data.feedbacks import ConversationSettings
from lit_biqa.data.settings import LoaderSettings, SetSettings, TextSettings
from lit_biqa.types import IMAGE, Batch, InputError, Message, Sample


def test_annotations_take_the_place_of_texts(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("image,mos,text\n0.png,2,by a model\n1.png,3,by a model\n")
    for number in range(2):
        Image.new("RGB", (20, 20)).save(tmp_path / f"{number}.png")
    by_a = {"annotator": "a", "dims": {"flaw": "dark", "subject": "dog"}, "score": 2}
    by_b = {"annotator": "b", "dims": {"flaw": "noise"}}
    people = [{"image": "0.png", "annotations": [by_a, by_b]}]
    (tmp_path / "people.json").write_text(json.dumps(people))
    texts = TextSettings(annotations="people.json")  # under the root
    data = BIQADataModule(str(tmp_path), [f"{tmp_path}/own.csv"], [], texts=texts)
    data.setup("fit")
    assert [s.texts for s in data.samples["train"]] == [("dark dog", "noise"), ()]


def test_annotations_of_images_that_are_left_out_are_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("image,mos\n0.png,2\n1.png,3\n")
    people = []
    for number in range(2):
        Image.new("RGB", (20, 20)).save(tmp_path / f"{number}.png")
        by_a = {"annotator": "a", "dims": {"flaw": f"dark {number}"}}
        people.append({"image": f"{number}.png", "annotations": [by_a]})
    (tmp_path / "people.json").write_text(json.dumps(people))
    texts = TextSettings(annotations="people.json")
    data = BIQADataModule(str(tmp_path), [f"{tmp_path}/own.csv"], [], texts=texts, limit=1)
    data.setup("fit")
    (sample,) = data.samples["train"]
    assert sample.texts == (f"dark {sample.index}",)


END = "The quality of this image is poor."


def conversations(folder: Path, count: int, **settings: int) -> ConversationSettings:
    """Feedbacks of growing length on ``0.png`` and on, two of each; the images are not there."""
    folder.mkdir(exist_ok=True)
    records = [
        {
            "image": f"{i // 2}.png",
            "conversations": [
                {"from": "human", "value": "<image>How good?"},
                {"from": "gpt", "value": "Dim. " * (i + 1) + END},
            ],
        }
        for i in range(count)
    ]
    (folder / "q.json").write_text(json.dumps(records))
    return ConversationSettings("q.json", **settings)  # type: ignore[arg-type]


def data_of(folder: Path, settings: ConversationSettings | None) -> BIQADataModule:
    named = ["conversations"]
    return BIQADataModule(
        root=str(folder),
        train=named,
        test=named,
        predict=named,
        val=0.25,
        sets=SetSettings(conversations=settings),
        loader=LoaderSettings(batch_size=4, eval_batch_size=6, num_workers=0, group_by_length=True),
    )


class Blind(LightningModule):
    """Needs no image; keeps the batches that it is given."""

    opens_images = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches: list[Batch] = []

    def setup(self, stage: str) -> None:
        self.trainer.datamodule.use_transforms(None, None)  # type: ignore[attr-defined]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.batches.append(batch)
        return (self.weight - batch["mos"]).square().mean()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.batches.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Keep(Callback):
    """Keeps a checkpoint of the fourteenth step, within the second epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 14:
            trainer.save_checkpoint(self.folder / "14.ckpt")


def trainer(**limit: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        **limit,  # type: ignore[arg-type]
    )


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_conversations_without_their_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data, model = data_of(tmp_path, conversations(tmp_path, 60, train=40)), Blind()
    run = trainer(max_epochs=1)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    images = {part: {s.name for s in found} for part, found in data.samples.items()}
    assert [len(data.samples[part]) for part in ("train", "val", "test")] == [30, 10, 20]
    assert sum(map(len, images.values())) == len(set.union(*images.values())) == 30
    train, test = model.batches[:7], model.batches[7:]
    assert [len(batch["text"]) for batch in train + test] == [4] * 7 + [6, 6, 6, 2]
    for batch in model.batches:
        assert batch["pixels"] == [None] * len(batch["text"])
        assert set(batch["prompt"]) == {(Message("user", f"{IMAGE}How good?"),)}
        assert set(batch["conclusion"]) == {END}
        assert batch["mos"].tolist() == [2.0] * len(batch["text"])
    assert capsys.readouterr().out.count("60 of 60 feedbacks conclude the quality") == 1
    assert "not on disk" not in caplog.text


def test_batches_by_length_go_on_where_a_run_was_cut_off(tmp_path: Path) -> None:
    settings = conversations(tmp_path, 60)
    whole, rest = Blind(), Blind()
    run = trainer(max_epochs=2)
    run.callbacks.append(Keep(tmp_path))  # type: ignore[attr-defined]
    run.fit(whole, datamodule=data_of(tmp_path, settings))
    texts = [batch["text"] for batch in whole.batches]
    spans = [max(map(len, batch)) - min(map(len, batch)) for batch in texts]
    # 44 of 45 rows, of 60 lengths five characters apart, in order of length and by fours.
    assert len(texts) == 22 and sum(spans) / len(spans) < 8 * 5
    assert [len(t[0]) for t in texts[:11]] != sorted(len(t[0]) for t in texts[:11])
    trainer(max_epochs=2).fit(
        rest, datamodule=data_of(tmp_path, settings), ckpt_path=tmp_path / "14.ckpt"
    )
    assert [batch["text"] for batch in rest.batches] == texts[14:]


def test_conversations_with_images_need_them(tmp_path: Path) -> None:
    data = data_of(tmp_path, conversations(tmp_path, 30, train=20))
    with pytest.raises(InputError, match=r"record \d+: no image at .*\.png; 20 of 20 are missing"):
        data.setup("fit")
    for i in range(15):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i}.png")
    data.setup("predict")
    data.use_transforms(None, shade)
    rows = [row for batch in data.predict_dataloader() for row in zip(*seen(batch), strict=True)]
    assert len(rows) == 10
    assert all(name == f"{shade}.png" for name, shade in rows)


def seen(batch: Batch) -> tuple[list[str], list[int]]:
    return batch["name"], batch["pixels"][:, 0].tolist()


def test_messages_and_missing_pixels_are_moved_with_their_batch(tmp_path: Path) -> None:
    said = (Message("user", "Why?"),)
    path = tmp_path / "0.png"
    Image.new("RGB", (4, 4)).save(path)
    seen_one = Sample("set", "all", 0, "0.png", path, mos=2.0, texts=("T",), prompts=(said,))
    data = QualityDataset([seen_one, replace(seen_one, path=None)], EvaluateReader(shade))
    batch = collate(data[[(0, 0), (1, 0)]])
    moved = BIQADataModule().transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["pixels"][0].device.type == moved["mos"].device.type == "meta"
    assert moved["pixels"][1] is None
    assert moved["prompt"] == [said, said] and moved["text"] == ["T", "T"]


def shade(image: Image.Image) -> Tensor:
    return torch.tensor(image.getpixel((0, 0)))[:1]


def test_conversations_of_no_file_or_of_a_split(tmp_path: Path) -> None:
    data = data_of(tmp_path, None)
    data.prepare_data()
    with pytest.raises(InputError, match=r"it has no file: set data\.sets\.conversations\.file"):
        data.setup("fit")
    data = BIQADataModule(train=["conversations/random-0"])
    with pytest.raises(InputError, match="write conversations or conversations:train"):
        data.setup("fit")
    with pytest.raises(InputError, match="Did you mean conversations"):
        BIQADataModule(train=["conversation"]).prepare_data()


def test_a_broken_record_is_named_before_anything_else(tmp_path: Path) -> None:
    settings = conversations(tmp_path, 4)
    records = json.loads((tmp_path / "q.json").read_text())
    records[2]["conversations"][0]["from"] = "humen"
    (tmp_path / "q.json").write_text(json.dumps(records))
    with pytest.raises(InputError, match=r"q\.json record 3: unknown speaker 'humen'. Did you"):
        data_of(tmp_path, settings).setup("fit")


def test_ratings_are_cleaned_out_of_all_texts(tmp_path: Path) -> None:
    said = {f"{i}.png": ["It is dim. I rate it 2.5.", "A 3.0."] for i in range(4)}
    said["4.png"] = ["A rating of 4 fits. It is soft."]
    (tmp_path / "texts.jsonl").write_text(
        "\n".join(json.dumps({"image": name, "texts": texts}) for name, texts in said.items())
    )
    for name, numbers in (("one", range(4)), ("two", range(4, 6))):
        rows = "".join(f"{i}.png,3\n" for i in numbers)
        (tmp_path / f"{name}.csv").write_text(f"image,mos\n{rows}")
    for i in range(6):
        (tmp_path / f"{i}.png").touch()
    data = BIQADataModule(
        root=str(tmp_path),
        train=[str(tmp_path / "one.csv")],
        test=[str(tmp_path / "two.csv")],
        val=0.25,
        texts=TextSettings(files=["texts.jsonl"], clean="ratings"),
    )
    data.setup("fit")
    assert {s.texts for part in ("train", "val") for s in data.samples[part]} == {("It is dim.",)}
    assert [s.texts for s in data.samples["test"]] == [("It is soft.",), ()]
