"""Paradigms: prompts about an image, in one or two passes, and rewards of the answers."""

from lit_biqa.paradigms.base import GroupRewards, Paradigm, Pass, Rollout, Sampler
from lit_biqa.paradigms.one_pass import MultiTask, Score, VisualQuality, WithoutReasoning
from lit_biqa.paradigms.two_passes import (
    Autoencoder,
    ChainOfThought,
    HumanAligned,
    SelfConsistency,
)

__all__ = [
    "Autoencoder",
    "ChainOfThought",
    "GroupRewards",
    "HumanAligned",
    "MultiTask",
    "Paradigm",
    "Pass",
    "Rollout",
    "Sampler",
    "Score",
    "SelfConsistency",
    "VisualQuality",
    "WithoutReasoning",
]
