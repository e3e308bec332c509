"""Model and samples of a run, restored for a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lit_biqa  # noqa: F401  before lightning, as it mends torchvision

# isort: split

import numpy as np
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from lit_biqa.analysis.answers import suits
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.cli import known_classes  # noqa: F401  for bare names
from lit_biqa.cli.class_paths import check_parsed
from lit_biqa.cli.config_files import merge_files, split_arguments
from lit_biqa.cli.errors import explain_setting
from lit_biqa.cli.setting_values import check_values
from lit_biqa.compat.jsonargparse import ArgumentError
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.loader import BatchLoader
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.methods.evaluation import Evaluator
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.levels import GeneratedWord, WordReadout
from lit_biqa.readouts.ratings import Rated
from lit_biqa.runs.checkpoints import explaining_misfit, read_state
from lit_biqa.runs.folder import RunFolder, check_checkpoint, find_weights
from lit_biqa.scoring.scorer_file import SCORER
from lit_biqa.types import InputError, Sample

Asking = WordReadout | GeneratedWord | Rated


@dataclass(frozen=True)
class Needs:
    """Readouts that a study takes, and how it takes samples.

    Attributes:
        readouts: classes of readouts.
        what: what they read, in words.
        shuffled: true if samples come in random order; false for the order of their data set,
            where their number is limited.
    """

    readouts: tuple[type[Readout], ...]
    what: str
    shuffled: bool


WORDS = Needs((WordReadout, GeneratedWord), "quality word", shuffled=False)
RATINGS = Needs((Rated,), "rating in a written answer", shuffled=True)


@dataclass(frozen=True)
class Studied:
    """Model, readout and samples of a study.

    Attributes:
        model: model with its weights, on the device.
        readout: readout that asks for the quality word or the rating.
        condition: condition of the readout that is studied.
        loader: loader of the samples.
        autocast: makes the autocast context of the run's precision.
    """

    model: VisionLanguageModel
    readout: Asking
    condition: str
    loader: BatchLoader
    autocast: Callable[[], AbstractContextManager[Any]]


def prepare(
    run: Path | None,
    weights: str | None,
    settings: Sequence[str],
    condition: str | None,
    at_once: int | None,
    samples: int | None,
    seed: int,
    rated: bool,
    needs: Needs = WORDS,
) -> Studied:
    """Load a run; everything is checked before weights are read.

    Args:
        run: run folder of a fit; ``None`` if ``settings`` name a configuration file.
        weights: value of ``--ckpt_path``, as for a test.
        settings: command-line settings: configuration files, and settings that differ.
        condition: condition of the readout; ``None`` takes the first.
        at_once: chats that the model runs together; ``None`` takes the readout's own number.
        samples: number of test samples to draw; ``None`` for all, in random order.
        seed: seed of the draw.
        rated: true if samples need a MOS.
        needs: readouts that the study takes, and the order of its samples.

    Raises:
        InputError: if the run, its settings, its data or the readout are wrong.
    """
    folder = None if run is None else RunFolder(run.expanduser())
    method, data, precision = instantiate([*settings_of(folder), *settings])
    readout, condition = chosen(method, condition, needs)
    checkpoint = checked_weights(folder, weights)
    if at_once is not None:
        readout.at_once = at_once
    model = method.backbone
    model.root = data.root
    model.prepare()
    readout.check(model)
    data.use_transforms(None, model.image_transform if readout.sees_image else None)
    data.prepare_data()
    data.setup("test")
    given = data.samples["test"]
    data.samples["test"] = drawn(given, readout, samples, seed, rated, needs.shuffled)
    load(method, checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = data.test_dataloader()
    return Studied(model.to(device), readout, condition, loader, mixed(precision, device))


def settings_of(folder: RunFolder | None) -> list[str]:
    """Settings that name the configuration of a run; none without a run.

    Raises:
        InputError: if the folder holds no run.
    """
    if folder is None:
        return []
    if not folder.config.is_file():
        raise InputError(
            f"{folder.path} is no run folder: it holds no config.yaml. Name the --run folder "
            "of a fit, or a configuration with --config FILE and --ckpt_path none"
        )
    return [f"--config={folder.config}"]


def instantiate(arguments: Sequence[str]) -> tuple[ChatMethod, BIQADataModule, str]:
    """Method, data and Trainer precision of a run's settings.

    Raises:
        InputError: if the settings are wrong, or the method has no language model of its own.
    """
    method, data, precision = instantiate_any(arguments)
    if not isinstance(method, ChatMethod):
        raise InputError(
            f"{type(method).__name__} names no quality words: studies need a run of a method "
            "with a language model, such as SFT"
        )
    return method, data, precision


def instantiate_any(arguments: Sequence[str]) -> tuple[Evaluator, BIQADataModule, str]:
    """See `instantiate`; any method will do.

    Raises:
        InputError: if the settings are wrong.
    """
    files, rest = split_arguments(arguments)
    settings = merge_files(files, rest)
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_lightning_class_args(Evaluator, "model", subclass_mode=True)
    parser.add_lightning_class_args(BIQADataModule, "data")
    relevant = {name: settings[name] for name in ("model", "data") if name in settings}
    try:
        config = parser.parse_args([f"--config={yaml.safe_dump(relevant)}", *rest])
        check_parsed(config)
        check_values(config, {"data": BIQADataModule})
        made = parser.instantiate(config)
    except InputError:
        raise
    except (ArgumentError, ValueError) as error:
        names = list(parser.get_defaults().keys())
        raise InputError(explain_setting(str(error), names, files)) from error
    return made.model, made.data, str(settings.get("trainer", {}).get("precision"))


def checked_weights(folder: RunFolder | None, wanted: str | None) -> Path | None:
    """Checkpoint to take weights from, as `find_weights` finds it.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    checkpoint = find_weights(folder, wanted)
    if checkpoint is not None:
        check_checkpoint(checkpoint, resume=False)
    return checkpoint


def restored_reader(
    name: str, condition: str | None, strict: bool = False
) -> tuple[VisionLanguageModel, Readout, str]:
    """Model of a run with its weights, and the readout to ask about an image.

    Args:
        name: run folder, or a configuration (file or recipe name) whose weights are those of its
            settings.
        condition: condition of the readout; the first that sees the image if there is none of
            this name.
        strict: true if the run must have a readout of this name, where one is given.

    Returns:
        The model on the CPU, the readout, and its condition.

    Raises:
        InputError: if there is no such run, or it has no readout that sees an image.
    """
    folder = RunFolder(Path(name)) if Path(name).is_dir() else None
    if folder is not None and not folder.config.is_file():
        raise InputError(f"{name} is no run folder: it holds neither config.yaml nor {SCORER}")
    method, data, _ = instantiate([f"--config={folder.config if folder else name}"])
    readouts = {c: r for r in method.readouts if r.sees_image for c in r.conditions}
    if not readouts:
        raise InputError(f"{name} has no readout that sees an image: name another run")
    if strict and condition is not None and condition not in readouts:
        raise InputError(f"--condition {condition!r}: {name} has {', '.join(readouts)}")
    choice = condition if condition in readouts else next(iter(readouts))
    model = method.backbone
    model.root = data.root
    model.prepare()
    load(method, None if folder is None else checked_weights(folder, None))
    method.eval()
    return model, readouts[choice], choice


def load(method: ChatMethod, checkpoint: Path | None) -> None:
    """Load a method with the weights of a checkpoint, or of its settings for ``None``.

    Raises:
        InputError: if they do not fit.
    """
    method.load()
    if checkpoint is None:
        return
    state = read_state(checkpoint)
    method.on_load_checkpoint({"state_dict": state})
    with explaining_misfit(method, checkpoint):
        method.load_state_dict(state, strict=method.strict_loading)


def chosen(method: ChatMethod, condition: str | None, needs: Needs = WORDS) -> tuple[Asking, str]:
    """Readout of a condition and the condition; without one the first that the study takes.

    Raises:
        InputError: if there is none, or it is of another kind.
    """
    readouts = {name: readout for readout in method.readouts for name in readout.conditions}
    if not readouts:
        raise InputError(
            "the run has no readout: it only learned to describe. Study the next stage"
        )
    if condition is not None and condition not in readouts:
        raise InputError(f"--condition {condition!r}: the run's readouts are {', '.join(readouts)}")
    fitting = [name for name, readout in readouts.items() if isinstance(readout, needs.readouts)]
    name = condition or next(iter(fitting or readouts))
    choice = readouts[name]
    if not isinstance(choice, needs.readouts) or not isinstance(choice, Asking):
        rest = f" ({', '.join(fitting)})" if fitting else ""
        raise InputError(
            f"{type(choice).__name__} reads no {needs.what}: name another readout with "
            f"--condition{rest}"
        )
    return choice, name


def drawn(
    samples: Sequence[Sample],
    readout: Readout,
    count: int | None,
    seed: int,
    rated: bool,
    shuffled: bool = False,
) -> list[Sample]:
    """Random samples that the readout can read, at most ``count``, in their order or shuffled.

    Without a count: all of them, in random order, so that a study may stop at any of them.

    Raises:
        InputError: if there is none.
    """
    usable = [s for s in samples if suits(readout, s) and (not rated or np.isfinite(s.mos))]
    if not usable:
        raise InputError(
            f"none of {len(samples)} test samples can be studied: {type(readout).__name__} needs "
            f"{'images' if readout.sees_image else 'texts'}{' and MOS' * rated}; name others with "
            "--data.test"
        )
    places = np.random.default_rng(seed).permutation(len(usable))[:count]
    return [usable[i] for i in (places if shuffled or count is None else sorted(places))]


def mixed(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Autocast context of the Trainer's precision, for use without a Trainer."""
    if not precision.endswith("-mixed"):
        return nullcontext
    dtype = torch.float16 if precision.startswith("16") else torch.bfloat16
    return lambda: torch.autocast(device.type, dtype)
