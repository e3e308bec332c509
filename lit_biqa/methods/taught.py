"""Whether reinforcement learns at all: a group whose completions earn the same teaches nothing."""

from __future__ import annotations

A_WHILE = 20
"""Steps in a row without anything to learn from, after which a run says so."""


class Taught:
    """Counts the steps in which completions of some group earned differently, on any rank.

    Attributes:
        steps: in which something was said.
        taught: those of them from which something was learned.
        idle: steps in a row, up to the last, from which nothing was.
    """

    def __init__(self) -> None:
        self.steps = self.taught = self.idle = 0

    def note(self, differ: bool, reward: float) -> str:
        """Count a step.

        Args:
            differ: whether completions of some group earned differently.
            reward: mean of the step.

        Returns:
            A warning, where nothing was learned for a while; else nothing.
        """
        self.steps += 1
        self.taught += differ
        self.idle = 0 if differ else self.idle + 1
        if self.idle != A_WHILE:
            return ""
        return (
            f"in {A_WHILE} steps in a row all completions of each group have earned the same "
            f"(in the last {reward:.3g} on average): nothing is learned from them. Look at the "
            "table of rollouts in TensorBoard, at train/pass1/unparsed and at the rewards"
        )

    def verdict(self) -> str:
        """What to say at the end of a fit that has learned nothing; else nothing."""
        if not self.steps or self.taught:
            return ""
        return (
            f"Nothing was learned: in none of {self.steps} steps did completions of a group earn "
            "differently. What earns nothing in any of its forms needs another start (a warm-up by "
            "SFT), another format or another reward"
        )

    def state(self) -> dict[str, int]:
        """For a checkpoint."""
        return dict(vars(self))

    def restore(self, state: dict[str, int]) -> None:
        """Go on counting."""
        vars(self).update(state)
