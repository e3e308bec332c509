r"""Plan the memory of a fit on each GPU and on the host; no weights are read.

    lit_biqa plan --config grpo/score --config trainer/fsdp2_8gpu --gpu-memory 80 --gpus 8
    lit_biqa plan --config grpo/score --config backbone/lora --config trainer/gpu \
        --data.loader.batch_size=4 --gpu-memory 80

Settings are those of `lit_biqa fit`, for recipes of SFT and GRPO whose backbone is QwenVL,
MplugOwl2 or AutoChat. Images have the most positions that the settings allow. The length of texts
is not known before data are read: --text-tokens says it. CUDA's context, NCCL's buffers and
fragmentation are not counted. The exit status is 1 if the plan does not fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy

from lit_biqa.cli.errors import guard
from lit_biqa.cli.main import CLI
from lit_biqa.compat.lightning import reshards_after_forward
from lit_biqa.evaluation.tables import rendered
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.planning.advice import advice
from lit_biqa.planning.loading import per_host, per_process
from lit_biqa.planning.phases import HOLDERS, Bytes, peak, phases
from lit_biqa.planning.sizes import Sizes, sizes_of
from lit_biqa.planning.work import TEXT_TOKENS, Work, work_of
from lit_biqa.types import InputError, check_range


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan; the exit status is 1 if it does not fit, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="All other arguments are settings of the fit: --config NAME, --SETTING VALUE.",
        allow_abbrev=False,
    )
    parser.add_argument("--gpus", type=int, default=1, help="number of GPUs of the fit (1)")
    parser.add_argument("--gpu-memory", type=float, default=80.0, help="GiB of each GPU (80)")
    parser.add_argument(
        "--text-tokens",
        type=int,
        default=TEXT_TOKENS,
        help=f"tokens of question and answer, at most ({TEXT_TOKENS})",
    )
    options, settings = parser.parse_known_args(arguments)
    fits: list[bool] = []
    status = guard(lambda: fits.append(_plan(options, settings)))
    return status or int(not all(fits))


def _plan(options: argparse.Namespace, settings: Sequence[str]) -> bool:
    for name, least in (("gpus", 1), ("gpu_memory", 0), ("text_tokens", 1)):
        check_range(f"--{name.replace('_', '-')}", getattr(options, name), least)
    fit = PlannedFit(settings)
    method, trainer = fit.model, fit.config_init["fit"].trainer
    if not isinstance(method, ChatMethod):
        raise InputError(f"{type(method).__name__} is not planned: take a recipe of SFT or GRPO")
    sizes = sizes_of(method.backbone)
    work = work_of(
        method,
        fit.datamodule.loader.batch_size,
        str(trainer.precision),
        sizes.image,
        options.text_tokens,
        options.gpus,
        options.gpus > 1 and _shards(trainer.strategy),
        reshard=reshards_after_forward(trainer.strategy),
    )
    return _told(sizes, work, options)


class PlannedFit(CLI):
    """Settings of a fit, read by the code of `lit_biqa fit`; nothing is run or written.

    Args:
        arguments: of `lit_biqa fit`.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__(["fit", *arguments])

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse the settings; a plan has no run folder."""
        self.parse_settings(parser)
        self.config["fit"].trainer.logger = False

    def instantiate_classes(self) -> None:
        """Make method and data."""
        self.make()

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """None: devices of the fit may be absent here."""

    def _set_seed(self) -> None:
        """Nothing is random in a plan."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""

    def _report(self) -> bool:
        """Nothing was tested."""
        return False

    def _close(self, seconds: float, drawn: bool) -> None:
        """Nothing was written."""


def _shards(strategy: Any) -> bool:
    """True for FSDP2, which several GPUs are planned with if no strategy is named."""
    return strategy == "auto" or isinstance(strategy, ModelParallelStrategy)


def _told(sizes: Sizes, work: Work, options: argparse.Namespace) -> bool:
    plan, memory = phases(sizes, work), int(options.gpu_memory * 2**30)
    phase, most = peak(plan)
    process, host = per_process(sizes, work), per_host(sizes, work)
    print(_head(sizes, work, options.text_tokens))
    print(table(plan))
    print(f"loading: {_gib(process)} GiB of host memory a process, {_gib(host)} GiB in all")
    print(f"peak: {_gib(most)} of {options.gpu_memory:g} GiB a GPU ({phase})")
    if most <= memory:
        return True
    over = f"{_gib(most)} GiB are needed on each GPU, which has {options.gpu_memory:g}"
    print(f"does not fit: {over}: {advice(sizes, work, memory)}", file=sys.stderr)
    return False


def _head(sizes: Sizes, work: Work, text: int) -> str:
    held = "shards of one copy" if work.sharded else "a copy each"
    values = sizes.root.values + sum(block.values for block in sizes.blocks)
    return (
        f"{values / 1e9:.2f} billion weights, {held} on {work.gpus} GPU{'s' * (work.gpus > 1)}; "
        f"{work.images} image{'s' * (work.images > 1)} a GPU, "
        f"{sizes.image} positions each at most, {text} of text"
    )


def table(plan: Mapping[str, Bytes]) -> str:
    """GiB of a GPU as a Markdown table: a row for what holds them, a column for each phase."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.MARKDOWN)
    grid.add_column("GiB a GPU", no_wrap=True)
    for phase in plan:
        grid.add_column(phase, justify="right", no_wrap=True)
    for holder in HOLDERS:
        grid.add_row(holder, *(_gib(held[holder]) for held in plan.values()))
    grid.add_row("sum", *(_gib(sum(held.values())) for held in plan.values()))
    return rendered(grid).strip("\n")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
