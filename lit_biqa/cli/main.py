"""The command line: LightningCLI with run folders, safe checkpoints and one-line errors."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from lit_biqa.callbacks import CorrelationReport, Watchdog
from lit_biqa.cli import errors, known_classes  # noqa: F401  the second for bare names
from lit_biqa.cli.class_paths import check_parsed
from lit_biqa.cli.config_files import merge_arguments, with_own_settings
from lit_biqa.cli.ending import Ending, closing, files_in
from lit_biqa.cli.loggers import below, with_folders
from lit_biqa.cli.memory import warn_of_memory
from lit_biqa.cli.report import draw
from lit_biqa.cli.setting_values import check_ranges, check_values
from lit_biqa.cli.starting_weights import family, starting_weights
from lit_biqa.cli.trainer import arguments_of, check
from lit_biqa.compat import lightning as inside
from lit_biqa.compat.jsonargparse import allow_subclasses
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.distributed import leave_group
from lit_biqa.html_report import REPORT
from lit_biqa.methods.base import Method
from lit_biqa.methods.evaluation import Evaluator
from lit_biqa.methods.optimizer import refuse_changed
from lit_biqa.rewards import Reward
from lit_biqa.runs import slurm
from lit_biqa.runs.checkpoint_callback import RunCheckpoint
from lit_biqa.runs.checkpoints import (
    SaveConfig,
    explaining_misfit,
    read_state,
)
from lit_biqa.runs.folder import (
    RunFolder,
    check_checkpoint,
    choose,
    is_global_zero,
)
from lit_biqa.runs.lock import RunLock
from lit_biqa.runs.stops import Stopped
from lit_biqa.types import InputError

# Rewards are dataclasses, whose subclasses the parser refuses by default.
allow_subclasses(Reward)

# Classes whose settings have a group of their own.
GROUPS = {
    "trainer": Trainer,
    "data": BIQADataModule,
    "report": CorrelationReport,
    "checkpoint": RunCheckpoint,
}


class CLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` from configuration files.

    Args:
        args: subcommand and settings.
        began: start of the command on the monotonic clock; ``None`` takes now.

    Attributes:
        run_folder: folder that the command writes to.
        weights: checkpoint that the subcommand starts from.
        lock: lock of the run folder, on the first process of a fit.
    """

    model: Evaluator
    datamodule: BIQADataModule
    lock: RunLock | None = None

    def __init__(self, args: Sequence[str], began: float | None = None) -> None:
        began = time.monotonic() if began is None else began
        strict = {"exit_on_error": False, "allow_abbrev": False}
        self.arguments = args
        try:
            super().__init__(
                Evaluator,
                BIQADataModule,
                save_config_callback=SaveConfig,
                save_config_kwargs={"save_to_log_dir": False},
                # The DataModule's samplers divide batches among the processes themselves.
                trainer_defaults={"use_distributed_sampler": False, "num_sanity_val_steps": 0},
                seed_everything_default=0,
                parser_kwargs={**strict, **{name: {**strict} for name in self.subcommands()}},
                subclass_mode_model=True,
                # Optimizers are made in the method, after the model has been configured.
                auto_configure_optimizers=False,
            )
            drawn = self._report()
            self._close(time.monotonic() - began, drawn)
        except Stopped as stop:
            self._clean_up()
            stop.advice = self._advice()
            raise
        except Exception:
            self._clean_up()
            raise
        finally:
            if self.lock is not None:
                self.lock.release()

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Subcommands, each without arguments of its own, so that one file serves them all."""
        common = {"model", "datamodule", "ckpt_path", "weights_only"}
        return {
            "fit": common | {"train_dataloaders", "val_dataloaders"},
            "validate": common | {"dataloaders", "verbose"},
            "test": common | {"dataloaders", "verbose"},
            "predict": common | {"dataloaders", "return_predictions"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder, the starting weights, and the callbacks of every run."""
        self.settings_parser = parser
        parser.add_argument(
            "--run", type=str | None, help="Folder that the run writes to; by default under runs/."
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            help="Weights to start from: best or last of the run folder, a file, or none. "
            "Default: fit starts anew, the others take the best of the run folder.",
        )
        parser.add_argument(
            "--gpu_memory",
            type=float | None,
            help="GiB of each device: a fit whose plan needs more warns. Default: what CUDA says.",
        )
        parser.add_lightning_class_args(CorrelationReport, "report")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_lightning_class_args(Watchdog, "watchdog")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the settings, and choose the run folder and the weights at once.

        Both are removed from the settings, so that a saved ``config.yaml`` makes a new run, and so
        that Lightning does not read settings from a checkpoint, which may come from outside.
        """
        files = self.parse_settings(parser)
        settings = self.config[self.config.subcommand]
        named = RunFolder(Path(settings.run).expanduser().absolute()) if settings.run else None
        requested, settings.run, settings.ckpt_path = settings.ckpt_path, None, None
        fitting = self.config.subcommand == "fit"
        if fitting and requested is None and named and named.last.exists() and slurm.began_again():
            requested = "last"
        self.weights = starting_weights(
            str(self.config.subcommand), settings, named, requested, files
        )
        folder = choose(named, files, settings.trainer.num_nodes)
        if fitting and is_global_zero():
            self.lock = RunLock(folder.path)
        if fitting and (self.weights is None or self.weights.parent != folder.checkpoints):
            # The fit begins anew, or from the weights of another run. Each process refuses by
            # itself: on another machine it would wait long for a first one that is gone.
            folder.refuse_if_used(self._parser("fit").dump(settings, skip_unset=False))
        self.run_folder = folder

    def parse_settings(self, parser: LightningArgumentParser) -> list[Path]:
        """Parse and check the settings; nothing is written or called.

        Returns:
            The configuration files.

        Raises:
            InputError: if a setting is wrong.
        """
        files, arguments = merge_arguments(with_own_settings(self.arguments))
        try:
            self.config = parser.parse_args(with_folders(arguments))
        except ArgumentError as error:
            raise InputError(errors.explain_setting(str(error), self._names(), files)) from error
        except ImportError as error:
            raise InputError(
                f"a class that the settings name cannot be imported: {error}"
            ) from error
        settings = self.config[self.config.subcommand]
        check_parsed(settings)
        check_values(settings, GROUPS)
        check_ranges(settings)
        return files

    def _names(self) -> set[str]:
        """Names of all settings and models, for hints in errors."""
        settings = self.settings_parser.get_defaults().keys()
        return {*self.subcommands(), *settings, *(cls.__name__ for cls in family(Evaluator))}

    def instantiate_classes(self) -> None:
        """Make the model, the data and the Trainer.

        Raises:
            InputError: if a constructor refuses its settings.
        """
        self._as_given, self.config = self.config, self.config.clone()
        trainer = self.config[self.config.subcommand].trainer
        trainer.logger = below(self.run_folder.path, trainer.logger)
        self.make()

    def make(self) -> None:
        """Make what the settings name.

        Raises:
            InputError: if a constructor refuses its settings.
        """
        try:
            super().instantiate_classes()
        except InputError:
            raise
        except (ValueError, TypeError) as error:
            # The parser wraps the errors of constructors, InputError included.
            raise InputError(errors.explain_setting(str(error), self._names(), ())) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make a Trainer that writes into the run folder, and writes checkpoints whole."""
        # The saved settings make another run, in another folder.
        self.config = self._as_given
        settings = self.config_init[self.subcommand].trainer
        arguments = arguments_of(settings, self.run_folder.path, str(self.subcommand))
        trainer = super().instantiate_trainer(**arguments, **kwargs)
        check(trainer)
        return trainer

    def fit(self, model: Method, datamodule: BIQADataModule) -> None:
        """Train, from the start or from a checkpoint of an interrupted run.

        Raises:
            InputError: if the optimizer differs from that of the interrupted run.
        """
        if self.weights is not None:
            content = check_checkpoint(self.weights, resume=True)
            refuse_changed(self.weights, content, model.make_optimizer)
        if is_global_zero():
            stated = self.config[self.subcommand].gpu_memory
            warn_of_memory(model, datamodule, self.trainer, stated)
        with explaining_misfit(model, self.weights):
            self.trainer.fit(model, None, None, datamodule, self.weights, weights_only=True)

    def after_fit(self) -> None:
        """Export what was trained, and test it if there are test sets."""
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        run, tell = self.run_folder, self.trainer.strategy.broadcast
        # Other machines may see new files of a shared folder late: the first process looks.
        if not tell(run.best.exists() or run.last.exists()):
            # A fit of no epochs, which only refits a head, has saved nothing so far.
            self.trainer.save_checkpoint(run.last, weights_only=True)
        self.weights = run.best if tell(run.best.exists()) else run.last
        if self.trainer.is_global_zero:
            assert isinstance(self.model, Method)
            self.model.ship(run.path, read_state(self.weights))
        self.trainer.strategy.barrier()
        # A limit of no test batches means that no test is wanted.
        if self.datamodule.samples["test"] and self.trainer.limit_test_batches:
            self.test(self.model, self.datamodule)

    def validate(self, model: Evaluator, datamodule: BIQADataModule) -> None:
        """Correlate with MOS on the validation sets."""
        with explaining_misfit(model, self.weights):
            self.trainer.validate(model, None, self.weights, False, datamodule, weights_only=True)

    def test(self, model: Evaluator, datamodule: BIQADataModule) -> None:
        """Correlate with MOS on the test sets."""
        with explaining_misfit(model, self.weights):
            self.trainer.test(model, None, self.weights, False, datamodule, weights_only=True)

    def predict(self, model: Evaluator, datamodule: BIQADataModule) -> None:
        """Score images without MOS."""
        with explaining_misfit(model, self.weights):
            self.trainer.predict(model, None, datamodule, False, self.weights, weights_only=True)

    def _report(self) -> bool:
        """Draw the report of a test or of scored images, once for all processes."""
        tested = self.subcommand in ("fit", "test") and self.trainer.state.fn == "test"
        wanted = self.trainer.is_global_zero and (tested or self.subcommand == "predict")
        return wanted and draw(self.run_folder.path)

    def _close(self, seconds: float, drawn: bool) -> None:
        """Print files written and next commands, once for all processes."""
        if not self.trainer.is_global_zero:
            return
        run = self.run_folder.path
        verdict = self.model.verdict() if self.subcommand == "fit" else ""
        # A report of an earlier test is not named as one of this.
        files = [file for file in files_in(run) if drawn or file != REPORT]
        ending = Ending(str(self.subcommand), run, seconds, files, verdict)
        print("\n".join(closing(ending)), flush=True)

    def _advice(self) -> str:
        """Advice after a signal."""
        run: RunFolder | None = getattr(self, "run_folder", None)
        fitting = self.config.subcommand == "fit" if "config" in vars(self) else False
        if run is not None and fitting and run.last.exists():
            return f"go on with: lit_biqa fit --run {shlex.quote(str(run.path))} --ckpt_path last"
        return "the same command begins again"

    def _clean_up(self) -> None:
        """After an error, remove a folder without a run, and end processes that wait for us."""
        trainer: Trainer | None = getattr(self, "trainer", None)
        for process in inside.processes_of(trainer) if trainer else ():
            process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        run: RunFolder | None = getattr(self, "run_folder", None)
        if run is not None and is_global_zero():
            fitting = trainer is not None and trainer.state.fn == "fit" and not trainer.global_step
            run.discard_if_bare(fitting, locked=self.lock is not None)


def main(args: Sequence[str] | None = None, began: float | None = None) -> int:
    """Run the command line.

    Args:
        args: subcommand and settings; ``None`` takes those of the process.
        began: start of the command on the monotonic clock; ``None`` takes now.

    Returns:
        Exit status of the process.
    """
    inside.quieten()
    try:
        return errors.guard(lambda: CLI(sys.argv[1:] if args is None else args, began))
    finally:
        leave_group()
