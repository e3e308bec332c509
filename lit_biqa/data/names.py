"""Image names in files of other authors, matched to the names of label files.

Other files may put folders in front (``CSIQ/dst_imgs/AWGN/shroom.AWGN.4.png``), change the case, or
use the separator of Windows. A name matches the image with which it has the longest common tail:
the last parts of the path, at least the file name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from lit_biqa.types import InputError, Sample

Key = tuple[str, int]
"""Data set and index of an image."""

Mention = tuple[str, str]
"""Data set (empty if not given) and name, as another file writes them."""

T = TypeVar("T")


class Names(Generic[T]):
    """Values by name, found by the longest common tail.

    Args:
        named: names and their values; one name may have several values.
    """

    def __init__(self, named: Iterable[tuple[str, T]]) -> None:
        # Dictionaries instead of sets, so that messages do not depend on hashes.
        self._exact: dict[str, dict[T, None]] = {}
        self._whole: dict[tuple[str, ...], dict[T, None]] = {}
        self._tails: dict[tuple[str, ...], dict[T, None]] = {}
        for name, meant in named:
            steps = _steps(name)
            self._exact.setdefault(name, {})[meant] = None
            self._whole.setdefault(steps, {})[meant] = None
            for start in range(len(steps)):
                self._tails.setdefault(steps[start:], {})[meant] = None

    def find(self, name: str) -> list[T]:
        """All values that a name may stand for: one, several if it is ambiguous, or none.

        An exact match takes precedence over another case or separator. If only a part of both paths
        matches, so that their folders contradict each other, that part must be unique.
        """
        if name in self._exact:
            return list(self._exact[name])
        steps = _steps(name)
        for start in range(len(steps)):
            tail = steps[start:]
            if tail in self._tails:
                values = self._whole.get(tail) or self._tails[tail]
                agree = start == 0 or tail in self._whole
                return list(values) if agree or len(values) == 1 else []
        return []


def _steps(name: str) -> tuple[str, ...]:
    parts = name.replace("\\", "/").lower().split("/")
    return tuple(part for part in parts if part not in ("", ".", ".."))


def join(
    samples: Sequence[Sample],
    mentions: Mapping[Mention, str],
    beside: Sequence[Sample] = (),
    remedy: str = 'write its whole name, or add "dataset" to the record',
) -> dict[Mention, Key]:
    """Image of each mention in a file; mentions of no image are left out.

    A mention and an image match if each is the other's best match.

    Args:
        samples: images to match.
        mentions: mentions in a file, each with the place where it first stands.
        beside: other images that a mention may match. A mention that matches several of these
            matches none.
        remedy: advice for an ambiguous mention.

    Raises:
        InputError: if a mention matches several of the samples, or several match one.
    """
    images = {(s.dataset, s.index): s for s in (*beside, *samples)}
    asked = {(s.dataset, s.index) for s in samples}
    match = _Match(images, mentions)
    joined: dict[Mention, Key] = {}
    about: dict[Key, str] = {}
    for mention, place in mentions.items():
        keys = match.images(mention)
        keys = [key for key in keys if key in asked] or keys[: len(keys) == 1]
        if len(keys) > 1:
            one, two = (f"{images[key].name} of {key[0]}" for key in keys[:2])
            name = mention[1]
            raise InputError(f'{place}: image "{name}" is ambiguous, {one} or {two}; {remedy}')
        for key in keys:
            if (other := about.setdefault(key, mention[1])) != mention[1]:
                raise InputError(
                    f"{place}: {mention[1]} and {other} both match {images[key].name} of {key[0]}; "
                    "keep one of them, or write the name as the label file does"
                )
            joined[mention] = key
    return joined


class _Match:
    """Images and mentions that are each other's best match."""

    def __init__(self, images: Mapping[Key, Sample], mentions: Iterable[Mention]) -> None:
        self.known = images
        self._images = _by_set((key[0], s.name, key) for key, s in images.items())
        self._every = Names((s.name, key) for key, s in images.items())
        named = [(dataset, name, (dataset, name)) for dataset, name in mentions]
        # An image may be named by mentions of its data set and by those that name no data set.
        sets = {dataset for dataset, _ in images}
        unnamed = [(d, name, m) for dataset, name, m in named if not dataset for d in sets]
        self._mentions = _by_set([*(item for item in named if item[0]), *unnamed])

    def images(self, mention: Mention) -> list[Key]:
        dataset, name = mention
        names = self._images.get(dataset) if dataset else self._every
        keys = names.find(name) if names else []
        return [key for key in keys if mention in self._meant(key)]

    def _meant(self, key: Key) -> list[Mention]:
        return self._mentions[key[0]].find(self.known[key].name)


def _by_set(named: Iterable[tuple[str, str, T]]) -> dict[str, Names[T]]:
    sets: dict[str, list[tuple[str, T]]] = {}
    for dataset, name, meant in named:
        sets.setdefault(dataset, []).append((name, meant))
    return {dataset: Names(rows) for dataset, rows in sets.items()}
