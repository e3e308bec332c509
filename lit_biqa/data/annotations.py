"""What people wrote about images, read from JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_biqa.data.texts import read_records
from lit_biqa.types import InputError, Sample

Key = tuple[str, int]


def annotated(samples: Sequence[Sample], file: Path, beside: Sequence[Sample] = ()) -> list[Sample]:
    """Samples with one text for each person who wrote about them, in the place of other texts.

    The file is a JSON list, or JSON Lines, of records such as
    ``{"image": "a.jpg", "annotations": [{"annotator": "1", "dims": {"flaw": "dark"}}]}``. ``image``
    is the name that the label file writes, or its last part; ``dataset`` may be added where two
    data sets share a name. ``dims`` are texts by any names, which are not read; a person's
    ``score`` is not read either.

    Args:
        samples: to be learned from.
        file: of the annotations.
        beside: samples of other parts, which may be named in it too.

    Returns:
        All samples, in their order; without texts where nobody wrote anything.

    Raises:
        InputError: if the file is absent or broken, names images that do not exist, or one
            that may be several.
    """
    known = _by_name((*samples, *beside))
    written: dict[Key, list[str]] = {}
    missing = []
    for place, record in read_records(file):
        named = known.get(record["image"], set())
        named = {key for key in named if record.get("dataset", key[0]) == key[0]}
        if len(named) > 1:
            raise InputError(f'{place}: {record["image"]} is ambiguous: add its "dataset"')
        missing += [record["image"]] * (not named)
        for key in named:
            written.setdefault(key, []).extend(_texts(place, record))
    if missing:
        raise InputError(
            f"{file}: annotations of {len(missing)} images that are in no data set of this run: "
            f"{', '.join(missing[:3])}. Take them out, or name the data sets in data.train."
        )
    return [replace(s, texts=tuple(written.get((s.dataset, s.index), ()))) for s in samples]


def _by_name(samples: Sequence[Sample]) -> dict[str, set[Key]]:
    """Samples under their whole name and under its last part."""
    names: dict[str, set[Key]] = {}
    for sample in samples:
        for name in {sample.name, Path(sample.name).name}:
            names.setdefault(name, set()).add((sample.dataset, sample.index))
    return names


def _texts(place: str, record: dict[str, Any]) -> list[str]:
    found = record.get("annotations")
    if not isinstance(found, list) or not all(map(_is_annotation, found)):
        raise InputError(
            f'{place}: expected "annotations", a list of records with "dims", texts by name'
        )
    return [" ".join(each["dims"].values()) for each in found]


def _is_annotation(value: Any) -> bool:
    dims = value.get("dims") if isinstance(value, dict) else None
    return isinstance(dims, dict) and all(isinstance(text, str) for text in dims.values())
