"""The command line: LightningCLI with run folders, safe checkpoints and one-line errors."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from lit_biqa import faults
from lit_biqa.callbacks import CorrelationReport
from lit_biqa.checkpoints import RunCheckpoint, SaveConfig, StopEarly, WholeCheckpointIO, read_state
from lit_biqa.run_folder import RunFolder, check_checkpoint, choose, find_weights
from lit_biqa.config_files import merge_arguments
from lit_biqa.types import InputError


def family(base: type) -> list[type]:
    """``base`` and the classes derived from it, at any remove, that have been imported."""
    return [base, *(cls for child in base.__subclasses__() for cls in family(child))]


class CLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` from configuration files.

    Args:
        model: base class of the methods to choose from.
        data: class of the DataModule.
        args: arguments; ``None`` takes those of the process.
    """

    def __init__(
        self,
        model: type[LightningModule],
        data: type[LightningDataModule],
        args: Sequence[str] | None = None,
    ) -> None:
        self.arguments = list(sys.argv[1:] if args is None else args)
        strict: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
        super().__init__(
            model,
            data,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            # The DataModule's samplers divide batches among the processes themselves.
            trainer_defaults={"use_distributed_sampler": False, "num_sanity_val_steps": 0},
            seed_everything_default=0,
            parser_kwargs={**strict, **{name: dict(strict) for name in self.subcommands()}},
            subclass_mode_model=True,
            # Optimizers are made in the method, after the model has been configured.
            auto_configure_optimizers=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Subcommands, each without arguments of its own, so that one file serves them all."""
        given = {"model", "datamodule", "ckpt_path", "weights_only"}
        return {
            "fit": given | {"train_dataloaders", "val_dataloaders"},
            "validate": given | {"dataloaders", "verbose"},
            "test": given | {"dataloaders", "verbose"},
            "predict": given | {"dataloaders", "return_predictions"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder, the weights to start from, and the callbacks of every run."""
        self.settings_parser = parser
        parser.add_argument(
            "--run",
            type=str | None,
            help="Folder for all that the run writes; default under runs/.",
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            help="Weights to start from: best or last of the run folder, a file, or none. "
            "Default: fit starts anew, the others take the best of the run folder.",
        )
        parser.add_lightning_class_args(CorrelationReport, "report")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_lightning_class_args(StopEarly, "early_stopping")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and settle at once where to write and which weights to load.

        Both are taken out of the settings, so that a saved ``config.yaml`` makes a new run, and so
        that Lightning does not take settings from a checkpoint, which may come from outside.
        """
        files, arguments = merge_arguments(self.arguments)
        try:
            self.config = parser.parse_args(arguments)
        except ArgumentError as error:
            raise InputError(faults.explain_setting(str(error), self._names(), files)) from error
        settings = self.config[self.config.subcommand]
        fitting = self.config.subcommand == "fit"
        named = RunFolder(Path(settings.run).expanduser().absolute()) if settings.run else None
        if fitting and settings.ckpt_path is None:
            settings.ckpt_path = "none"
            if named is not None:
                named.refuse_if_used()
        self.weights = find_weights(named, settings.ckpt_path)
        if self.weights is not None:
            check_checkpoint(self.weights, resume=fitting)
        self.run_folder = choose(named, files, settings.trainer.num_nodes)
        settings.run = settings.ckpt_path = None

    def _names(self) -> set[str]:
        """Every setting, and the methods by name, for errors to tell the nearest."""
        settings = self.settings_parser.get_defaults().keys()
        methods = (cls.__name__ for cls in family(self.model_class))
        return {*self.subcommands(), *settings, *methods}

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer write into the run folder, and write checkpoints whole."""
        settings = self.config_init[self.subcommand].trainer
        plugins = settings.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        logger = settings.logger
        if logger in (None, True):
            logger = TensorBoardLogger(self.run_folder.path, name="", version="")
        return super().instantiate_trainer(
            default_root_dir=self.run_folder.path,
            logger=logger,
            plugins=[*plugins, WholeCheckpointIO()],
            **kwargs,
        )

    def fit(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Train, from the start or from where a run was cut off."""
        self.trainer.fit(model, None, None, datamodule, self.weights, weights_only=True)

    def after_fit(self) -> None:
        """Ship what was trained, and test it where there are test sets."""
        if self.trainer.fast_dev_run:
            return
        run = self.run_folder
        if not run.best.exists() and not run.last.exists():
            # A fit of no epochs, which only refits a head, has met no occasion to save.
            self.trainer.save_checkpoint(run.last, weights_only=True)
        self.weights = find_weights(run, None)
        assert self.weights is not None
        if self.trainer.is_global_zero:
            self.model.ship(run.path, read_state(self.weights))
        self.trainer.strategy.barrier()
        if self.datamodule.specs["test"]:
            self.test(self.model, self.datamodule)

    def validate(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Correlate with MOS on the validation sets."""
        self.trainer.validate(model, None, self.weights, False, datamodule, weights_only=True)

    def test(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Correlate with MOS on the test sets."""
        self.trainer.test(model, None, self.weights, False, datamodule, weights_only=True)

    def predict(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Score images without MOS."""
        self.trainer.predict(model, None, datamodule, False, self.weights, weights_only=True)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; the status the process is to end with."""
    from lit_biqa.data.datamodule import BIQADataModule
    from lit_biqa.methods.base import Method

    return faults.guard(lambda: CLI(Method, BIQADataModule, args))
