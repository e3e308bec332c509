"""Rewards: callables that give every completion of a group a number.

A reward is a frozen object ``(groups) -> [P, G]``: P images with G completions each. It sees all
groups of a step, so that it can rank images against each other. A completion that cannot be parsed
earns 0.
"""

from lit_biqa.rewards.base import Reward, Slot, total
from lit_biqa.rewards.degradation import Degradation
from lit_biqa.rewards.format import Format
from lit_biqa.rewards.ranking import PairwiseRanking
from lit_biqa.rewards.score import CosineScore, StepScore
from lit_biqa.rewards.second_pass import SecondPass
from lit_biqa.rewards.text import Rouge1

__all__ = [
    "CosineScore",
    "Degradation",
    "Format",
    "PairwiseRanking",
    "Reward",
    "Rouge1",
    "SecondPass",
    "Slot",
    "StepScore",
    "total",
]
