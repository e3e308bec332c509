"""Conversations as a data set: drawn and parted by a seed, taken apart, and refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import auto_cli

from lit_biqa.data.feedbacks import ConversationSet, ConversationSettings
from lit_biqa.data.splits import Split
from lit_biqa.types import IMAGE, InputError, Message, Sample

FEEDBACKS = (
    ("The sky is grainy. Therefore, the quality of this image is very poor.", 1.0),
    ("The lamp is burnt out, resulting in poor image quality.", 2.0),
    ("The quality of this image is average because the yard is dim.", 3.0),
    ("All is crisp. The quality of this image is good", 4.0),
    ("The clarity of the image is good.", math.nan),
)
ASK = Message("user", f"{IMAGE}\nDescribe and evaluate.")


def record(image: str | None, *turns: str) -> dict[str, Any]:
    speakers = ("human", "gpt") * (len(turns) // 2)
    spoken = [{"from": s, "value": t} for s, t in zip(speakers, turns, strict=True)]
    return {"conversations": spoken} | ({"image": image} if image else {})


def feedback(image: str, text: str) -> dict[str, Any]:
    return record(image, ASK.text, text)


def wrote(folder: Path, *records: object) -> str:
    path = folder / "q.json"
    path.write_text(json.dumps(records))
    return str(path)


def many(folder: Path, images: int, each: int = 1) -> str:
    """Feedbacks on ``0.jpg`` and on, so many of each image, one image after the other."""
    texts = [FEEDBACKS[i % 5][0] for i in range(images * each)]
    return wrote(folder, *(feedback(f"{i // each}.jpg", text) for i, text in enumerate(texts)))


def load(part: str, root: Path = Path(), **settings: Any) -> Split:
    return ConversationSet(ConversationSettings(**settings), root).load(part, "keep")


def images(samples: Sequence[Sample]) -> set[str]:
    return {sample.name for sample in samples}


def test_a_feedback_becomes_description_conclusion_and_mos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = "The quality of this image is excellent."
    records = [feedback(f"{i}.jpg", text) for i, (text, _) in enumerate(FEEDBACKS)]
    file = wrote(tmp_path, *records, feedback("5.jpg", bare))
    split = load("train", file=file, images="photos", root=tmp_path)
    assert [(s.texts, s.conclusions) for s in split.samples] == [
        (("The sky is grainy.",), ("Therefore, the quality of this image is very poor.",)),
        (("The lamp is burnt out.",), ("Resulting in poor image quality.",)),
        (("Because the yard is dim.",), ("The quality of this image is average.",)),
        (("All is crisp.",), ("The quality of this image is good.",)),
        (("The clarity of the image is good.",), ("",)),
        ((), ()),
    ]
    assert [s.mos for s in split.samples] == pytest.approx(
        [*(mos for _, mos in FEEDBACKS), 5.0], nan_ok=True
    )
    first = split.samples[0]
    assert first.prompts == ((ASK,),) and split.samples[5].prompts == ()
    assert first.path == tmp_path / "photos" / "0.jpg"
    assert (first.dataset, first.index, first.group) == ("conversations", 0, "0.jpg")
    assert (first.split, split.skipped) == (f"all@{split.digest}", 0)
    said = capsys.readouterr().out
    assert f"{file}: 5 of 6 feedbacks conclude the quality: 1 bad, 1 poor, 1 fair, 1 good" in said
    assert "0 of them name a level in the description too, 1 have no description" in said
    assert (
        "1 without a conclusion are kept whole" in said and "clarity of the image is good." in said
    )


def test_whole_answers_keep_all_that_was_said_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = (ASK.text, FEEDBACKS[0][0], "Why?", "Noise.")
    file = wrote(tmp_path, record("a.jpg", *turns), record(None, "It is dim. How good?", "Fair."))
    seen, alone = load("test", file=file, decompose=False).samples
    assert seen.texts == (FEEDBACKS[0][0], "Noise.")
    before = (ASK, Message("assistant", FEEDBACKS[0][0]), Message("user", "Why?"))
    assert seen.prompts == ((ASK,), before)
    assert seen.conclusions == () and math.isnan(seen.mos)
    assert (alone.path, alone.name, alone.groups) == (None, "record 1", {})
    assert alone.prompts == ((Message("user", "It is dim. How good?"),),)
    assert capsys.readouterr().out == ""


def test_the_papers_count_is_drawn_and_parted_by_a_seed(tmp_path: Path) -> None:
    settings = ConversationSettings(
        many(tmp_path, 4000, 2), samples=6720, train=6000, decompose=False
    )
    found = ConversationSet(settings, tmp_path)
    train, test = (found.load(part, "keep") for part in ("train", "test"))
    assert (len(train.samples), len(test.samples)) == (6000, 720)
    assert not images(train.samples) & images(test.samples)
    # Each record as likely as any other, and of two of one image often just one.
    drawn = [s.index for s in train.samples + test.samples]
    assert len(set(drawn)) == 6720
    assert 0.8 < sum(index < 4000 for index in drawn) / 3360 < 1.2
    assert len(images(train.samples + test.samples)) > 3700
    assert train.samples[0].split == f"drawn-0@{train.digest}"
    assert ConversationSet(settings, tmp_path).load("test", "keep") == test
    other = ConversationSet(replace(settings, seed=1), tmp_path).load("test", "keep")
    assert len(other.samples) == 720 and other.digest != test.digest


def test_a_draw_depends_on_no_library(tmp_path: Path) -> None:
    """The order of ``printf 0/4/4.jpg | sha256sum`` draws, that of ``0/4.jpg`` parts."""
    file = many(tmp_path, 12)
    drawn = ConversationSet(ConversationSettings(file, samples=6, train=4), tmp_path)
    assert [s.index for s in drawn.load("train", "keep").samples] == [4, 7, 8, 11]
    assert [s.index for s in drawn.load("test", "keep").samples] == [3, 10]


def test_the_rows_keep_their_numbers_where_others_are_broken(tmp_path: Path) -> None:
    good, broken = feedback("a.jpg", FEEDBACKS[0][0]), {"image": "b.jpg"}
    chat = record("c.jpg", ASK.text, "It is dim.", "How good?", "Fair.")
    file = wrote(tmp_path, broken, good, chat, good)
    with pytest.raises(InputError, match="record 1: expected a record with"):
        load("train", file=file)
    split = load("train", file=file, on_bad_record="skip")
    assert [s.index for s in split.samples] == [1, 3]
    file = wrote(tmp_path, good, chat)
    with pytest.raises(InputError, match=r"record 2: 2 answers, .*decompose=false"):
        load("train", file=file)
    with pytest.raises(InputError, match="record 1: 2 answers"):
        load("train", file=wrote(tmp_path, chat), on_bad_record="skip")


def test_questions_choose_the_records(tmp_path: Path) -> None:
    other = record("b.jpg", f"{IMAGE}Is it sharp?", "Yes.")
    file = wrote(tmp_path, other, feedback("a.jpg", FEEDBACKS[0][0]), other)
    assert [s.index for s in load("train", file=file, asked="describe.*evaluat").samples] == [1]
    with pytest.raises(InputError, match=r"none of its 3 first questions .*'rate'; .*Is it sharp"):
        load("train", file=file, asked="rate")
    with pytest.raises(InputError, match=r"asked='\(' is no regular expression"):
        ConversationSettings(file, asked="(")


def test_missing_images_are_an_error_or_left_out_or_kept(tmp_path: Path) -> None:
    file = many(tmp_path, 3)
    for name in ("0.jpg", "2.jpg"):
        (tmp_path / name).touch()
    found = ConversationSet(ConversationSettings(file), tmp_path)
    with pytest.raises(InputError, match=r"record 2: no image at .*1\.jpg; 1 of 3 are missing"):
        found.load("train", "error")
    skipped = found.load("train", "skip")
    assert ([s.name for s in skipped.samples], skipped.skipped) == (["0.jpg", "2.jpg"], 1)
    kept = found.load("train", "keep")
    assert (len(kept.samples), kept.skipped) == (3, 0)
    assert kept.digest != skipped.digest
    elsewhere = ConversationSet(ConversationSettings(file, images="nowhere"), tmp_path)
    with pytest.raises(InputError, match=r"3 of 3 are missing.*data\.sets\.conversations\.images"):
        elsewhere.load("train", "skip")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"train": -1}, "train is -1"),
        ({"samples": 3, "train": 3}, "train=3 of samples=3 leaves none to test on"),
    ],
)
def test_numbers_that_contradict_each_other(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConversationSettings("q.json", **settings)  # type: ignore[arg-type]


def test_too_few_records_are_counted(tmp_path: Path) -> None:
    file = many(tmp_path, 2, 3)
    with pytest.raises(InputError, match=r"7 samples cannot be drawn from its 6 records"):
        load("train", file=file, samples=7)
    with pytest.raises(InputError, match=r"train=6 of 6 .* leaves 0 to test on.* to 5"):
        load("train", file=file, train=6)
    # One image on both sides would be needed.
    with pytest.raises(
        InputError, match=r"train=2 of 6 .* leaves 4 .* 3 of them have no image in training.* to 3"
    ):
        load("train", file=file, train=2)
    assert len(load("test", file=file, train=3).samples) == 3
    with pytest.raises(InputError, match="no part 'val'"):
        load("val", file=file)
    with pytest.raises(InputError, match=r"absent\.json: no such file"):
        load("train", file=str(tmp_path / "absent.json"))


def test_settings_can_be_given_on_a_command_line() -> None:
    found = auto_cli(ConversationSettings, args=["q.json", "--train=9", "--decompose=false"])
    assert found == ConversationSettings("q.json", train=9, decompose=False)


def test_real_training_answers_conclude_their_levels(shared: Path) -> None:
    file = str(shared / "data/texts/train_koniq_sample.json")
    split = load("train", file=file)
    records = json.loads(Path(file).read_text())
    words = [r["conversations"][1]["value"].split()[-1].strip(".") for r in records]
    known = dict(zip(("bad", "poor", "fair", "good", "excellent"), range(1, 6), strict=True))
    assert [s.mos for s in split.samples] == [known[word] for word in words]
    assert {s.texts for s in split.samples} == {()}  # they conclude and describe nothing
