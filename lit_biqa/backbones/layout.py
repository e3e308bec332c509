"""Checkpoints whose parts lie in several places: subfolders, adapters, a tokenizer elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lit_biqa.backbones.other_layouts import WEIGHTS, check_has_weights
from lit_biqa.backbones.places import Place, check_there
from lit_biqa.io.json_text import parse_json
from lit_biqa.types import InputError

ADAPTER = "adapter_config.json"
_PIXELS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Layout:
    """Places of a checkpoint's parts that do not lie at the top of `pretrained`.

    Attributes:
        subfolder: folder of the checkpoint inside `pretrained`, a folder or a hub name.
        base: folder or hub name of the weights that an adapter belongs to; by default what its
            ``adapter_config.json`` says.
        processor: folder or hub name of tokenizer and image settings; by default those of the
            checkpoint, or for an adapter without them those of its base.
    """

    subfolder: str = ""
    base: str | None = None
    processor: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of transformers or an adapter of peft, by the places of its parts.

    Attributes:
        pretrained: a folder, or a name that transformers can resolve.
        layout: places of parts that lie elsewhere.
    """

    pretrained: str
    layout: Layout = Layout()

    @cached_property
    def top(self) -> Place:
        """Place that `pretrained` names, with its subfolder.

        Raises:
            InputError: if it is a path and does not exist.
        """
        check_there(self.pretrained)
        place = Place.of(self.pretrained, self.layout.subfolder)
        check_there(place.name)
        return place

    @cached_property
    def adapter(self) -> Place | None:
        """Place of an adapter; ``None`` if the checkpoint is none."""
        return self.top if self.top.file(ADAPTER) else None

    @cached_property
    def weights(self) -> Place:
        """Place of configuration and weights: for an adapter those of its base.

        Raises:
            InputError: as `configuration`, or if a folder holds no weights.
        """
        check_has_weights(Path(self.configuration.name))
        return self.configuration

    @cached_property
    def configuration(self) -> Place:
        """The same place, whether weights are there or not.

        Raises:
            InputError: if an adapter's base is named nowhere, or does not exist.
        """
        place = self.top if self.adapter is None else self._base(self.adapter)
        if self.adapter is None and self.layout.base is not None:
            raise InputError(f"{self.top} is no adapter: it has no {ADAPTER}; leave base out")
        return place

    def _base(self, adapter: Place) -> Place:
        """Place of the weights that an adapter belongs to."""
        if self.layout.base is None and any(adapter.file(name) for name in WEIGHTS):
            return adapter
        base = self.layout.base or adapter_settings(adapter)["base_model_name_or_path"]
        if not base:
            raise InputError(
                f"{adapter} is an adapter that does not say of which weights: name their folder or "
                "hub name with layout.base"
            )
        try:
            check_there(base)
        except InputError as error:
            raise InputError(
                f"{adapter} is an adapter of {base}, which is not here: name its folder or "
                "hub name with layout.base"
            ) from error
        return Place.of(base)

    @cached_property
    def processor(self) -> Place:
        """Place of tokenizer and image settings."""
        if self.layout.processor is not None:
            check_there(self.layout.processor)
            return Place.of(self.layout.processor)
        if self.adapter is not None and not any(self.adapter.file(name) for name in _PIXELS):
            return self.weights
        return self.top


def adapter_settings(place: Place) -> dict[str, Any]:
    """Settings of ``adapter_config.json``.

    Raises:
        InputError: if they are broken or belong to no LoRA.
    """
    path = place.file(ADAPTER)
    assert path is not None
    settings = parse_json(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise InputError(f"{path}: no LoRA of peft (peft_type); only LoRA is merged")
    base = settings.get("base_model_name_or_path")
    return {**settings, "base_model_name_or_path": base if isinstance(base, str) else ""}
