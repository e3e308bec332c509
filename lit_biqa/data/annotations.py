"""What people wrote about images, read from JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_biqa.data.names import Key, join
from lit_biqa.data.texts import mentioned, read_records
from lit_biqa.types import InputError, Sample


def annotated(samples: Sequence[Sample], file: Path, beside: Sequence[Sample] = ()) -> list[Sample]:
    """Samples with one text for each person who wrote about them, in the place of other texts.

    The file is a JSON list, or JSON Lines, of records such as
    ``{"image": "a.jpg", "annotations": [{"annotator": "1", "dims": {"flaw": "dark"}}]}``. ``image``
    is found as in `lit_biqa.data.names`; ``dataset`` may be added where two data sets share a
    name. ``dims`` are texts by any names, which are not read; nor is a person's ``score``.

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
    records = [(mentioned(place, each), place, each) for place, each in read_records(file)]
    places = {mention: place for mention, place, _ in reversed(records)}
    joined = join((*samples, *beside), places)
    written: dict[Key, list[str]] = {}
    missing = []
    for mention, place, record in records:
        texts = _texts(place, record)
        if mention in joined:
            written.setdefault(joined[mention], []).extend(texts)
        else:
            missing.append(record["image"])
    if missing:
        raise InputError(
            f"{file}: annotations of {len(missing)} images that are in no data set of this run: "
            f"{', '.join(missing[:3])}. Take them out, or name the data sets in data.train."
        )
    return [replace(s, texts=tuple(written.get((s.dataset, s.index), ()))) for s in samples]


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
