"""The policy update from one pass of a rollout: tokens, advantages, loss."""

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
    """The settings of `lit_biqa.objectives.policy.policy_loss`.

    Attributes:
        beta: weight of the penalty.
        clip: ε.
        aggregation: over tokens and completions.
        temperature: by which logits are divided, that of the sampling.
        budget: tokens that a completion may have.
        rows_at_once: completions that are computed together.
    """

    beta: float
    clip: float
    aggregation: Aggregation
    temperature: float
    budget: int
    rows_at_once: int

    def denominator(self, mask: Tensor) -> float:
        """What the sum over this rank's completions is divided by, to give the mean of all ranks'.

        Ranks' gradients are averaged afterwards, so their number divides it.

        Args:
            mask: of this rank's tokens ``[N, T]``; completions without any do not count.
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
        said: R prompts with n completions each.
        advantages: of each token ``[R * n, T]``.
        old: log-probabilities under the policy that sampled, ``[R * n, T]``; ``None`` until the
            first update has computed them.
        reference: under the reference model, likewise; ``None`` without one.
    """

    number: int
    said: CompletionTokens
    advantages: Tensor
    old: Tensor | None = None
    reference: Tensor | None = None

    @classmethod
    def of(cls, number: int, said: CompletionTokens, earned: Tensor) -> PolicyUpdate:
        """From advantages ``[R, n, 2]`` of each completion's reasoning and rating."""
        earned = earned.to(said.ids.device)
        by_token = torch.where(said.rating, earned[..., 1, None], earned[..., 0, None])
        return cls(number, said, by_token.flatten(0, 1))

    @property
    def teaches(self) -> bool:
        """Whether within some group different completions have earned differently."""
        ids = self.said.ids.masked_fill(~self.said.mask, -1)
        earned = self.advantages.view(ids.shape).masked_fill(~self.said.mask, 0)
        different = (ids != ids[:, :1]).flatten(1).any(1)
        return bool((different & earned.ne(0).flatten(1).any(1)).any())

    def refer(self, model: VisionLanguageModel, objective: Objective) -> None:
        """Compute what the reference model says of the tokens.

        Args:
            model: the reference; LoRA's updates are left out.
            objective: with a penalty.
        """
        said = self.said
        as_it_was: AbstractContextManager[None] = nullcontext()
        # A whole model needs no adapters, nor the import of what finds them.
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
        """The policy loss and its statistics, means over tokens."""
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
        return loss, {name: float(each / mask.sum().clamp(min=1)) for name, each in sums.items()}
