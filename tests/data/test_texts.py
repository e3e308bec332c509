"""Texts read from both forms of file, joined by name, and what is said where they do not fit."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lit_biqa.data.texts import attach_texts, attach_to_parts, cleaned
from lit_biqa.types import InputError, Message, Sample

COMPLETION = "<caption>A cat.</caption><think>It is sharp.</think><answer>4.25</answer>"


def sample(name: str, index: int = 0, dataset: str = "set", texts: tuple[str, ...] = ()) -> Sample:
    return Sample(dataset, "all", index, name, Path(name), mos=3.0, texts=texts)


def lines(folder: Path, *records: Any) -> Path:
    path = folder / "texts.jsonl"
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records))
    return path


def texts(samples: list[Sample]) -> list[tuple[str, ...]]:
    return [s.texts for s in samples]


def test_lines_with_one_text_or_several_keep_their_order(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        {"image": "b.jpg", "text": "first", "seed": 0},
        {"image": "a.jpg", "text": "only\u2028one line"},
        {"image": "b.jpg", "texts": ["second", "third"]},
    )
    samples = [sample("a.jpg", 0), sample("b.jpg", 1)]
    joined = attach_texts(samples, [path])
    assert texts(joined) == [("only\u2028one line",), ("first", "second", "third")]
    assert texts(attach_texts(samples, [path], limit=2)) == [
        ("only\u2028one line",),
        ("first", "second"),
    ]
    assert texts(attach_texts(samples, [path], limit=0)) == [(), ()]


def test_texts_of_samples_and_of_several_files_add_up(tmp_path: Path) -> None:
    path = lines(tmp_path, {"image": "a.jpg", "text": "new"})
    joined = attach_texts([sample("a.jpg", texts=("old",))], [path, path])
    assert texts(joined) == [("old", "new", "new")]
    assert texts(attach_texts([sample("a.jpg", texts=("old", "older"))], [], limit=1)) == [("old",)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["perception_text:think"], ("It is sharp.",)),
        (["reasoning_text:think", "perception_text:caption"], ("It is good.", "A cat.")),
        (["perception_text"], ("A cat.It is sharp.",)),
    ],
)
def test_the_published_list_and_its_tags(
    tmp_path: Path, fields: list[str], expected: tuple[str, ...]
) -> None:
    path = tmp_path / "texts.json"
    record = {
        "image": "a.jpg",
        "gt_score": 4.0,
        "perception_text": COMPLETION,
        "reasoning_text": "<think>It is good.</think><answer>4.25</answer>",
    }
    path.write_text(json.dumps([record], indent=1))
    assert texts(attach_texts([sample("a.jpg")], [path], fields)) == [expected]


def test_names_match_whole_or_by_their_last_part(tmp_path: Path) -> None:
    path = lines(tmp_path, {"image": "koniq/a.jpg", "text": "A"}, {"image": "b.jpg", "text": "B"})
    joined = attach_texts([sample("a.jpg", 0), sample("deep/b.jpg", 1)], [path])
    assert texts(joined) == [("A",), ("B",)]


def test_a_name_in_two_data_sets_needs_the_data_set(tmp_path: Path) -> None:
    samples = [sample("1.bmp", 0, "one"), sample("1.bmp", 0, "two")]
    with pytest.raises(InputError, match=r'line 1: image "1.bmp" is ambiguous, .* of one or'):
        attach_texts(samples, [lines(tmp_path, {"image": "1.bmp", "text": "T"})])
    path = lines(tmp_path, {"image": "1.bmp", "text": "T", "dataset": "two"})
    assert texts(attach_texts(samples, [path])) == [(), ("T",)]


def test_images_without_text_are_counted_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = lines(
        tmp_path,
        {"image": "a.jpg", "text": "A"},
        {"image": "b.jpg", "text": "<answer>3.1</answer>"},
        {"image": "z.jpg", "text": "Z"},
    )
    with caplog.at_level(logging.INFO):
        joined = attach_texts([sample(f"{n}.jpg", i) for i, n in enumerate("abcdef")], [path])
    assert texts(joined) == [("A",), (), (), (), (), ()]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [
        f"{path}: no text/texts in 1 records: b.jpg",
        "5 of 6 images have no text: b.jpg, c.jpg, d.jpg, ...",
    ]
    assert "1 records about other images" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image": "a.jpg", "text": "A"}\n{"image": "a.j', "line 2: broken JSON"),
        ('[{"image": "a.jpg", "text": "A"},', "broken JSON"),
        ('\n"a.jpg"', 'line 2: expected a record with "image"'),
        ('{"text": "A"}', 'line 1: expected a record with "image"'),
        ('[{"image": 7, "text": "A"}]', 'record 1: expected a record with "image"'),
        (
            '{"image": "a.jpg", "caption": "A"}',
            "line 1: has none of the fields text, texts.*caption",
        ),
        ('{"image": "a.jpg", "text": 3}', 'line 1: "text" is not text: 3'),
        ('{"image": "a.jpg", "texts": ["A", null]}', '"texts" is not text: None'),
        ('{"image": "z.jpg", "text": "A"}', r"none of its 1 records.*z\.jpg, the data a\.jpg"),
        ('{"image": "a.jpg", "text": " "}', "no record has a text in text, texts"),
        ("", "none of its 0 records"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        attach_texts([sample("a.jpg")], [path])
    assert str(path) in str(error.value)


def test_absent_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.jsonl: no such file"):
        attach_texts([sample("a.jpg")], [tmp_path / "absent.jsonl"])
    (tmp_path / "image.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match=r"image\.jpg: cannot be read as UTF-8"):
        attach_texts([sample("a.jpg")], [tmp_path / "image.jpg"])


def test_images_beside_get_texts_quietly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = lines(
        tmp_path,
        {"image": "a.jpg", "text": "A"},
        {"image": "b.jpg", "text": "B"},
        {"image": "c.jpg", "text": "C"},
    )
    train = [sample("a.jpg", 0)]
    # a.jpg of another set is not meant; which c.jpg is meant is not known.
    others = [sample(name, i, data) for i, (name, data) in enumerate(BESIDE)]
    joined = attach_texts(train, [path], beside=others)
    assert texts(joined) == [("A",), (), ("B",), (), (), ()]
    assert [s.name for s in joined[1:]] == [s.name for s in others]
    assert caplog.text == ""
    with pytest.raises(InputError, match="ambiguous"):
        attach_texts(others, [path])


BESIDE = [(f"{name}.jpg", "two") for name in "abcd"] + [("c.jpg", "three")]


def test_parts_keep_their_samples_whatever_their_order(tmp_path: Path) -> None:
    path = lines(tmp_path, *({"image": f"{n}.jpg", "texts": [n, n]} for n in "abc"))
    order = {"val": "b", "train": "a", "test": "c"}
    parts = {part: [sample(f"{name}.jpg", ord(name))] for part, name in order.items()}
    joined = attach_to_parts(parts, [path], ("texts",), 1)
    assert {part: texts(found) for part, found in joined.items()} == {
        "train": [("a",)],
        "val": [("b",)],
        "test": [("c",)],
    }


def test_where_nothing_is_trained_texts_may_be_of_other_images_or_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = lines(tmp_path, {"image": "a.jpg", "text": "A"})
    parts = {"test": [sample("b.jpg")]}
    assert attach_to_parts(parts, [path], ("text",), None) == parts
    assert caplog.text == ""
    assert attach_to_parts(parts, [tmp_path / "absent.jsonl"], ("text",), None) == parts
    assert "absent.jsonl: no such file of texts; images are tested without" in caplog.text
    with pytest.raises(InputError, match=r"absent\.jsonl: no such file"):
        attach_to_parts({"train": [sample("a.jpg")]}, [tmp_path / "absent.jsonl"], ("text",), None)


def test_cleaned_texts_keep_what_belongs_to_them() -> None:
    said = tuple((Message("user", word),) for word in ("one", "two", "three"))
    rated = sample("a.jpg", texts=("It is dim. I rate it 2.5.", "A score of 3.", "It is crisp."))
    (found,) = cleaned([replace(rated, prompts=said, conclusions=("Bad.", "Fair.", "Good."))])
    assert found.texts == ("It is dim.", "It is crisp.")
    assert found.prompts == (said[0], said[2])
    assert found.conclusions == ("Bad.", "Good.")
    assert cleaned([rated])[0].prompts == ()


def test_every_agiqa_image_has_its_published_reasoning(shared: Path) -> None:
    from lit_biqa.data.catalog import load_split

    samples = load_split("agiqa3k/all", "test", shared / "data").samples
    files = [shared / "data/texts/baseline_v11_agiqa.json"]
    joined = attach_texts(samples, files, ["perception_text:think", "reasoning_text:think"])
    assert {len(s.texts) for s in joined} == {2}
    records = {r["image"]: r for r in json.loads(files[0].read_text())}
    assert all(s.texts[0] in records[s.name]["perception_text"] for s in joined[::100])


def test_several_tags_are_taken_together_with_their_tags(tmp_path: Path) -> None:
    file = tmp_path / "texts.json"
    whole = "<caption>a dog</caption><think>sharp</think><answer>4.1</answer>"
    records = [{"image": "0.png", "said": whole}, {"image": "1.png", "said": "<think>x</think>"}]
    file.write_text(json.dumps(records))
    samples = [Sample("own", "all", i, f"{i}.png", tmp_path / f"{i}.png") for i in range(2)]
    first, second = attach_texts(samples, [file], ["said:caption+think"])
    assert first.texts == ("<caption>\na dog\n</caption>\n<think>\nsharp\n</think>",)
    assert second.texts == ()
