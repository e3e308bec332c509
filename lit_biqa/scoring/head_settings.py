"""Settings of RALI's head, with their ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lit_biqa import limits
from lit_biqa.types import InputError

_RULES = {
    "pca": "give a number of dimensions, or 0 for none",
    "prototypes": f"give 1 to {limits.PROTOTYPES:,}",
    "buckets": f"give 1 to {limits.PROTOTYPES:,}",
    "steps": "give a number of steps, or 0 for none",
    "holdout": "give a share between 0 and 1",
}


@dataclass(frozen=True)
class HeadSettings:
    """Settings of the map from embeddings to scores; the defaults are the paper's.

    Attributes:
        pca: dimensions M kept by PCA; 0 keeps the embedding unchanged (table 4, "no PCA").
        prototypes: number of prototypes K.
        buckets: number N of equal score buckets on [1, 5]; 1 is plain k-means (table 4).
        standardize: divide each dimension by its standard deviation before PCA.
        temperature: temperature of the softmax over cosines. At 1, equation 3 as printed, the
            largest ratio of two weights is e² and scores collapse to the mean.
        finetune: fit prototypes and their scores to the training MOS (table 4, "scoring fit").
        lr: learning rate of that fit.
        steps: most full-batch steps of that fit.
        patience: steps without a lower held-out error after which it stops.
        holdout: share of the training samples held out to stop it.
        seed: seed of k-means and of the hold-out.
    """

    pca: int = 512
    prototypes: int = 250
    buckets: int = 240
    standardize: bool = True
    temperature: float = 0.07
    finetune: bool = True
    lr: float = 3e-2
    steps: int = 500
    patience: int = 50
    holdout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            InputError: names the setting.
        """
        rules = {
            "pca": self.pca >= 0,
            "prototypes": 1 <= self.prototypes <= limits.PROTOTYPES,
            "buckets": 1 <= self.buckets <= limits.PROTOTYPES,
            "temperature": 0 < self.temperature < math.inf,
            "lr": 0 < self.lr < math.inf,
            "steps": self.steps >= 0,
            "patience": self.patience >= 1,
            "holdout": 0 < self.holdout < 1,
        }
        for name, holds in rules.items():
            if not holds:
                raise InputError(
                    f"head.{name} is {getattr(self, name)}: "
                    f"{_RULES.get(name, 'give a positive number')}."
                )

    def check(self, samples: int, dim: int) -> None:
        """Refuse settings that do not suit ``samples`` embeddings of ``dim`` dimensions.

        Raises:
            InputError: if there are fewer samples than prototypes or PCA dimensions, or more
                PCA dimensions than the embedding has.
        """
        if samples < self.prototypes:
            raise InputError(
                f"{samples} training images are fewer than the {self.prototypes} prototypes "
                f"asked for: lower head.prototypes or train on more images."
            )
        if self.pca > min(samples, dim):
            raise InputError(
                f"PCA cannot keep {self.pca} dimensions of {samples} embeddings with {dim} "
                f"dimensions each: set head.pca to at most {min(samples, dim)}, or 0 for none."
            )
