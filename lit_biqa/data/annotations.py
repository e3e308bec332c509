"""Human-written annotations of images, read from JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from lit_biqa.data.names import Key, join
from lit_biqa.data.texts import mentioned, read_records
from lit_biqa.types import InputError, Sample

log = logging.getLogger(__name__)


def annotate_parts(
    parts: Mapping[str, Sequence[Sample]], file: Path, whole: bool = True
) -> dict[str, list[Sample]]:
    """`annotated` for all parts of a run at once.

    Without training, the annotations may belong to a training elsewhere: other images that the file
    names are ignored, and if it is absent, a warning says so.

    Args:
        parts: images of each part.
        file: the annotations.
        whole: false if images of the data sets were left out, which the file may name.
    """
    training = "train" in parts
    if not training and not file.is_file():
        log.warning("%s: no such file of annotations; images are tested without", file)
        return {part: list(samples) for part, samples in parts.items()}
    everyone = [sample for samples in parts.values() for sample in samples]
    joined = iter(annotated(everyone, file, others="error" if training and whole else "ignore"))
    return {part: list(islice(joined, len(samples))) for part, samples in parts.items()}


def annotated(
    samples: Sequence[Sample], file: Path, others: Literal["error", "ignore"] = "error"
) -> list[Sample]:
    """Samples whose texts are the annotations, one text per annotator, instead of other texts.

    The file is a JSON list, or JSON Lines, of records such as
    ``{"image": "a.jpg", "annotations": [{"annotator": "1", "dims": {"flaw": "dark"}}]}``. ``image``
    is matched as in `lit_biqa.data.names`; add ``dataset`` if two data sets share a name. ``dims``
    are texts by any names; the names and an annotator's ``score`` are ignored.

    Args:
        samples: the images.
        file: the annotations.
        others: handling of annotations of other images.

    Returns:
        All samples, in their order; samples without annotations have no texts.

    Raises:
        InputError: if the file is absent or broken, or names images that do not exist or are
            ambiguous.
    """
    records = [(mentioned(place, record), place, record) for place, record in read_records(file)]
    places = {mention: place for mention, place, _ in reversed(records)}
    joined = join(samples, places)
    written: dict[Key, list[str]] = {}
    missing = []
    for mention, place, record in records:
        texts = _texts(place, record)
        if mention in joined:
            written.setdefault(joined[mention], []).extend(texts)
        else:
            missing.append(record["image"])
    if missing and others == "error":
        raise InputError(
            f"{file}: annotations of {len(missing)} images that are in no data set of this run: "
            f"{', '.join(missing[:3])}. Remove them, or name their data sets in data.train."
        )
    return [replace(s, texts=tuple(written.get((s.dataset, s.index), ()))) for s in samples]


def _texts(place: str, record: dict[str, Any]) -> list[str]:
    annotations = record.get("annotations")
    if not isinstance(annotations, list) or not all(map(_is_annotation, annotations)):
        raise InputError(
            f'{place}: expected "annotations", a list of records with "dims", a map of texts'
        )
    return [" ".join(item["dims"].values()) for item in annotations]


def _is_annotation(value: Any) -> bool:
    dims = value.get("dims") if isinstance(value, dict) else None
    return isinstance(dims, dict) and all(isinstance(text, str) for text in dims.values())
