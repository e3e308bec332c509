"""LLaVA's records read, spelled one way, and refused by name where they are broken."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from lit_biqa.data.conversations import Conversation, read_conversations
from lit_biqa.types import IMAGE, InputError, Message

QUESTION = {"from": "human", "value": "How sharp is it?\n<image>"}
ANSWER = {"from": "gpt", "value": "Very sharp."}


def record(*turns: Any, **fields: Any) -> dict[str, Any]:
    return {"image": "a.jpg", "conversations": list(turns or (QUESTION, ANSWER)), **fields}


def listed(folder: Path, *records: Any) -> Path:
    path = folder / "records.json"
    path.write_text(json.dumps(records))
    return path


def test_both_spellings_and_both_forms_of_file_read_the_same(tmp_path: Path) -> None:
    other = {"from": "human", "value": " How sharp is it?\n<|image|>\n"}
    records = [record(id="x"), record(other, ANSWER, id=7, gt_score=3.2)]
    lines = tmp_path / "records.jsonl"
    lines.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    turns = Message("user", f"How sharp is it?\n{IMAGE}"), Message("assistant", "Very sharp.")
    path = listed(tmp_path, *records)
    assert read_conversations(path).rows == (
        Conversation(f"{path} record 1", "x", "a.jpg", turns, 0),
        Conversation(f"{path} record 2", "7", "a.jpg", turns, 1),
    )
    assert read_conversations(lines).rows == (
        Conversation(f"{lines} line 1", "x", "a.jpg", turns, 0),
        Conversation(f"{lines} line 2", "7", "a.jpg", turns, 1),
    )


def test_text_alone_and_several_turns(tmp_path: Path) -> None:
    text = {"conversations": [{"from": "human", "value": "It is blurred. How good?"}, ANSWER]}
    more = record(QUESTION, ANSWER, {"from": "human", "value": "Why?"}, ANSWER)
    alone, several = read_conversations(listed(tmp_path, text, more)).rows
    assert (alone.image, alone.id, len(alone.turns)) == (None, "", 2)
    assert [turn.role for turn in several.turns] == ["user", "assistant"] * 2


BROKEN = {
    "no object": (["a"], 'expected a record with "conversations"'),
    "no conversations": ({"image": "a.jpg"}, 'expected a record with "conversations"'),
    "conversations no list": ({"conversations": "hello"}, 'expected a record with "conversations"'),
    "no turns": ({"conversations": []}, "found none"),
    "two images": (record(image=["a.jpg", "b.jpg"]), '"image" must be one file name'),
    "an empty image": (record(image=""), '"image" must be one file name'),
    "an id of another type": (record(id=[1]), '"id" must be text or an integer'),
    "a turn no object": (record("hello"), 'a turn needs "from" and "value"'),
    "a turn without value": (record({"from": "human"}, ANSWER), 'a turn needs "from" and "value"'),
    "a value no text": (record({"from": "human", "value": 3}), 'a turn needs "from" and "value"'),
    "an unknown speaker": (record({"from": "humen", "value": "a"}), "'humen'. Did you mean human"),
    "an empty turn": (record(QUESTION, {"from": "gpt", "value": " "}), "a turn of gpt is empty"),
    "no gpt": (record(QUESTION), "found human"),
    "no human": (record(ANSWER), "found gpt"),
    "out of order": (record(ANSWER, QUESTION), "found gpt, human"),
    "placeholder without image": (record(image=None), '1 image placeholders, but no "image"'),
    "image without placeholder": (
        record({"from": "human", "value": "How sharp?"}, ANSWER),
        "0 placeholders for one image",
    ),
    "two placeholders": (
        record({"from": "human", "value": "<image><|image|>"}, ANSWER),
        "2 placeholders for one image",
    ),
    "placeholder in an answer": (
        record(QUESTION, {"from": "gpt", "value": "See <image>"}),
        "an answer of gpt holds an image placeholder",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_records_are_named_or_skipped_and_counted(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, message = BROKEN[case]
    path = listed(tmp_path, record(), broken, record())
    with pytest.raises(InputError) as error:
        read_conversations(path)
    assert str(error.value).startswith(f"{path} record 2: ")
    assert message in str(error.value)
    with caplog.at_level(logging.WARNING):
        found = read_conversations(path, on_bad_record="skip")
    assert [row.place[-8:] for row in found.rows] == ["record 1", "record 3"]
    assert found.skipped == (str(error.value),)
    assert f"1 of 3 records skipped: {path} record 2" in caplog.text


def test_images_are_looked_for_where_a_folder_is_given(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.jpg").touch()
    path = listed(tmp_path, record(image="sub/a.jpg"), record(image="sub/b.jpg"))
    assert len(read_conversations(path).rows) == 2
    with pytest.raises(
        InputError, match=rf"record 2: no image at {re.escape(str(tmp_path))}/sub/b.jpg"
    ):
        read_conversations(path, tmp_path)
    found = read_conversations(path, tmp_path, "skip")
    assert ([row.image for row in found.rows], len(found.skipped)) == (["sub/a.jpg"], 1)


def test_a_file_that_is_no_json_is_an_error_in_either_case(tmp_path: Path) -> None:
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps([record()])[:-3])
    with pytest.raises(InputError, match=r"cut.json: broken JSON .* cut off"):
        read_conversations(cut, on_bad_record="skip")
    with pytest.raises(InputError, match=r"absent.json: no such file"):
        read_conversations(tmp_path / "absent.json")


def test_a_file_with_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no conversation \(0 records skipped\)"):
        read_conversations(listed(tmp_path))
    with pytest.raises(InputError, match=r"1 records skipped, the first: .* record 1: expected"):
        read_conversations(listed(tmp_path, 3), on_bad_record="skip")


@pytest.mark.parametrize("name", ["train_koniq_sample.json", "train_koniq_qsit_sample.json"])
def test_real_training_files(name: str, shared: Path) -> None:
    found = read_conversations(shared / "data/texts" / name)
    assert (len(found.rows), found.skipped) == (200, ())
    for row in found.rows:
        question, answer = row.turns
        assert question.text.count(IMAGE) == 1
        assert "<image>" not in question.text
        assert answer.text.startswith("The quality of the image is ")
        assert row.image == f"koniq/{row.id.partition('->')[0]}"


def test_a_real_file_of_another_form_is_told(shared: Path) -> None:
    with pytest.raises(InputError, match=r"train_comparison_sample.json record 1: .*conversations"):
        read_conversations(shared / "data/texts/train_comparison_sample.json")
