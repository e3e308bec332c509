"""A pickled object that tells if it was unpickled: nothing from outside may be."""

from __future__ import annotations

from typing import Any


class Trap:
    """Springs when unpickled."""

    sprung = False

    def __reduce__(self) -> Any:
        return Trap._spring, ()

    @staticmethod
    def _spring() -> None:
        Trap.sprung = True
