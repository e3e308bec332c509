"""Group-relative policy optimisation: roll out, reward, compare, learn."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import count

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from lit_biqa.backbones.tuning import adapters_off
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.methods.base import Decay
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.objectives.policy import Aggregation, Scale, policy_loss
from lit_biqa.paradigms import Episode, Judgement, Paradigm, Say
from lit_biqa.paradigms.figures import figures, table
from lit_biqa.parallel import everyone, world
from lit_biqa.readouts.base import Readout
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.rollout.log_probs import accumulated_loss, completion_log_probs
from lit_biqa.rollout.tokens import Said, said
from lit_biqa.types import Batch, Chat, Completion, InputError, Sample

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Lesson:
    """A pass that is learned from.

    Attributes:
        number: of the pass, from 1.
        said: R chats with n completions of each.
        advantages: of each token ``[R * n, T]``.
        old: log-probabilities under the policy that spoke ``[R * n, T]``; ``None`` until the first
            update has computed them.
        reference: under the reference model, likewise; ``None`` without one.
    """

    number: int
    said: Said
    advantages: Tensor
    old: Tensor | None = None
    reference: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Rollout:
    """What was said about a batch, what it earned, and what is learned from it."""

    episode: Episode
    judgement: Judgement
    lessons: list[Lesson]


class GRPO(ChatMethod):
    """Group-relative policy optimisation on image quality.

    A step lets the model speak about the images of a batch, several times each, rewards what it
    says, and makes what earned more than the rest of its group more likely. With accelerators that
    share weights or images, and however many processes there are, the loss is the mean over the
    completions of the whole batch, the losses of trained passes added up.

    Args:
        backbone: that speaks, and is trained.
        paradigm: what is asked, handed on and rewarded.
        optimizer: of what is trained.
        readouts: how scores are read in a test; the first also in validation.
        sampling: of what is said while training.
        beta: weight of the divergence from the model as it was before training: a second, frozen
            copy for full tuning, the same model without its updates for LoRA, none for 0.
        clip: ε; the ratio of probabilities is cut off at 1 ± ε.
        aggregation: ``grpo``, ``dr_grpo`` or ``dapo``, see `lit_biqa.objectives.policy`.
        scale: of advantages; ``none`` as in Dr. GRPO.
        iterations: μ, optimizer steps on what was said once; the batch is repeated as often.
        prompts_at_once: chats that are answered together; all if ``None``.
        rows_at_once: completions that are learned from together; bounds memory.
        table_every: optimizer steps between two tables of completions in TensorBoard.
        seed: of what is said, with step, image and place.
        warmup: share of the steps over which the learning rate rises.
        decay: how it falls afterwards.

    Source: DeepSeekMath (Shao et al., 2024), as Q-Insight and *Understanding Pure Textual
    Reasoning* have it in their code.

    Raises:
        InputError: for settings out of range.
    """

    def __init__(
        self,
        backbone: VisionLanguageModel,
        paradigm: Paradigm,
        optimizer: OptimizerCallable,
        readouts: Sequence[Readout] = (),
        sampling: Sampling = Sampling(),
        beta: float = 0.001,
        clip: float = 0.2,
        aggregation: Aggregation = "grpo",
        scale: Scale = "group",
        iterations: int = 1,
        prompts_at_once: int | None = None,
        rows_at_once: int = 8,
        table_every: int = 50,
        seed: int = 0,
        warmup: float = 0.0,
        decay: Decay = "linear",
    ) -> None:
        super().__init__(backbone, optimizer, readouts, warmup, decay)
        if min(iterations, rows_at_once, table_every) < 1 or beta < 0 or not clip > 0:
            raise InputError(
                f"iterations={iterations}, rows_at_once={rows_at_once}, table_every={table_every}, "
                f"beta={beta}, clip={clip}: give at least 1, 1, 1, 0 and more than 0"
            )
        if not sampling.temperature:
            raise InputError("sampling.temperature=0 says the same thing always: give more than 0")
        self.paradigm, self.sampling = paradigm, sampling
        self.beta, self.clip, self.aggregation, self.scale = beta, clip, aggregation, scale
        self.iterations, self.seed, self.table_every = iterations, seed, table_every
        self.prompts_at_once, self.rows_at_once = prompts_at_once, rows_at_once
        self.known: dict[tuple[str, int], Sample] = {}
        self.rollout: Rollout | None = None
        # In lists they are no part of this module: of none of its checkpoints, nor of what trains.
        self._frozen: list[VisionLanguageModel] = []
        self._seconds: dict[str, float] = {}
        self._differ = False

    def setup(self, stage: str) -> None:
        """Choose what is learned from; check the rest before weights are loaded.

        Raises:
            InputError: if no sample suits the paradigm, or a second question does not fit the
                context.
        """
        super().setup(stage)
        if stage != "fit":
            return
        if self.iterations > 1 and self.trainer.accumulate_grad_batches > 1:
            raise InputError("model.iterations and trainer.accumulate_grad_batches: set one to 1")
        self.data.repeats = self.iterations
        if self.paradigm.second:
            asked = len(self.backbone.row(self.paradigm.again("")).ids)
            self.backbone.check_length(asked + self.sampling.budget, self.sampling.budget)
        samples = self.data.samples
        beside = [each for part in ("val", "test") for each in samples.get(part, ())]
        kept = self.paradigm.suited(samples["train"], beside)
        name = type(self.paradigm).__name__
        if not kept:
            raise InputError(f"none of {len(samples['train'])} samples to train on suits {name}")
        if len(kept) < len(samples["train"]):
            log.warning("%d of %d samples suit %s", len(kept), len(samples["train"]), name)
        self.known = {(each.dataset, each.index): each for each in kept}
        # One row for each image; its texts are what rewards compare with.
        bare = [replace(each, texts=(), prompts=(), conclusions=()) for each in kept]
        samples["train"] = bare

    def load(self) -> None:
        """Read the weights, and in a fit keep a copy where one is needed."""
        super().load()
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        if fitting and self.beta and self.backbone.tuning.how == "full":
            self._frozen = [deepcopy(self.backbone).requires_grad_(False)]

    def shard(self) -> None:
        """Shard the backbone, and its copy."""
        super().shard()
        assert self.device_mesh is not None
        for frozen in self._frozen:
            frozen.shard(self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Bring the copy to where the backbone is."""
        super().on_fit_start()
        for frozen in self._frozen:
            frozen.to(self.device)

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The policy loss, on what is said now or was said some steps ago."""
        self._seconds = {}
        if self.global_step % self.iterations == 0 or self.rollout is None:
            self.rollout = self._roll_out(batch)
            self._differ |= any(_teaches(lesson) for lesson in self.rollout.lessons)
        found = figures(self.paradigm, self.rollout.episode, self.rollout.judgement)
        losses = []
        with self._clock("loss"):
            for lesson in self.rollout.lessons:
                loss, stats = self._loss(lesson)
                losses.append(loss)
                found |= {f"pass{lesson.number}/{name}": each for name, each in stats.items()}
        found |= {f"seconds/{name}": each for name, each in self._seconds.items()}
        parts = {name: torch.tensor(each, device=self.device) for name, each in found.items()}
        return torch.stack(losses).sum(), parts

    def _roll_out(self, batch: Batch) -> Rollout:
        keys = zip(batch["dataset"], batch["index"].tolist(), strict=True)
        with self._clock("rollout"):
            episode = self.paradigm.play(batch, self._say(batch), [self.known[key] for key in keys])
        judgement = self.paradigm.judge(episode, self.scale)
        lessons = [
            self._lesson(number, episode, judgement)
            for number in range(len(episode.passes))
            if self.paradigm.updates[number]
        ]
        with self._clock("reference"):
            for lesson in lessons:
                lesson.reference = self._reference(lesson.said)
        return Rollout(episode, judgement, lessons)

    def _say(self, batch: Batch) -> Say:
        """What is said follows from seed, step, pass, image and place, not from the process."""
        numbers = count(1)

        def say(chats: Sequence[Chat | None], n: int) -> list[list[Completion]]:
            each, number = len(chats) // len(batch["index"]), next(numbers)
            asked = [(place, chat) for place, chat in enumerate(chats) if chat is not None]
            names = (
                f"{batch['dataset'][p // each]}/{int(batch['index'][p // each])}/{p % each}"
                for p, _ in asked
            )
            start = f"{self.seed}/{self.global_step}/{number}"
            seeds = [zlib.crc32(f"{start}/{name}".encode()) for name in names]
            answers = generate(
                self.backbone, [c for _, c in asked], n, self.sampling, seeds, self.prompts_at_once
            )
            found: list[list[Completion]] = [[] for _ in chats]
            for (place, _), some in zip(asked, answers, strict=True):
                found[place] = some
            return found

        return say

    def _lesson(self, number: int, episode: Episode, judgement: Judgement) -> Lesson:
        each, earned = episode.passes[number], judgement.advantages[number].to(self.device)
        tokens = said(self.backbone, each.chats, each.completions, earned.shape[1])
        by_token = torch.where(tokens.rating, earned[..., 1, None], earned[..., 0, None])
        return Lesson(number + 1, tokens, by_token.flatten(0, 1))

    def _reference(self, tokens: Said) -> Tensor | None:
        if not self.beta:
            return None
        model = self._frozen[0] if self._frozen else self.backbone
        with torch.no_grad(), adapters_off(model):
            return completion_log_probs(
                model,
                tokens.inputs,
                tokens.ids,
                tokens.mask,
                self.sampling.temperature,
                self.rows_at_once,
            ).flatten(0, 1)

    def _loss(self, lesson: Lesson) -> tuple[Tensor, dict[str, float]]:
        """The policy loss of a pass and its statistics, means over tokens."""
        tokens, mask = lesson.said, lesson.said.mask.flatten(0, 1)
        denominator = self._denominator(mask)
        old, sums, spoken = lesson.old, dict[str, Tensor](), list[Tensor]()

        def loss_of(log_probs: Tensor, rows: slice) -> Tensor:
            spoken.append(log_probs.detach())
            loss, stats = policy_loss(
                log_probs,
                log_probs if old is None else old[rows],
                None if lesson.reference is None else lesson.reference[rows],
                lesson.advantages[rows],
                mask[rows],
                self.clip,
                self.beta,
                self.aggregation,
                denominator,
            )
            for name, mean in stats.items():
                sums[name] = sums.get(name, 0) + mean * mask[rows].sum()
            return loss

        loss = accumulated_loss(
            self.backbone,
            tokens.inputs,
            tokens.ids,
            tokens.mask,
            loss_of,
            self.sampling.temperature,
            self.rows_at_once,
        )
        if old is None:
            lesson.old = torch.cat(spoken)
        return loss, {name: float(each / mask.sum().clamp(min=1)) for name, each in sums.items()}

    def _denominator(self, mask: Tensor) -> float:
        """What the sum over this rank's completions is divided by, to give that of all ranks.

        Ranks' gradients are averaged afterwards, so their number divides it.
        """
        counts = torch.stack([mask.any(1).sum(), mask.sum()])[None]
        completions, tokens = map(int, everyone(counts).sum(0))
        of = {"grpo": completions, "dapo": tokens, "dr_grpo": completions * self.sampling.budget}
        return max(1, of[self.aggregation]) / world()[1]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Refuse a step that would learn nothing though there is something to be learned.

        Raises:
            RuntimeError: if rewards differ within a group and no gradient has come of it.
        """
        differ, self._differ = self._differ, False
        moved = any(_local(p.grad).any() for p in self.parameters() if p.grad is not None)
        flags = everyone(torch.tensor([[differ, moved]], device=self.device).long()).amax(0)
        if flags[0] and not flags[1]:
            raise RuntimeError(
                "rewards differ within groups and yet all gradients are zero: nothing would be "
                "learned. Is any part of the model trained that the passes run through "
                "(tuning.parts), and does the loss reach it?"
            )

    def rollout_rows(self) -> Iterator[dict[str, str]]:
        """What was said in the last step; see `RolloutTable`."""
        if self.rollout is not None:
            yield from table(self.paradigm, self.rollout.episode, self.rollout.judgement)

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = self._now()
        yield
        self._seconds[phase] = self._now() - start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _teaches(lesson: Lesson) -> bool:
    """Whether within some group different completions have earned differently."""
    ids, mask = lesson.said.ids, lesson.said.mask
    different = (ids.masked_fill(~mask, -1) != ids.masked_fill(~mask, -1)[:, :1]).any(2).any(1)
    earned = lesson.advantages.view(ids.shape).masked_fill(~mask, 0).ne(0).flatten(1).any(1)
    return bool((different & earned).any())


def _local(gradient: Tensor) -> Tensor:
    """This rank's shard."""
    local: Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return local
