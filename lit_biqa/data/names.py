"""Names of images in files of others, joined to the names that label files write.

Others write folders in front (``CSIQ/dst_imgs/AWGN/shroom.AWGN.4.png``), another case, or the
separator of Windows. A name stands for the image with which it has the longest tail in common, a
tail being the last parts of a path, its file name at least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from lit_biqa.types import InputError, Sample

Key = tuple[str, int]
"""Data set and index of an image."""

Mention = tuple[str, str]
"""Data set, empty where it is not said, and name, as a file of others writes them."""

T = TypeVar("T")


class Names(Generic[T]):
    """What is known by names, found by the longest tail in common.

    Args:
        named: names and what they stand for; one name may stand for several.
    """

    def __init__(self, named: Iterable[tuple[str, T]]) -> None:
        # Dictionaries in the place of sets, so that messages do not depend on hashes.
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
        """All that a name may stand for: one, several if it is ambiguous, or none.

        The name itself goes before one of another case or separator. Where only a part of either
        path is in common, so that their folders contradict each other, nothing else may have that
        part.
        """
        if name in self._exact:
            return list(self._exact[name])
        steps = _steps(name)
        for start in range(len(steps)):
            tail = steps[start:]
            if tail in self._tails:
                found = self._whole.get(tail) or self._tails[tail]
                agree = start == 0 or tail in self._whole
                return list(found) if agree or len(found) == 1 else []
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
    """Which image each mention in a file is about; those about none are left out.

    A mention and an image belong together where each is the other's best match.

    Args:
        samples: images that are asked for.
        mentions: what a file mentions, each with the place at which it first stands.
        beside: other images, which a mention may be about too. Where it may be about several of
            these, it is about none.
        remedy: what to do about a mention that may be about several.

    Raises:
        InputError: if a mention may be about several of the samples, or several about one.
    """
    known = {(s.dataset, s.index): s for s in (*beside, *samples)}
    asked = {(s.dataset, s.index) for s in samples}
    match = _Match(known, mentions)
    joined: dict[Mention, Key] = {}
    about: dict[Key, str] = {}
    for mention, place in mentions.items():
        keys = match.images(mention)
        keys = [key for key in keys if key in asked] or keys[: len(keys) == 1]
        if len(keys) > 1:
            one, two = (f"{known[key].name} of {key[0]}" for key in keys[:2])
            name = mention[1]
            raise InputError(f'{place}: image "{name}" is ambiguous, {one} or {two}; {remedy}')
        for key in keys:
            if (other := about.setdefault(key, mention[1])) != mention[1]:
                raise InputError(
                    f"{place}: {mention[1]} and {other} may both be {known[key].name} of {key[0]}; "
                    "keep one of them, or write the name as the label file does"
                )
            joined[mention] = key
    return joined


class _Match:
    """Images and mentions that are each other's best match."""

    def __init__(self, known: Mapping[Key, Sample], mentions: Iterable[Mention]) -> None:
        self.known = known
        self._images = _by_set((key[0], s.name, key) for key, s in known.items())
        self._every = Names((s.name, key) for key, s in known.items())
        said = [(dataset, name, (dataset, name)) for dataset, name in mentions]
        # An image may be meant by mentions of its data set and by those that name none.
        sets = {dataset for dataset, _ in known}
        unsaid = [(d, name, m) for dataset, name, m in said if not dataset for d in sets]
        self._mentions = _by_set([*(each for each in said if each[0]), *unsaid])

    def images(self, mention: Mention) -> list[Key]:
        dataset, name = mention
        names = self._images.get(dataset) if dataset else self._every
        found = names.find(name) if names else []
        return [key for key in found if mention in self._meant(key)]

    def _meant(self, key: Key) -> list[Mention]:
        return self._mentions[key[0]].find(self.known[key].name)


def _by_set(named: Iterable[tuple[str, str, T]]) -> dict[str, Names[T]]:
    sets: dict[str, list[tuple[str, T]]] = {}
    for dataset, name, meant in named:
        sets.setdefault(dataset, []).append((name, meant))
    return {dataset: Names(rows) for dataset, rows in sets.items()}
