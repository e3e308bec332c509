"""Where samples come from: the catalogue, the embedded set, a file of conversations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from lit_biqa.data import synthetic as embedded
from lit_biqa.data.catalog import CONVERSATIONS, Missing, entry_of, load_split, parse
from lit_biqa.data.feedbacks import ConversationSet
from lit_biqa.data.settings import SetSettings
from lit_biqa.data.splits import Split
from lit_biqa.types import InputError, Sample

log = logging.getLogger(__name__)


@dataclass  # not frozen: the conversations are read once
class Sources:
    """Finds data sets by name.

    Attributes:
        root: folder under which they lie.
        sets: how they are read, and what those without fixed content are made of.
        missing: whether images that the disk lacks are an error or are left out.
    """

    root: Path
    sets: SetSettings
    missing: Literal["error", "skip"]

    def prepare(self, specs: Sequence[str]) -> None:
        """Check names, a wrong one now and not after images were made; then make ``synthetic``.

        Raises:
            InputError: if there is no such data set.
        """
        names = [parse(spec, "train")[0] for spec in specs]
        for name in names:
            if name != CONVERSATIONS:
                entry_of(name, self.root, self.sets.scale)
        if "synthetic" in names:
            embedded.generate(self.root, self.sets.synthetic)

    def load(self, spec: str, part: str, opens_images: bool) -> list[Sample]:
        """Samples of one part of a data set; tells how many images are not on disk.

        Args:
            spec: ``NAME[/SPLIT[:PART]]``.
            part: ``train``, ``val`` or ``test``; a part named in the spec goes before it.
            opens_images: whether images need to be there; if not, all samples are kept.

        Raises:
            InputError: if the data set is not as it should be.
        """
        found = self._split(spec, part, self.missing if opens_images else "keep")
        if found.skipped:
            log.warning("%s: %d images of part %s are not on disk", spec, found.skipped, part)
        return found.samples

    def _split(self, spec: str, part: str, missing: Missing) -> Split:
        name, split, part = parse(spec, part)
        if name == CONVERSATIONS:
            if split:
                raise InputError(
                    f"{spec}: conversations are parted by data.sets.conversations.train, not by a "
                    f"split; write {name} or {name}:{part}"
                )
            return self._conversations.load(part, missing)
        made = embedded.folder(self.root, self.sets.synthetic) if name == "synthetic" else None
        sets = self.sets
        return load_split(spec, part, made or self.root, missing, sets.labels, sets.scale)

    @cached_property
    def _conversations(self) -> ConversationSet:
        if self.sets.conversations is None:
            raise InputError(
                "the data set conversations is named, but not which: give the file in "
                "data.sets.conversations.file"
            )
        return ConversationSet(self.sets.conversations, self.root)
