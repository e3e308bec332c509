"""Whether reinforcement learns at all: a group whose completions earn the same teaches nothing."""

from __future__ import annotations

A_WHILE = 20
"""Steps in a row without anything to learn from, after which a run says so."""

_REMEDY = (
    "Look at the table of rollouts in TensorBoard, then warm the model up by SFT on answers of "
    "this form, or take another format or another reward"
)


class Taught:
    """Counts the steps in which completions of some group earned differently, on any rank.

    Attributes:
        steps: in which something was said.
        taught: those of them from which something was learned.
        idle: steps in a row, up to the last, from which nothing was.
        answers: completions in which a rating was looked for.
        unread: those of them in which there was none.
    """

    def __init__(self) -> None:
        self.steps = self.taught = self.idle = self.answers = self.unread = 0

    def note(self, differ: bool, reward: float, unread: int = 0, answers: int = 0) -> str:
        """Count a step.

        Args:
            differ: whether completions of some group earned differently.
            reward: mean of the step.
            unread: answers of the step without a rating.
            answers: all answers of the step in which a rating was looked for.

        Returns:
            A warning, where nothing was learned for a while, or no answer of the first step could
            be read; else nothing.
        """
        self.steps += 1
        self.taught += differ
        self.idle = 0 if differ else self.idle + 1
        self.unread, self.answers = self.unread + unread, self.answers + answers
        if self.steps == 1 and answers and unread == answers and not differ:
            return (
                f"none of the {answers} answers of the first step holds a rating in the form that "
                f"is asked for: nothing is learned while this stays so. {_REMEDY}"
            )
        if self.idle != A_WHILE:
            return ""
        return (
            f"in {A_WHILE} steps in a row all completions of each group have earned the same "
            f"(in the last {reward:.3g} on average{self._counted()}): nothing is learned from "
            f"them. {_REMEDY}"
        )

    def verdict(self) -> str:
        """What to say at the end of a fit that has learned nothing; else nothing."""
        if not self.steps or self.taught:
            return ""
        return (
            f"Nothing was learned: in none of {self.steps} steps did completions of a group earn "
            f"differently{self._counted()}; a loss of 0 means just that. {_REMEDY}."
        )

    def _counted(self) -> str:
        if not self.unread:
            return ""
        return f", and {self.unread:,} of {self.answers:,} answers held no rating"

    def state(self) -> dict[str, int]:
        """For a checkpoint."""
        return dict(vars(self))

    def restore(self, state: dict[str, int]) -> None:
        """Go on counting."""
        vars(self).update(state)
