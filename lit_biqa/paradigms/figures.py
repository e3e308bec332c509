"""Logged metrics of a rollout, and a table of its completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lit_biqa.paradigms.base import GroupRewards, Paradigm, Rollout
from lit_biqa.text.leakage import leaks
from lit_biqa.text.parsing import read
from lit_biqa.types import Completion


def figures(paradigm: Paradigm, rollout: Rollout, rewards: GroupRewards) -> dict[str, float]:
    """Means over a rollout, for logging.

    Returns:
        ``reward`` and ``reward/SLOT``, without weights (that of a format is the format rate);
        ``zero_variance``, the share of groups with equal rewards; for each pass ``passN/length`` in
        tokens, ``passN/truncated``, the share cut off by the budget, and, for passes with ratings,
        ``passN/unparsed``, the share without one; ``nothing_handed``, the share of completions
        without a caption, and ``leaks``, the share of captions that name a rating.
    """
    metrics = {"reward": _mean(rewards.total)}
    metrics |= {f"reward/{name}": _mean(part) for name, part in rewards.parts.items()}
    same = (rewards.total == rewards.total[:, :1]).all(1)
    metrics["zero_variance"] = _mean(same)
    for number, (one_pass, form) in enumerate(zip(rollout.passes, paradigm.forms, strict=True), 1):
        completions = [one for answers in one_pass.completions for one in answers]
        rated = _rated(rollout, number)
        values: dict[str, list[int]] = {
            "length": [len(one.ids) for one in completions],
            "truncated": [not one.finished for one in completions],
        }
        if form is not None:
            values["unparsed"] = [read(one.text, form).status != "ok" for one in rated]
        metrics |= {f"pass{number}/{name}": _mean(value) for name, value in values.items()}
    if rollout.handed:
        texts = [text for text in rollout.handed if text is not None]
        metrics["nothing_handed"] = 1 - len(texts) / len(rollout.handed)
        metrics["leaks"] = _mean([leaks(text) for text in texts])
    return metrics


def unread(paradigm: Paradigm, rollout: Rollout) -> tuple[int, int]:
    """Number of answers without a rating among those that should have one, and of the latter.

    Example: eight answers to one image, two of them without a rating, give ``(2, 8)``.
    """
    answers = [
        read(one.text, form).status != "ok"
        for number, form in enumerate(paradigm.forms, 1)
        if form is not None
        for one in _rated(rollout, number)
    ]
    return sum(answers), len(answers)


def _rated(rollout: Rollout, number: int) -> list[Completion]:
    """Completions of a pass about images whose task is a rating, not a degradation."""
    groups = [group for group in rollout.groups if group.degradation is None]
    if number == 1:
        return [one for group in groups for one in group.completions]
    return [one for group in groups for answers in group.second for one in answers]


def _mean(values: Tensor | Sequence[int]) -> float:
    numbers = torch.as_tensor(values, dtype=torch.float32)
    return float(numbers.mean()) if numbers.numel() else 0.0


def table(paradigm: Paradigm, rollout: Rollout, rewards: GroupRewards) -> Iterator[dict[str, str]]:
    """One row for each completion of the first pass: image, MOS, rewards and texts.

    Args:
        paradigm: the paradigm.
        rollout: its completions.
        rewards: their rewards.
    """
    for place, group in enumerate(rollout.groups):
        for number, completion in enumerate(group.completions):
            row = {"image": f"{group.dataset} {group.index}", "MOS": f"{group.mos:.2f}"}
            row["reward"] = f"{float(rewards.total[place, number]):.2f}"
            for name, part in rewards.parts.items():
                row[name] = f"{float(part[place, number]):.2f}"
            row["said"] = _shown(completion)
            if paradigm.second:
                row["second pass"] = " / ".join(map(_shown, group.second[number])) or "(not asked)"
            yield row


def _shown(completion: Completion) -> str:
    return completion.text + ("" if completion.finished else " [cut off]")
