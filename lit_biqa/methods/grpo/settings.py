"""Settings of GRPO's rollouts and of its policy loss."""

from __future__ import annotations

from dataclasses import dataclass

from lit_biqa.objectives.policy import Aggregation, Scale
from lit_biqa.types import InputError, check_range


@dataclass(frozen=True)
class RolloutSettings:
    """How completions are sampled while training, beside `Sampling`.

    Attributes:
        prompts_at_once: chats that are answered together, which bounds memory; all if ``None``.
        table_every: optimizer steps between two tables of completions in TensorBoard.
        seed: of the completions, with step, image and place.

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
    """The policy loss, see `lit_biqa.objectives.policy`, and how often completions are used.

    Attributes:
        beta: weight of the divergence from the model as it was before training: a second, frozen
            copy for full tuning, the same model without its updates for LoRA, none for 0.
        clip: ε; the ratio of probabilities is cut off at 1 ± ε.
        aggregation: ``grpo``, ``dr_grpo`` or ``dapo``.
        scale: of advantages; ``none`` as in Dr. GRPO.
        iterations: μ, optimizer steps on the same completions; the batch is repeated as often.
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
