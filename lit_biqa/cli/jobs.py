"""Jobs of the command line as Python functions: the same code, in the same process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from lightning.fabric.utilities.exceptions import MisconfigurationException

from lit_biqa.callbacks import CorrelationReport
from lit_biqa.callbacks.correlation import RESULTS
from lit_biqa.cli.errors import explain
from lit_biqa.cli.main import CLI
from lit_biqa.compat.lightning import quieten
from lit_biqa.distributed import leave_group
from lit_biqa.evaluation.results import Results
from lit_biqa.runs import stops
from lit_biqa.types import InputError

PathLike: TypeAlias = str | Path
Settings: TypeAlias = Mapping[str, object]
"""Settings by their dotted names, as on the command line: ``{"data.loader.batch_size": 32}``."""

# Environment variables by which a command passes settings to processes that it starts.
_TOLD = ("LIT_BIQA_RUN", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")


@dataclass(frozen=True)
class Run:
    """A finished fit.

    Attributes:
        path: run folder.
        results: results of the test after the fit; without rows if there were no test sets.
    """

    path: Path
    results: Results

    @property
    def scorer(self) -> Path | None:
        """Scorer file, for `lit_biqa.load_scorer`; only RALI writes one."""
        return self._written("scorer.safetensors")

    @property
    def weights(self) -> Path | None:
        """Folder of the trained model, for a backbone's ``pretrained``; SFT and GRPO write it."""
        return self._written("weights")

    def _written(self, name: str) -> Path | None:
        return self.path / name if (self.path / name).exists() else None


def fit(recipes: Sequence[PathLike], run: PathLike | None, settings: Settings) -> Run:
    """See `lit_biqa.fit`."""
    place = {} if run is None else {"run": run}
    cli = _command("fit", recipes, {**settings, **place})
    return Run(cli.run_folder.path, _results(cli))


def test(run: PathLike, data: Sequence[PathLike] | None, settings: Settings) -> Results:
    """See `lit_biqa.test`."""
    sets = {} if data is None else {"data.test": [str(item) for item in data]}
    return _results(_command("test", (), {**settings, **sets, "run": run}))


def _results(cli: CLI) -> Results:
    callbacks = cli.trainer.callbacks  # type: ignore[attr-defined]
    (report,) = (item for item in callbacks if isinstance(item, CorrelationReport))
    return Results(tuple(report.results), cli.run_folder.path / "test" / RESULTS)


def _command(name: str, recipes: Sequence[PathLike], settings: Settings) -> CLI:
    """Run a command.

    Raises:
        InputError: for errors that end the command line with status 2.
        KeyboardInterrupt: if SIGINT ended the command.
        SystemExit: with the status of the signal, if another signal did.
    """
    quieten()
    arguments = [name, *(f"--config={recipe}" for recipe in recipes)]
    arguments += [f"--{key}={as_text(value)}" for key, value in settings.items()]
    try:
        with _environment(), stops.heard():
            return CLI(arguments)
    except stops.Stopped as stop:
        if stop.number == signal.SIGINT:
            raise KeyboardInterrupt(f"{stop}: {stop.advice}") from None
        raise SystemExit(stop.status) from None
    except InputError:
        raise
    except (ValueError, MisconfigurationException) as error:
        if (message := explain(error)) is None:
            raise
        raise InputError(message) from error
    finally:
        leave_group()


def as_text(value: object) -> str:
    """Setting as the command line takes it: ``[1, 2]``, ``true``, ``null``, ``0.5``."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value, default=str)


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _TOLD}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
