"""Learning signal of reinforcement: a group with equal rewards has none."""

from __future__ import annotations

A_WHILE = 20
"""Number of consecutive steps without a learning signal after which a run warns."""

_REMEDY = (
    "Look at the table of rollouts in TensorBoard, then warm the model up by SFT on answers of "
    "this form, or use another format or another reward"
)


class Taught:
    """Counts the steps in which some group, on any rank, has different rewards.

    Attributes:
        steps: steps with a rollout.
        taught: those of them with a learning signal.
        idle: consecutive steps without one, up to the last step.
        answers: completions that should hold a rating.
        unread: those of them without one.
    """

    def __init__(self) -> None:
        self.steps = self.taught = self.idle = self.answers = self.unread = 0

    def note(self, differ: bool, reward: float, unread: int = 0, answers: int = 0) -> str:
        """Count a step.

        Args:
            differ: true if some group has different rewards.
            reward: mean reward of the step.
            unread: answers of the step without a rating.
            answers: answers of the step that should hold a rating.

        Returns:
            A warning if there was no learning signal for a while, or if no answer of the first step
            could be parsed; else an empty string.
        """
        self.steps += 1
        self.taught += differ
        self.idle = 0 if differ else self.idle + 1
        self.unread, self.answers = self.unread + unread, self.answers + answers
        if self.steps == 1 and answers and unread == answers and not differ:
            return (
                f"none of the {answers} answers of the first step holds a rating in the requested "
                f"form: nothing is learned as long as this is so. {_REMEDY}"
            )
        if self.idle != A_WHILE:
            return ""
        return (
            f"for {A_WHILE} steps all completions of each group have had the same reward "
            f"(in the last {reward:.3g} on average{self._counted()}): nothing is learned from "
            f"them. {_REMEDY}"
        )

    def verdict(self) -> str:
        """Message at the end of a fit that has learned nothing; else an empty string."""
        if not self.steps or self.taught:
            return ""
        return (
            f"Nothing was learned: in none of {self.steps} steps did the completions of a group "
            f"have different rewards{self._counted()}; this is why the loss is 0. {_REMEDY}."
        )

    def _counted(self) -> str:
        if not self.unread:
            return ""
        return f", and {self.unread:,} of {self.answers:,} answers held no rating"

    def state(self) -> dict[str, int]:
        """State for a checkpoint."""
        return dict(vars(self))

    def restore(self, state: dict[str, int]) -> None:
        """Restore the counts."""
        vars(self).update(state)
