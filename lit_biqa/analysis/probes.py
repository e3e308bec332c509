"""Numbers and maps of a feature space: cross-validated linear probes, and t-SNE.

A t-SNE picture says nothing by itself about how far groups are apart; the probes do: how well a
linear model tells data sets apart, and how well it ranks MOS, on images that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lit_biqa.analysis.csv_rows import COLUMNS
from lit_biqa.analysis.spaces import Reasoned
from lit_biqa.evaluation.bootstrap import Array
from lit_biqa.evaluation.metrics import srcc
from lit_biqa.evaluation.report import write_csv
from lit_biqa.types import InputError

Names: TypeAlias = NDArray[np.str_]

FOLDS = 5
_ALPHAS = np.logspace(-1, 5, 13)
_FEWEST = 10  # images of a data set


@dataclass(frozen=True)
class Ranking:
    """How well a linear probe ranks the MOS of one data set.

    Attributes:
        dataset: catalogue name.
        n: images with a known MOS.
        within: SRCC of a probe fitted to other images of the set.
        across: SRCC of a probe fitted to all other sets; ``nan`` without any.
    """

    dataset: str
    n: int
    within: float
    across: float


@dataclass(frozen=True)
class Probed:
    """A feature space with its map and its probes.

    Attributes:
        name: name of the space.
        dimensions: number of features.
        map: places of the images in the t-SNE map ``[N, 2]``.
        told_apart: balanced accuracy of the probe that names the data set; ``nan`` for one set.
        chance: balanced accuracy of guessing.
        rankings: of each data set.
    """

    name: str
    dimensions: int
    map: Array
    told_apart: float
    chance: float
    rankings: list[Ranking]

    @property
    def within(self) -> float:
        """Mean SRCC over data sets, of probes within a set."""
        return float(np.mean([r.within for r in self.rankings]))

    @property
    def across(self) -> float:
        """Mean SRCC over data sets, of probes fitted to the other sets."""
        return float(np.mean([r.across for r in self.rankings]))


def probed(name: str, features: Array, results: Sequence[Reasoned], seed: int = 0) -> Probed:
    """Map and probes of a space.

    Images of one content (a reference, a prompt) never lie in two folds.

    Args:
        name: name of the space.
        features: ``[N, D]``.
        results: the N images.
        seed: seed of folds and map.

    Raises:
        InputError: if a data set has fewer than ten images with a MOS.
    """
    sets = np.array([item.who.dataset for item in results])
    mos = np.array([item.mos for item in results])
    content = np.array([item.content for item in results])
    names = sorted(set(sets.tolist()))
    for one in names:
        if (count := int(np.isfinite(mos[sets == one]).sum())) < _FEWEST:
            raise InputError(
                f"{one}: {count} images have a reasoning and a MOS, and a probe needs {_FEWEST}: "
                "take more samples with --samples, or fewer sets with --data.test"
            )
    apart = _told_apart(features, sets, content, seed) if len(names) > 1 else float("nan")
    rankings = []
    for one in names:
        rows = (sets == one) & np.isfinite(mos)
        others = (sets != one) & np.isfinite(mos)
        within = srcc(_held_out(features[rows], mos[rows], content[rows], seed), mos[rows])
        across = float("nan")
        if others.any():
            probe = _ridge().fit(features[others], mos[others])
            across = srcc(probe.predict(features[rows]), mos[rows])
        rankings.append(Ranking(one, int(rows.sum()), within, across))
    places = _map(features, seed)
    return Probed(name, features.shape[1], places, apart, 1 / len(names), rankings)


def _told_apart(features: Array, sets: Names, content: Names, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    whole = make_pipeline(StandardScaler(), model)
    named = cross_val_predict(whole, features, sets, groups=content, cv=folds)
    return float(balanced_accuracy_score(sets, named))


def _held_out(features: Array, mos: Array, content: Names, seed: int) -> Array:
    """Predictions for each image by a probe that was fitted without its content."""
    from sklearn.model_selection import GroupKFold, cross_val_predict

    contents, place = np.unique(content, return_inverse=True)
    # scikit-learn 1.5 shuffles no groups: contents of one size enter folds in this order.
    order = np.random.default_rng(seed).permutation(len(contents))
    folds = GroupKFold(min(FOLDS, len(contents)))
    predicted: Array = cross_val_predict(_ridge(), features, mos, groups=order[place], cv=folds)
    return predicted


def _ridge() -> Any:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(_ALPHAS))


def _map(features: Array, seed: int) -> Array:
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    perplexity = min(30.0, (len(features) - 1) / 3)
    scaled = StandardScaler().fit_transform(features)
    places: Array = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(scaled)
    return places


def write_probes(folder: Path, results: Sequence[Reasoned], measured: Sequence[Probed]) -> None:
    """Write ``tsne.csv`` (places), ``tsne_probes.csv`` and ``tsne_texts.csv`` (reasonings)."""
    lines: list[Sequence[object]] = [
        (space.name, *item.who, item.mos, *place)
        for space in measured
        for item, place in zip(results, space.map.tolist(), strict=True)
    ]
    write_csv(folder / "tsne.csv", ("space", *COLUMNS, "mos", "x", "y"), lines)
    lines = []
    for space in measured:
        first = space.name, space.dimensions
        lines += [(*first, r.dataset, r.n, "", "", r.within, r.across) for r in space.rankings]
        whole = space.told_apart, space.chance, space.within, space.across
        lines.append((*first, "all", len(results), *whole))
    columns = ("images", "told_apart", "chance", "srcc", "srcc_across")
    write_csv(folder / "tsne_probes.csv", ("space", "dimensions", "dataset", *columns), lines)
    lines = [(*item.who, item.mos, item.leaks, item.text) for item in results]
    write_csv(folder / "tsne_texts.csv", (*COLUMNS, "mos", "leaks", "text"), lines)
