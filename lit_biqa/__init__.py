"""Blind image quality assessment with multimodal language models, on PyTorch Lightning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_biqa.compat import torchvision

if TYPE_CHECKING:
    import torch

    from lit_biqa.cli.jobs import Run
    from lit_biqa.evaluation.results import Results
    from lit_biqa.scoring.metric import ScorerMetric
    from lit_biqa.scoring.scorer import Scorer

__version__ = "0.1.0"

torchvision.install()


def load_scorer(path: str | Path, device: str | torch.device | None = None) -> Scorer:
    """Load a scorer: ``load_scorer(path)(images) -> scores [N]`` on [1, 5], 5 best.

    Example:
        >>> score = lit_biqa.load_scorer("runs/first")
        >>> score("one.jpg")
        tensor([3.2107])

    Args:
        path: scorer file that a fit of RALI wrote, or its run folder.
        device: device to score on; ``None`` takes CUDA if there is a GPU, else the CPU.

    Raises:
        InputError: if the file is absent or no scorer, or if there is no such device.
    """
    from lit_biqa.scoring import scorer

    return scorer.load_scorer(path, device)


def metric(name: str, scorer: str | Path, device: str | torch.device | None = None) -> ScorerMetric:
    """Make a differentiable metric of a scorer, for losses and evaluation loops.

    Example:
        >>> metric = lit_biqa.metric("rali", scorer="runs/first")
        >>> metric(torch.rand(2, 3, 256, 256))
        tensor([[2.1930], [2.2014]])

    Args:
        name: ``rali``.
        scorer: scorer file that a fit of RALI wrote, or its run folder.
        device: device to score on; ``None`` takes CUDA if there is a GPU, else the CPU.

    Returns:
        A module: images ``[N, 3, H, W]`` on [0, 1] to predicted MOS ``[N, 1]`` on [1, 5], 5 best.

    Raises:
        InputError: if there is no such metric, scorer or device.
    """
    from lit_biqa.scoring.metric import create_metric

    return create_metric(name, scorer, device)


def fit(
    recipe: str | Path | Sequence[str | Path] = (),
    run: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> Run:
    """Train a method, export its scorer and test it, as ``lit_biqa fit`` does.

    Args:
        recipe: name of a recipe or path of a configuration file, or several; later ones win.
        run: folder that the run writes to; ``None`` makes one under ``runs/``.
        settings: settings that differ from the recipe, by their dotted names:
            ``{"data.loader.batch_size": 32, "trainer.max_epochs": 5}``. ``{"ckpt_path": "last"}``
            resumes an interrupted ``run``, which then needs no recipe.

    Returns:
        The run: its ``path``, its ``scorer`` (a file for `load_scorer`), and the ``results`` of
        its test.

    Raises:
        InputError: for wrong settings, data or folder, or if another fit has used ``run``.
        KeyboardInterrupt: when SIGINT ends it, after the running step and ``last.ckpt``.

    Example:
        >>> run = lit_biqa.fit("quickstart")
    """
    from lit_biqa.cli import jobs

    return jobs.fit([recipe] if isinstance(recipe, str | Path) else recipe, run, settings or {})


def test(
    run: str | Path | Run,
    data: str | Path | Sequence[str | Path] | None = None,
    settings: Mapping[str, object] | None = None,
) -> Results:
    """Correlate the scores of a run with MOS, as ``lit_biqa test`` does.

    Args:
        run: run folder of a fit, or the `Run` that `fit` returned.
        data: data set, or several: catalogue names, or CSV files with the columns image and mos;
            ``None`` takes the test sets of the run.
        settings: settings that differ from the run's, by their dotted names.

    Returns:
        Correlations of this test; ``test/results.csv`` of the run holds the same.

    Raises:
        InputError: as `fit`.
        KeyboardInterrupt: when SIGINT ends it.

    Example:
        >>> lit_biqa.test("runs/first", ["livew"])
    """
    from lit_biqa.cli import jobs

    path = run.path if isinstance(run, jobs.Run) else run
    return jobs.test(path, [data] if isinstance(data, str | Path) else data, settings or {})
