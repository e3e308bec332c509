"""What the catalogue knows of a data set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lit_biqa.data.readers.disk import ImageFinder, descend
from lit_biqa.types import InputError


def digest(rows: Iterable[tuple[str, float]]) -> str:
    """First eight hexadecimal digits of the SHA-256 over sorted names and MOS (4 decimals)."""
    lines = sorted(f"{name.lower()} {mos:.4f}" for name, mos in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Label:
    """What a label file says of one image, on the data set's own scale.

    Attributes:
        name: file name as the label file writes it; identifies the image in its data set.
        mos: mean opinion score on the data set's own scale.
        std: standard deviation of single ratings on that scale; ``nan`` where it is unknown, or
            where what the authors give is the deviation of the mean.
        file: where to look within the image folder, where that is not ``name``.
        reference: name of the pristine source.
        part: part of the authors' split it belongs to, in their word.
        texts: texts about the image.
        degradation: class and severity of its distortion.
    """

    name: str
    mos: float
    std: float = math.nan
    file: str = ""
    reference: str | None = None
    part: str | None = None
    texts: tuple[str, ...] = ()
    degradation: tuple[str, str] | None = None


@dataclass(frozen=True)
class Entry:
    """One data set: where it lies, how it is read, and the scale of its scores.

    Attributes:
        name: catalogue name.
        title: name its authors give it.
        source: where to obtain it.
        folders: where it may lie under the root, tried in order, whatever case and punctuation.
        images: versions of its image folders. Of them, the one that holds the most labelled
            images is used, and no other; a version may be several folders.
        read: labels from the data set's folder, in a fixed order.
        count: images its authors scored, save those ``aside``; None where any number may be.
        low: lowest score over the whole data set, on its own scale; becomes 1 (or 5).
        high: highest score; becomes 5 (or 1).
        lower_is_better: scores are DMOS, so the scale is turned round.
        split: the split that a name alone stands for.
        parts: named splits beside the general ones: split -> part -> the authors' words.
        aside: the authors' word for images they do not count to the data set. Only a split that
            names the word takes them in.
        lists: part -> file name of Q-Align's list, for the split ``qalign``.
        digest: of all its labels, measured on the authors' file; empty where it was not at hand.
        portions: digest -> count of portions that its authors publish by themselves.
        unmeasured: tells labels from a file of theirs that was not at hand: they are counted, but
            their digest is unknown.
    """

    name: str
    title: str
    source: str
    folders: tuple[str, ...]
    images: tuple[tuple[str, ...], ...]
    read: Callable[[Path], list[Label]]
    count: int | None
    low: float
    high: float
    lower_is_better: bool = False
    split: str = "all"
    parts: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    aside: str = ""
    lists: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    portions: Mapping[str, int] = field(default_factory=dict)
    unmeasured: Callable[[Sequence[Label]], bool] = lambda labels: False

    def folder(self, root: Path) -> Path:
        """The data set's folder under ``root``.

        Raises:
            InputError: if there is none.
        """
        for steps in self.folders:
            found = descend(root, steps)
            if found:
                return found
        raise InputError(
            f"{self.title} not found under {root}: no folder {' or '.join(self.folders)}. "
            f"Obtain it at {self.source} and unpack it there, or set the data root."
        )

    def labels(self, folder: Path, partial: bool = False) -> list[Label]:
        """All labels, in a fixed order.

        Args:
            folder: the data set's.
            partial: take labels too that are not all of those that its authors published.

        Raises:
            InputError: if the label file is absent, of another form, without a row, or names an
                image twice; if labels are lost or altered, unless ``partial``.
        """
        labels = self.read(folder)
        if not labels:
            raise InputError(f"{self.title}: the label file in {folder} names no image.")
        names: set[str] = set()
        for label in labels:
            if label.name in names:
                raise InputError(f"{self.title}: {folder} has two labels for {label.name}.")
            names.add(label.name)
        if not partial and (faults := self.faults(labels)):
            raise InputError(
                f"{self.title}: {faults[0]} in {folder}. Take the label file again from "
                f"{self.source}, or set data.sets.labels: partial to go on with what is there."
            )
        return labels

    def faults(self, labels: list[Label]) -> list[str]:
        """In what labels differ from those that the data set's authors published, in words."""
        count, right = len(self.counted(labels)), (self.count, *self.portions.values())
        if self.count is not None and count not in right:
            return [f"{count} labels, {' or '.join(map(str, right))} expected"]
        if not self.digest or self.unmeasured(labels):
            return []
        mark = self.mark(labels)
        if mark == self.digest or self.portions.get(mark) == count:
            return []
        return [f"names or scores (digest {mark}) differ from the authors' file ({self.digest})"]

    def mark(self, labels: Iterable[Label]) -> str:
        """The digest of labels.

        Raises:
            InputError: if a score is on another scale.
        """
        return digest((label.name, self.mos(label)[0]) for label in labels)

    def counted(self, labels: list[Label]) -> list[int]:
        """Rows of ``labels`` without those ``aside``."""
        return [i for i, label in enumerate(labels) if not self.aside or label.part != self.aside]

    def finder(self, folder: Path, labels: list[Label]) -> ImageFinder:
        """Look-up in the version of the image folders that holds the most of ``labels``."""
        finders = []
        for version in self.images:
            found = [descend(folder, steps) for steps in version]
            finders.append(ImageFinder([path for path in found if path]))
        return max(finders, key=lambda finder: _held(finder, labels))

    def mos(self, label: Label) -> tuple[float, float]:
        """MOS and rating deviation on [1, 5], 5 best: ``1 + 4 (mos - low) / (high - low)``.

        Both are ``nan`` for an image of which a degradation is known instead.

        The rule of DeQA-Score (You et al. 2025, eq. 2, ``gen_soft_label.py``), with low and high
        over the whole data set.

        Raises:
            InputError: if the score lies outside [low, high], so is on another scale.
        """
        if label.degradation is not None and math.isnan(label.mos):
            return math.nan, math.nan
        span = self.high - self.low
        if not self.low - 1e-6 * span <= label.mos <= self.high + 1e-6 * span:
            raise InputError(
                f"{self.title}: {label.name} has the score {label.mos:g}, outside the data set's "
                f"{self.low:g}..{self.high:g}. The label file is on another scale or altered; "
                f"take it from {self.source}."
            )
        share = min(max((label.mos - self.low) / span, 0.0), 1.0)
        return (5 - 4 * share if self.lower_is_better else 1 + 4 * share), 4 * label.std / span


def _held(finder: ImageFinder, labels: list[Label]) -> int:
    return sum(finder.find(label.file or label.name) is not None for label in labels)
