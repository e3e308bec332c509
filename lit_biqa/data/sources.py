"""Sources of samples: the catalogue, the synthetic set, a file of conversations."""

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
    """Loads data sets by name.

    Attributes:
        root: folder under which they lie.
        sets: how they are read, and the content of sets that settings define.
        missing: absent images are an error or are left out.
    """

    root: Path
    sets: SetSettings
    missing: Literal["error", "skip"]

    def prepare(self, specs: Sequence[str], read: Sequence[str]) -> None:
        """Check all names first, so that a wrong one fails early, then make ``synthetic``.

        Args:
            specs: all data sets of a run.
            read: those that are read now; ``synthetic`` is made if it is among them.

        Raises:
            InputError: if there is no such data set.
        """
        for spec in specs:
            name, _, _ = parse(spec, "train")
            if name != CONVERSATIONS:
                entry_of(name, self.root, self.sets.scale)
        if "synthetic" in [parse(spec, "train")[0] for spec in read]:
            embedded.generate(self.root, self.sets.synthetic)

    def load(self, spec: str, part: str, opens_images: bool) -> list[Sample]:
        """Samples of one part of a data set; warns of absent images.

        Args:
            spec: ``NAME[/SPLIT[:PART]]``.
            part: ``train``, ``val`` or ``test``; a part in the spec overrides it.
            opens_images: false to keep samples whose image is absent.

        Raises:
            InputError: if the data set is wrong.
        """
        result = self._split(spec, part, self.missing if opens_images else "keep")
        if result.skipped:
            log.warning("%s: %d images of part %s are not on disk", spec, result.skipped, part)
        return result.samples

    def _split(self, spec: str, part: str, missing: Missing) -> Split:
        name, split, part = parse(spec, part)
        if name == CONVERSATIONS:
            if split:
                raise InputError(
                    f"{spec}: conversations are split by data.sets.conversations.train, not by a "
                    f"named split; write {name} or {name}:{part}"
                )
            return self._conversations.load(part, missing)
        made = embedded.folder(self.root, self.sets.synthetic) if name == "synthetic" else None
        sets = self.sets
        return load_split(spec, part, made or self.root, missing, sets.labels, sets.scale)

    @cached_property
    def _conversations(self) -> ConversationSet:
        if self.sets.conversations is None:
            raise InputError(
                "the data set conversations is named, but it has no file: set "
                "data.sets.conversations.file"
            )
        return ConversationSet(self.sets.conversations, self.root)
