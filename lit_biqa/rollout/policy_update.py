"""Policy update from one pass of a rollout: tokens, advantages and loss."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.distributed import all_gather, world
from lit_biqa.objectives.policy import Aggregation, policy_loss
from lit_biqa.rollout.log_probs import accumulated_loss, completion_log_probs
from lit_biqa.rollout.tokens import CompletionTokens


@dataclass(frozen=True)
class Objective:
    """Settings of `lit_biqa.objectives.policy.policy_loss`.

    Attributes:
        beta: weight of the KL penalty.
        clip: ε, the clipping range of the ratio.
        aggregation: mean over tokens and completions, see `policy_loss`.
        temperature: divisor of the logits, that of sampling.
        budget: most tokens per completion.
        rows_at_once: completions computed together.
    """

    beta: float
    clip: float
    aggregation: Aggregation
    temperature: float
    budget: int
    rows_at_once: int

    def denominator(self, mask: Tensor) -> float:
        """Divisor of the sum over this rank's completions that gives the mean over all ranks.

        Gradients are averaged over ranks afterwards, so the divisor includes the number of ranks.

        Args:
            mask: of this rank's tokens ``[N, T]``; completions without tokens do not count.
        """
        counts = torch.stack([mask.any(1).sum(), mask.sum()])[None]
        completions, tokens = map(int, all_gather(counts).sum(0))
        of = {"grpo": completions, "dapo": tokens, "dr_grpo": completions * self.budget}
        return max(1, of[self.aggregation]) / world()[1]


@dataclass(eq=False)
class PolicyUpdate:
    """Tokens and advantages of a pass that contributes to the loss.

    Attributes:
        number: number of the pass, from 1.
        said: tokens of R prompts with n completions each.
        advantages: of each token ``[R * n, T]``.
        old: log-probabilities under the policy that sampled, ``[R * n, T]``; ``None`` until the
            first update has computed them.
        reference: log-probabilities under the reference model ``[R * n, T]``; ``None`` without one.
    """

    number: int
    said: CompletionTokens
    advantages: Tensor
    old: Tensor | None = None
    reference: Tensor | None = None

    @classmethod
    def of(cls, number: int, said: CompletionTokens, earned: Tensor) -> PolicyUpdate:
        """Update from advantages ``[R, n, 2]`` of each completion's reasoning and rating."""
        earned = earned.to(said.ids.device)
        by_token = torch.where(said.rating, earned[..., 1, None], earned[..., 0, None])
        return cls(number, said, by_token.flatten(0, 1))

    @property
    def teaches(self) -> bool:
        """True if different completions of some group have different advantages."""
        ids = self.said.ids.masked_fill(~self.said.mask, -1)
        earned = self.advantages.view(ids.shape).masked_fill(~self.said.mask, 0)
        different = (ids != ids[:, :1]).flatten(1).any(1)
        return bool((different & earned.ne(0).flatten(1).any(1)).any())

    def refer(self, model: VisionLanguageModel, objective: Objective) -> None:
        """Compute the log-probabilities under the reference model.

        Args:
            model: the reference; LoRA's updates are switched off.
            objective: settings, with a penalty above 0.
        """
        said = self.said
        as_it_was: AbstractContextManager[None] = nullcontext()
        # A fully tuned model has no adapters, and needs no import of peft.
        if model.tuning.how != "full":
            from lit_biqa.compat.peft import adapters_off

            as_it_was = adapters_off(model)
        with torch.no_grad(), as_it_was:
            self.reference = completion_log_probs(
                model,
                said.inputs,
                said.ids,
                said.mask,
                objective.temperature,
                objective.rows_at_once,
            ).flatten(0, 1)

    def loss(
        self, model: VisionLanguageModel, objective: Objective
    ) -> tuple[Tensor, dict[str, float]]:
        """Policy loss and its statistics, means over tokens."""
        said, mask = self.said, self.said.mask.flatten(0, 1)
        denominator = objective.denominator(mask)
        spoken: list[Tensor] = []
        sums: dict[str, Tensor] = {}

        def loss_of(log_probs: Tensor, rows: slice) -> Tensor:
            spoken.append(log_probs.detach())
            loss, stats = policy_loss(
                log_probs,
                log_probs if self.old is None else self.old[rows],
                None if self.reference is None else self.reference[rows],
                self.advantages[rows],
                mask[rows],
                objective.clip,
                objective.beta,
                objective.aggregation,
                denominator,
            )
            for name, mean in stats.items():
                sums[name] = sums.get(name, 0) + mean * mask[rows].sum()
            return loss

        loss = accumulated_loss(
            model,
            said.inputs,
            said.ids,
            said.mask,
            loss_of,
            objective.temperature,
            objective.rows_at_once,
        )
        if self.old is None:
            self.old = torch.cat(spoken)
        return loss, {name: float(value / mask.sum().clamp(min=1)) for name, value in sums.items()}
