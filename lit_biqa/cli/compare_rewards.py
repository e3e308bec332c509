"""Compare the score reward before and after reinforcement learning, and draw its curve.

    lit_biqa compare-rewards runs/small_warmup runs/small_score --figure rewards.png

Both runs were tested on the same images. The reward of a test image is Q-Insight's: 1 for a rating
nearer to the MOS than the tolerance, else 0, and 0 without a rating. The interval of the
difference resamples images, each with both of its rewards. A second one resamples clusters of
images (generators, prompts or references), where predictions name three of them or more. The curve
is what the second run logged during training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lit_biqa.evaluation.bootstrap import Array, Codes, cluster_codes
from lit_biqa.evaluation.events import event_logs, scalars
from lit_biqa.evaluation.store import cluster_of, read_predictions
from lit_biqa.evaluation.tables import pairs
from lit_biqa.io.files import replacing
from lit_biqa.types import InputError

Key = tuple[str, str, str, str]
Row = Mapping[str, str]
TRAIN, HELD_OUT = "train/reward/score", "val/reward/score"
GRADIENT = "train/grad_norm"
_SMOOTH = 15  # number of steps in the drawn mean


def rewards(run: Path, condition: str, tolerance: float, weights: str = "") -> dict[Key, float]:
    """Score reward of each test image of a run.

    Args:
        run: run folder.
        condition: condition of the scores.
        tolerance: errors below it are rewarded, in MOS units.
        weights: beginning of the digest of the tested weights.

    Raises:
        InputError: if the run has no test under the condition, or tests of several such weights.
    """
    return {
        key: float(
            row["status"] == "ok" and abs(float(row["score"]) - float(row["mos"])) < tolerance
        )
        for key, row in _tested(run, condition, weights).items()
    }


def clusters(run: Path, condition: str, weights: str = "") -> dict[Key, str]:
    """Cluster of each test image of a run, named with its data set; empty without one.

    Args:
        run: run folder.
        condition: condition of the scores.
        weights: beginning of the digest of the tested weights.

    Raises:
        InputError: as `rewards`.
    """
    return {key: _cluster(row) for key, row in _tested(run, condition, weights).items()}


def _cluster(row: Row) -> str:
    name = cluster_of(row)
    # Data sets number their references alike.
    return f"{row['dataset']}: {name}" if name else ""


def _tested(run: Path, condition: str, weights: str) -> dict[Key, Row]:
    file = run / "test" / "predictions.csv"
    if not file.is_file():
        raise InputError(f"no predictions at {file}: run `lit_biqa test` on the run first")
    rows = [row for row in read_predictions(file) if row["condition"] == condition]
    rows = [row for row in rows if row["weights"].startswith(weights)]
    if not rows:
        raise InputError(f"{file}: no row with condition {condition!r}{_with(weights)}")
    if len(held := sorted({row["weights"] for row in rows})) > 1:
        raise InputError(
            f"{file}: tested with several weights: choose with --weights {', '.join(held)}"
        )
    return {(row["dataset"], row["split"], row["index"], row["name"]): row for row in rows}


def _with(weights: str) -> str:
    return f" and weights that begin with {weights}" if weights else ""


def difference(
    before: Array, after: Array, resamples: int, seed: int, codes: Codes | None = None
) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean difference of paired rewards.

    Args:
        before: rewards ``[N]``.
        after: rewards ``[N]`` of the same images.
        resamples: how many.
        seed: of the draws.
        codes: cluster of each image ``[N]``, from `cluster_codes`, to draw whole clusters; ``None``
            draws images.
    """
    generator = np.random.default_rng(seed)
    codes = np.arange(len(before)) if codes is None else codes
    sums, sizes = np.bincount(codes, after - before), np.bincount(codes)
    draws = (generator.integers(len(sums), size=len(sums)) for _ in range(resamples))
    means = [sums[drawn].sum() / sizes[drawn].sum() for drawn in draws]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def curve(run: Path, tag: str) -> tuple[list[int], list[float]]:
    """Steps and values of a tag in a run's TensorBoard events, with all parts of a resumed run."""
    points = scalars(list(event_logs(run)), tag)
    return sorted(points), [points[step] for step in sorted(points)]


def draw(run: Path, path: Path) -> None:
    """Draw the score reward over steps, for training and held-out images, and the gradient norm.

    Raises:
        InputError: if the run logged no score reward.
    """
    from matplotlib.figure import Figure

    steps, values = curve(run, TRAIN)
    if not steps:
        raise InputError(f"{run}: no {TRAIN} in its TensorBoard events; name a run of GRPO")
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, values, color="tab:blue", alpha=0.25, label="training, each step")
    means = [np.mean(values[max(0, i + 1 - _SMOOTH) : i + 1]) for i in range(len(values))]
    axes.plot(steps, means, color="tab:blue", label=f"training, mean of {_SMOOTH} steps")
    held = curve(run, HELD_OUT)
    if held[0]:
        axes.plot(*held, "o-", color="tab:orange", label="held-out images")
    axes.set(xlabel="optimizer step", ylabel="mean score reward", ylim=(0, None))
    axes.set_title(f"{run.name}: score reward")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    gradient = curve(run, GRADIENT)
    if gradient[0]:
        beside = axes.twinx()
        beside.plot(*gradient, color="tab:gray", linewidth=0.8)
        beside.set_ylabel("norm of the gradient (gray)", color="tab:gray")
        beside.set_ylim(0, 2 * max(gradient[1]))
    with replacing(path) as part:
        figure.savefig(part, format="png")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lit_biqa compare-rewards", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("before", type=Path, help="folder of the run before reinforcement learning")
    parser.add_argument("after", type=Path, help="folder of the run of GRPO")
    parser.add_argument("--condition", default="image", help="condition to compare (default image)")
    parser.add_argument(
        "--weights",
        nargs=2,
        default=("", ""),
        metavar=("BEFORE", "AFTER"),
        help="beginning of the digests, for runs that were tested with several weights",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.35,
        help="errors below it are rewarded, in MOS units (default 0.35)",
    )
    parser.add_argument(
        "--resamples", type=int, default=5000, help="bootstrap resamples (default 5000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default 0)")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the curve")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison; the exit status is 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        rewards_of = [
            rewards(run, options.condition, options.tolerance, weights)
            for run, weights in zip((options.before, options.after), options.weights, strict=True)
        ]
        if rewards_of[0].keys() != rewards_of[1].keys():
            raise InputError(
                "the runs were tested on different images: test both on the same images"
            )
        first, second = (
            np.array([run_rewards[key] for key in sorted(run_rewards)])
            for run_rewards in rewards_of
        )
        groups = clusters(options.before, options.condition, options.weights[0])
        if options.figure:
            draw(options.after, options.figure)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = {
        "images": str(len(first)),
        f"before, {options.before.name}": f"{first.mean():.4f}",
        f"after, {options.after.name}": f"{second.mean():.4f}",
        "difference [95%]": _in_words(first, second, options),
    }
    codes = cluster_codes([groups[key] for key in sorted(groups)])
    if codes is not None:
        name = f"over {codes.max() + 1} clusters [95%]"
        lines[name] = _in_words(first, second, options, codes)
    print(pairs("Mean score reward", lines))
    return 0


def _in_words(
    before: Array, after: Array, options: argparse.Namespace, codes: Codes | None = None
) -> str:
    low, high = difference(before, after, options.resamples, options.seed, codes)
    verdict = " not significant" if low <= 0 <= high else ""
    return f"{after.mean() - before.mean():+.4f} [{low:+.4f}, {high:+.4f}]{verdict}"
