"""Settings of GRPO's rollouts and of its policy loss."""

from __future__ import annotations

from dataclasses import dataclass

from lit_biqa.objectives.policy import Aggregation, Scale
from lit_biqa.types import InputError, check_range


@dataclass(frozen=True)
class RolloutSettings:
    """Settings of the sampling of completions in training, beside `Sampling`.

    Attributes:
        prompts_at_once: chats run together, which bounds memory; ``None`` for all.
        table_every: optimizer steps between two tables of completions in TensorBoard.
        seed: seed of the completions, with step, image and number of the chat.

    Raises:
        InputError: for numbers below 1, or a seed below 0.
    """

    prompts_at_once: int | None = None
    table_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("model.rollouts.prompts_at_once", self.prompts_at_once, 1)
        check_range("model.rollouts.table_every", self.table_every, 1)


@dataclass(frozen=True)
class PolicySettings:
    """Settings of the policy loss, see `lit_biqa.objectives.policy`, and of the use of completions.

    Attributes:
        beta: weight of the KL penalty against the model before training: a second, frozen copy for
            full tuning, the same model without its updates for LoRA; 0 for no penalty.
        clip: ε; the ratio is clipped to 1 ± ε.
        aggregation: ``grpo``, ``dr_grpo`` or ``dapo``.
        scale: scale of advantages; ``none`` as in Dr. GRPO.
        iterations: μ, optimizer steps on the same completions; the batch repeats as often.
        rows_at_once: completions in one forward and backward pass, which bounds memory.

    Raises:
        InputError: for numbers out of range.
    """

    beta: float = 0.001
    clip: float = 0.2
    aggregation: Aggregation = "grpo"
    scale: Scale = "group"
    iterations: int = 1
    rows_at_once: int = 8

    def __post_init__(self) -> None:
        check_range("model.policy.beta", self.beta, 0)
        check_range("model.policy.iterations", self.iterations, 1)
        check_range("model.policy.rows_at_once", self.rows_at_once, 1)
        if not self.clip > 0:
            raise InputError(f"model.policy.clip is {self.clip}: give more than 0")
