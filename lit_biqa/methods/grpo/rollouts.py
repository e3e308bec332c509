"""The rollout of a step: completions, their rewards, and the policy updates that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.distributed import gather_rows, world
from lit_biqa.objectives.policy import Scale
from lit_biqa.paradigms import GroupRewards, Paradigm, Rollout
from lit_biqa.rollout.engine import Sampling
from lit_biqa.rollout.policy_update import PolicyUpdate
from lit_biqa.rollout.prompts import PromptEncoder
from lit_biqa.rollout.replay import Key, Record, ReplayedCompletions, records
from lit_biqa.rollout.sampler import CompletionSampler
from lit_biqa.rollout.tokens import completion_tokens
from lit_biqa.types import Batch, Group


@dataclass(frozen=True, eq=False)
class ScoredRollout:
    """A rollout with its rewards and the policy updates that follow from them.

    Attributes:
        keys: data set and row of each image.
        rollout: completions of all passes.
        rewards: rewards and advantages of its groups.
        updates: one for each trained pass.
    """

    keys: list[Key]
    rollout: Rollout
    rewards: GroupRewards
    updates: list[PolicyUpdate]

    def records(self) -> list[Record]:
        """Records of all ranks for a checkpoint; see `ReplayedCompletions`."""
        completions = [one_pass.completions for one_pass in self.rollout.passes]
        mine = records(self.keys, completions, [update.old for update in self.updates])
        return gather_rows(mine, lambda record: record["key"])


@dataclass(frozen=True, eq=False)
class RolloutRunner:
    """Runs a paradigm over batches and rewards the completions.

    Attributes:
        backbone: model that completes the prompts.
        paradigm: prompts, captions and rewards.
        sampling: sampling of tokens.
        prompts_at_once: chats run together; ``None`` for all.
        scale: scale of advantages.
    """

    backbone: VisionLanguageModel
    paradigm: Paradigm
    sampling: Sampling
    prompts_at_once: int | None
    scale: Scale

    def run(self, batch: Batch, step: str, saved: Mapping[Key, Record]) -> ScoredRollout:
        """Sample and reward completions of a batch, or replay those of a checkpoint.

        Args:
            batch: P images.
            step: name of the step, including the seed of the run.
            saved: records of a checkpoint; used if they hold all images of the batch.
        """
        keys = list(zip(batch["dataset"], batch["index"].tolist(), strict=True))
        encode = PromptEncoder(self.backbone)
        replayed: ReplayedCompletions | None = None
        if saved.keys() >= set(keys):
            replayed = ReplayedCompletions(self.backbone, saved, keys)
        sampler = replayed or CompletionSampler(
            self.backbone, keys, step, self.sampling, self.prompts_at_once, encode
        )
        with self.backbone.unsharded():  # one gather for all passes, freed before the loss
            rollout = self.paradigm.run(batch, sampler.sample)
        rewards = self._reward(rollout.groups)
        updates = self._updates(rollout, rewards, encode)
        if replayed:
            for place, update in enumerate(updates):
                old = replayed.old(place, update.said.ids.shape[2])
                update.old = old.to(self.backbone.device)
        return ScoredRollout(keys, rollout, rewards, updates)

    def _reward(self, groups: Sequence[Group]) -> GroupRewards:
        """Reward the groups of all ranks, because images are ranked against each other."""
        rank = world()[0]
        step = gather_rows([replace(group, process=rank) for group in groups], _key)
        keys = [_key(group) for group in step]
        return self.paradigm.reward(step, self.scale).of([keys.index(_key(g)) for g in groups])

    def _updates(
        self, rollout: Rollout, rewards: GroupRewards, encode: PromptEncoder
    ) -> list[PolicyUpdate]:
        passes = enumerate(zip(rollout.passes, rewards.advantages, strict=True))
        return [
            PolicyUpdate.of(
                number + 1,
                completion_tokens(
                    self.backbone, one_pass.chats, one_pass.completions, earned.shape[1], encode
                ),
                earned,
            )
            for number, (one_pass, earned) in passes
            if self.paradigm.updates[number]
        ]


def _key(group: Group) -> Key:
    return group.dataset, group.index
