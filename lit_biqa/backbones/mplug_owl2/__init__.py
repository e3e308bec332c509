"""mPLUG-Owl2 (Ye et al., arXiv 2311.04257) on current transformers, official weights included."""

from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from lit_biqa.backbones.mplug_owl2.configuration import (
    IGNORE_INDEX,
    IMAGE_TOKEN_INDEX,
    MplugOwl2Config,
)
from lit_biqa.backbones.mplug_owl2.generation import MplugOwl2ForConditionalGeneration
from lit_biqa.backbones.mplug_owl2.language import LORA_TARGETS
from lit_biqa.backbones.mplug_owl2.model import MplugOwl2Model
from lit_biqa.backbones.mplug_owl2.processing import MplugOwl2Processor
from lit_biqa.backbones.mplug_owl2.splicing import Rows, expand_placeholders
from lit_biqa.backbones.mplug_owl2.tiny import tiny_mplug_owl2

__all__ = [
    "IGNORE_INDEX",
    "IMAGE_TOKEN_INDEX",
    "LORA_TARGETS",
    "MplugOwl2Config",
    "MplugOwl2ForConditionalGeneration",
    "MplugOwl2Model",
    "MplugOwl2Processor",
    "Rows",
    "expand_placeholders",
    "tiny_mplug_owl2",
]

AutoConfig.register(MplugOwl2Config.model_type, MplugOwl2Config)
AutoModelForImageTextToText.register(MplugOwl2Config, MplugOwl2ForConditionalGeneration)
AutoModelForCausalLM.register(MplugOwl2Config, MplugOwl2ForConditionalGeneration)
AutoProcessor.register(MplugOwl2Config, MplugOwl2Processor)
