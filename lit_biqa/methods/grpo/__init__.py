"""Group-relative policy optimisation: the method, its settings, its rollouts and its reference."""

from lit_biqa.methods.grpo.method import GRPO
from lit_biqa.methods.grpo.settings import PolicySettings, RolloutSettings

__all__ = ["GRPO", "PolicySettings", "RolloutSettings"]
