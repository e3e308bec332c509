"""Texts about images, read from JSON and matched to samples by image name."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from lit_biqa.data.names import Key, Mention, join
from lit_biqa.data.readers.tables import read_text
from lit_biqa.io.json_text import parse_json
from lit_biqa.io.seals import check_record
from lit_biqa.text.parsing import tagged, without_answer, wrapped
from lit_biqa.text.ratings import without_ratings
from lit_biqa.types import InputError, Sample

log = logging.getLogger(__name__)

Record = dict[str, Any]
DEFAULT_FIELDS = ("text", "texts")


def attach_texts(
    samples: Sequence[Sample],
    files: Sequence[Path],
    fields: Sequence[str] = DEFAULT_FIELDS,
    limit: int | None = None,
    beside: Sequence[Sample] = (),
) -> list[Sample]:
    """Add to each sample the texts that the files hold about its image.

    A file is JSON Lines or one JSON list of records such as
    ``{"image": "a.jpg", "text": "The image is sharp."}``. ``image`` is matched as in
    `lit_biqa.data.names`; add ``dataset`` if two data sets share a name. A field is a string or a
    list of strings; ``field:tag`` takes only the text between ``<tag>`` and ``</tag>``;
    ``field:tag+tag`` takes several tags together, each with its tags, if all are there. Text in
    ``<answer>`` is never taken, because it holds the rating.

    Args:
        samples: the images.
        files: files in the order of reading; the texts of an image keep this order.
        fields: fields of a record that hold texts, such as ``perception_text:think``.
        limit: most texts per image, the first ones; ``None`` keeps all.
        beside: images that need no texts, those of validation and test. They get the texts that
            match no sample, without a warning for images that get none.

    Returns:
        The samples in their order, then those beside; earlier texts of a sample come first.

    Raises:
        InputError: for a file that is absent or broken (with the line), a record without image or
            without any of the fields, an ambiguous name, or if no record matches any sample.
    """
    everyone = (*samples, *beside)
    texts = {(s.dataset, s.index): [*s.texts] for s in everyone}
    for file in files:
        _join(file, fields, samples, beside, texts)
    without = [s.name for s in samples if not texts[s.dataset, s.index]]
    if files and without:
        log.warning("%d of %d images have no text: %s", len(without), len(samples), _some(without))
    return [replace(s, texts=tuple(texts[s.dataset, s.index][:limit])) for s in everyone]


def attach_to_parts(
    parts: Mapping[str, Sequence[Sample]],
    files: Sequence[Path],
    fields: Sequence[str],
    limit: int | None,
) -> dict[str, list[Sample]]:
    """`attach_texts` to all parts of a run at once; only ``train`` needs texts.

    Without training, a file may be absent: the texts then belong to a training elsewhere, and a
    warning says so.
    """
    names = sorted(parts, key=lambda part: part != "train")
    if "train" not in parts:
        for file in files:
            if not file.is_file():
                log.warning("%s: no such file of texts; images are tested without", file)
        files = [file for file in files if file.is_file()]
    beside = [sample for part in names if part != "train" for sample in parts[part]]
    joined = iter(attach_texts(parts.get("train", ()), files, fields, limit, beside))
    return {part: list(islice(joined, len(parts[part]))) for part in names}


def cleaned(samples: Sequence[Sample]) -> list[Sample]:
    """Samples without rating sentences in their texts; texts that become empty are dropped."""
    return [_cleaned(sample) for sample in samples]


def _cleaned(sample: Sample) -> Sample:
    texts = [without_ratings(text) for text in sample.texts]
    remaining = [i for i, text in enumerate(texts) if text]
    return replace(
        sample,
        texts=tuple(texts[i] for i in remaining),
        prompts=tuple(sample.prompts[i] for i in remaining if i < len(sample.prompts)),
        conclusions=tuple(sample.conclusions[i] for i in remaining if i < len(sample.conclusions)),
    )


def read_records(file: Path) -> Iterator[tuple[str, Record]]:
    """Records of a JSON Lines file or of a JSON list, each with its place.

    Raises:
        InputError: if the file is absent, or a line or record is broken; names file and place.
    """
    for place, record in json_items(file):
        if not isinstance(record, dict) or not isinstance(record.get("image"), str):
            raise InputError(
                f'{place}: expected a record with "image", a file name: {record!s:.80}'
            )
        yield place, record


def json_items(file: Path) -> Iterator[tuple[str, Any]]:
    """Items of a JSON Lines file or of a JSON list, of any type, each with its place.

    Raises:
        InputError: if the file is absent or is not JSON, or a record was damaged since it was
            written (`lit_biqa.io.seals`); names file and line.
    """
    for place, record in _items(file):
        check_record(place, record)
        yield place, record


def _items(file: Path) -> Iterator[tuple[str, Any]]:
    content = read_text(file)
    return _list_items(file, content) if content.lstrip()[:1] == "[" else _lines(file, content)


def _lines(file: Path, content: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            place = f"{file} line {number}"
            yield place, parse_json(line, place)


def _list_items(file: Path, content: str) -> Iterator[tuple[str, Any]]:
    for number, record in enumerate(parse_json(content, str(file)), start=1):
        yield f"{file} record {number}", record


def _join(
    file: Path,
    fields: Sequence[str],
    samples: Sequence[Sample],
    beside: Sequence[Sample],
    texts_of: dict[Key, list[str]],
) -> None:
    matched, empty, others = 0, list[str](), list[str]()
    records = [
        (mentioned(place, record), place, record["image"], _texts(place, record, fields))
        for place, record in read_records(file)
    ]
    places = {mention: place for mention, place, _, _ in reversed(records)}
    joined = join(samples, places, beside)
    for mention, _, image, texts in records:
        if mention in joined:
            texts_of[joined[mention]] += texts
            matched += bool(texts)
            empty += [] if texts else [image]
        else:
            others.append(image)
    if samples:  # otherwise no image needs texts
        _report(file, fields, matched, empty, others, sorted({s.name for s in samples}))


def mentioned(place: str, record: Record) -> Mention:
    """Data set and image that a record names.

    Raises:
        InputError: if ``dataset`` is no text.
    """
    dataset = record.get("dataset", "")
    if not isinstance(dataset, str):
        raise InputError(f'{place}: "dataset" must be a name: {dataset!s:.80}')
    return dataset, record["image"]


def _texts(place: str, record: Record, fields: Sequence[str]) -> list[str]:
    """Texts of a record in the order of the fields, without empty ones."""
    selected = [field.partition(":") for field in fields]
    if not any(name in record for name, _, _ in selected):
        raise InputError(
            f"{place}: has none of the fields {', '.join(fields)}, only {', '.join(record)}; "
            "name the fields that hold texts in data.texts.fields"
        )
    texts = []
    for name, _, tag in selected:
        value = record.get(name, [])
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                raise InputError(f'{place}: "{name}" is not text: {text!s:.80}')
            texts.append(_part(text, tag) if tag else without_answer(text))
    return [text for text in texts if text]


def _part(text: str, tags: str) -> str | None:
    """Text between tags; several parts keep their tags."""
    parts = {tag: tagged(text, tag) for tag in tags.split("+")}
    if not all(parts.values()):
        return None
    if len(parts) == 1:
        return parts[tags]
    return "\n".join(wrapped(tag, part or "") for tag, part in parts.items())


def _report(
    file: Path,
    fields: Sequence[str],
    matched: int,
    empty: list[str],
    others: list[str],
    names: list[str],
) -> None:
    if not matched and not empty:
        raise InputError(
            f"{file}: none of its {len(others)} records matches an image of this data; it names "
            f"{_some(others)}, the data {_some(names)}; check data.texts.files and data.train"
        )
    if not matched:
        raise InputError(
            f"{file}: no record has a text in {', '.join(fields)}; check data.texts.fields"
        )
    if empty:
        log.warning("%s: no %s in %d records: %s", file, "/".join(fields), len(empty), _some(empty))
    if others:
        log.info("%s: %d records about other images are not used", file, len(others))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
