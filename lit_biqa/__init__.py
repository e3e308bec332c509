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
    from lit_biqa.scoring.scorer import Scorer

__version__ = "0.1.0"

torchvision.install()


def load_scorer(path: str | Path, device: str | torch.device | None = None) -> Scorer:
    """Load a shipped scorer: ``load_scorer(path)(images) -> scores [N]`` on [1, 5], 5 best.

    Example:
        >>> score = lit_biqa.load_scorer("runs/first")
        >>> score("one.jpg")
        tensor([3.2107])

    Args:
        path: the portable file that a fit of RALI wrote, or its run folder.
        device: to score on; ``None`` takes CUDA where there is any, else the CPU.

    Raises:
        InputError: if the file is absent or is no scorer, or there is no such device.
    """
    from lit_biqa.scoring import scorer

    return scorer.load_scorer(path, device)


def fit(
    recipe: str | Path | Sequence[str | Path] = (),
    run: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> Run:
    """Train, ship and test, as ``lit_biqa fit`` does: ``fit("quickstart")``.

    Args:
        recipe: configuration file, or several, of which the later ones win.
        run: folder for all that the run writes; ``None`` makes one under ``runs/``.
        settings: that are to be otherwise than in the recipe, by their dotted names:
            ``{"data.loader.batch_size": 32, "trainer.max_epochs": 5}``. ``{"ckpt_path": "last"}``
            goes on with a ``run`` that was cut off, and then needs no recipe.

    Returns:
        The run: its ``path``, its ``scorer`` (a file for `load_scorer`), the ``results`` of its
        test.

    Raises:
        InputError: for settings, data or a folder that are not as they must be; with ``run`` a
            folder that another fit has used.
        KeyboardInterrupt: when SIGINT ends it, after the running step and ``last.ckpt``.
    """
    from lit_biqa.cli import jobs

    return jobs.fit([recipe] if isinstance(recipe, str | Path) else recipe, run, settings or {})


def test(
    run: str | Path | Run,
    data: str | Path | Sequence[str | Path] | None = None,
    settings: Mapping[str, object] | None = None,
) -> Results:
    """Correlate a run with MOS, as ``lit_biqa test`` does: ``test("runs/first", ["livew"])``.

    Args:
        run: folder of a fit, or what `fit` returned.
        data: data set, or several: catalogue names, or CSV files with columns image and mos;
            ``None`` takes the test sets of the run.
        settings: that are to be otherwise than in the run, by their dotted names.

    Returns:
        Correlations of this test; the same lie in ``test/results.csv`` of the run.

    Raises:
        InputError: as `fit`.
        KeyboardInterrupt: when SIGINT ends it.
    """
    from lit_biqa.cli import jobs

    path = run.path if isinstance(run, jobs.Run) else run
    return jobs.test(path, [data] if isinstance(data, str | Path) else data, settings or {})
