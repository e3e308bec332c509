"""Entries of the catalogue: the facts of a data set and its labels."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lit_biqa.data.readers.disk import ImageFinder, descend
from lit_biqa.types import InputError


def digest(rows: Iterable[tuple[str, float]]) -> str:
    """First eight hexadecimal digits of the SHA-256 over sorted names and MOS (4 decimals)."""
    lines = sorted(f"{name.lower()} {mos:.4f}" for name, mos in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Label:
    """Label of one image, on the data set's own scale.

    Attributes:
        name: file name as the label file writes it; identifies the image in its data set.
        mos: mean opinion score on the data set's own scale.
        std: standard deviation of single ratings on that scale; ``nan`` if it is unknown, or if the
            authors give the deviation of the mean.
        file: path within the image folder, if it is not ``name``.
        groups: kind of group -> name of the image's group, in the order of `Entry.groups`.
        part: part of the authors' split, in their word.
        texts: texts about the image.
        degradation: class and severity of its distortion.
    """

    name: str
    mos: float
    std: float = math.nan
    file: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None
    texts: tuple[str, ...] = ()
    degradation: tuple[str, str] | None = None


@dataclass(frozen=True)
class Entry:
    """One data set: its folders, its reader, and the scale of its scores.

    Attributes:
        name: catalogue name.
        title: name that its authors give it.
        source: address to obtain it from.
        folders: folders to try under the root, in order, in any case and punctuation.
        images: versions of its image folders, of which each may be several folders. The version
            with the most labelled images is used, unless the split names one of `versions`.
        read: function that reads labels from the data set's folder, in a fixed order.
        count: number of images that its authors scored, without those ``aside``; None for any
            number.
        low: lowest score over the whole data set, on its own scale; becomes 1 (or 5).
        high: highest score; becomes 5 (or 1).
        lower_is_better: true for DMOS; the scale is then inverted.
        groups: kinds of groups of its images, such as ``reference`` or ``generator``; the first is
            the default one. Each kind makes a split, ``<kind>-<seed>``.
        split: split that a name alone stands for.
        parts: named splits beside the general ones: split -> part -> the authors' words.
        aside: the authors' word for images that are not part of the data set. Only a split that
            names the word includes them.
        lists: lists of others (`lit_biqa.data.lists`): split -> part -> file name.
        digest: digest of all its labels, measured on the authors' file; empty if that file was not
            available.
        derived_digest: where that file was not available, the digest of the labels as others'
            lists give them. `lit_biqa prepare` tells of another one, which is not refused.
        portions: digest -> count of portions that its authors publish separately.
        unmeasured: true for labels from an authors' file that was not available: they are
            counted, but their digest is unknown.
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
    groups: tuple[str, ...] = ()
    split: str = "all"
    parts: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    aside: str = ""
    lists: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    digest: str = ""
    derived_digest: str = ""
    portions: Mapping[str, int] = field(default_factory=dict)
    unmeasured: Callable[[Sequence[Label]], bool] = lambda labels: False

    @property
    def versions(self) -> tuple[str, ...]:
        """Sizes in which its images are published; ``paper3015-512x384`` takes those of one."""
        sizes = [version[0] for version in self.images if re.fullmatch(r"\d+x\d+", version[0])]
        return tuple(sizes)

    def at(self, split: str) -> tuple[Entry, str]:
        """The entry with the images that a split names, and the split without their size.

        Example: of KonIQ-10k, ``paper3015-512x384`` gives its images of 512x384 and ``paper3015``.
        """
        name, _, size = split.rpartition("-")
        return (replace(self, images=((size,),)), name) if size in self.versions else (self, split)

    def folder(self, root: Path) -> Path:
        """Folder of the data set under ``root``.

        Raises:
            InputError: if there is none.
        """
        for steps in self.folders:
            path = descend(root, steps)
            if path:
                return path
        raise InputError(
            f"{self.title} not found under {root}: no folder {' or '.join(self.folders)}. "
            f"Obtain it at {self.source} and unpack it there, or set the data root."
        )

    def labels(self, folder: Path, partial: bool = False) -> list[Label]:
        """Labels of the whole data set, in a fixed order.

        Args:
            folder: folder of the data set.
            partial: accept labels that are not all of those that its authors published.

        Raises:
            InputError: if the label file is absent, of another format, empty, or names an image
                twice; if labels are lost or altered, unless ``partial``.
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
                f"{self.source}, or set data.sets.labels: partial to continue with these labels."
            )
        return labels

    def faults(self, labels: list[Label]) -> list[str]:
        """Differences between labels and those that the data set's authors published, in words."""
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
        """Digest of labels.

        Raises:
            InputError: if a score is on another scale.
        """
        return digest((label.name, self.mos(label)[0]) for label in labels)

    def counted(self, labels: list[Label]) -> list[int]:
        """Rows of ``labels`` without those ``aside``."""
        return [i for i, label in enumerate(labels) if not self.aside or label.part != self.aside]

    def finder(self, folder: Path, labels: list[Label]) -> ImageFinder:
        """Look-up in the version of the image folders with the most of ``labels``."""
        finders = []
        for version in self.images:
            folders = [descend(folder, steps) for steps in version]
            finders.append(ImageFinder([path for path in folders if path]))
        return max(finders, key=lambda finder: _held(finder, labels))

    def mos(self, label: Label) -> tuple[float, float]:
        """MOS and rating deviation on [1, 5], 5 best: ``1 + 4 (mos - low) / (high - low)``.

        Both are ``nan`` for an image with a degradation instead of a MOS.

        Source: DeQA-Score (You et al. 2025, eq. 2, ``gen_soft_label.py``), with low and high over
        the whole data set.

        Raises:
            InputError: if the score lies outside [low, high], so that it is on another scale.
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
