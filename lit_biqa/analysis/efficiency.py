"""Time and memory of a scorer beside a model that reasons, over batch sizes.

Source: Reasoning as Representation, section 5.4 and figure 6: at a batch of 16 RALI takes 14.7% of
Q-Insight's memory and 3.4% of its time on an A100. The paper does not say what its memory counts;
here it is all weights and buffers, and what a run needs beside them. Time begins with pixels and
ends with scores: reading and scaling files is left out.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from lit_biqa.evaluation.report import write_csv
from lit_biqa.types import Batch, InputError, Samples

SCORER, MODEL = "scorer", "reasoning model"


@dataclass(frozen=True)
class Runner:
    """Something to measure.

    Attributes:
        name: `SCORER` or `MODEL`.
        module: its weights.
        run: scores the first images, as many as it is told, in one batch; returns the number of
            tokens that it wrote.
    """

    name: str
    module: nn.Module
    run: Callable[[int], int]


@dataclass(frozen=True)
class Cost:
    """Cost of one batch size.

    Attributes:
        name: `SCORER` or `MODEL`.
        parameters: number of weights.
        batch: images in a batch.
        seconds: seconds per image of each repetition.
        memory: GiB of weights, buffers and what a run needs beside them; ``nan`` if unknown.
        tokens: written tokens per image.
    """

    name: str
    parameters: int
    batch: int
    seconds: list[float]
    memory: float
    tokens: float


@dataclass(frozen=True)
class Ratio:
    """Cost of the scorer divided by that of the model.

    Attributes:
        batch: images in a batch.
        parameters: ratio of the numbers of weights.
        seconds: ratio of the seconds of each repetition.
        memory: ratio of the memory.
    """

    batch: int
    parameters: float
    seconds: list[float]
    memory: float

    @property
    def time(self) -> float:
        """Median ratio of the seconds."""
        return statistics.median(self.seconds)


def measure(
    runners: Sequence[Runner], batches: Sequence[int], repeats: int, device: torch.device
) -> list[Cost]:
    """Costs of all runners at all batch sizes; repetitions of the runners take turns.

    A first run of each is not timed; it measures the memory.

    Args:
        runners: what is measured.
        batches: images in a batch.
        repeats: timed repetitions.
        device: device of the weights.
    """
    costs = []
    for batch in batches:
        needs = [_memory(runner, batch, device) for runner in runners]
        seconds: list[list[float]] = [[] for _ in runners]
        tokens = [0.0] * len(runners)
        for _ in range(repeats):
            for place, runner in enumerate(runners):
                start = time.perf_counter()
                tokens[place] = runner.run(batch) / batch
                seconds[place].append((time.perf_counter() - start) / batch)
        for place, runner in enumerate(runners):
            count = sum(weight.numel() for weight in runner.module.parameters())
            cost = Cost(runner.name, count, batch, seconds[place], needs[place], tokens[place])
            costs.append(cost)
    return costs


def ratios(costs: Sequence[Cost]) -> list[Ratio]:
    """Scorer divided by model at each batch size."""
    by = {(cost.name, cost.batch): cost for cost in costs}
    results = []
    for batch in dict.fromkeys(cost.batch for cost in costs):
        one, other = by[SCORER, batch], by[MODEL, batch]
        seconds = [a / b for a, b in zip(one.seconds, other.seconds, strict=True)]
        parameters, memory = one.parameters / other.parameters, one.memory / other.memory
        results.append(Ratio(batch, parameters, seconds, memory))
    return results


def _memory(runner: Runner, batch: int, device: torch.device) -> float:
    """GiB of a runner's weights and buffers, and of the growth during one run."""
    held = [*runner.module.parameters(), *runner.module.buffers()]
    own = sum(tensor.numel() * tensor.element_size() for tensor in held)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        runner.run(batch)
        return (own + torch.cuda.max_memory_allocated(device) - before) / 2**30
    resident = _resident("VmRSS") if _reset_peak() else None
    runner.run(batch)
    peak = _resident("VmHWM")
    return float("nan") if resident is None or peak is None else (own + peak - resident) / 2**30


def _reset_peak() -> bool:
    """Give freed memory back, and begin anew to note the peak of this process; Linux only."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(name: str) -> int | None:
    """Bytes in ``/proc/self/status``: ``VmRSS`` is resident memory, ``VmHWM`` its peak."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    line = next((line for line in text.splitlines() if line.startswith(f"{name}:")), "")
    return int(line.split()[1]) * 1024 if line else None


def first_rows(batches: Iterator[Batch], count: int) -> Batch:
    """The first rows of some batches as one batch.

    Raises:
        InputError: if there are fewer.
    """
    rows = [(batch, row) for batch in batches for row in range(len(batch["index"]))][:count]
    if len(rows) < count:
        raise InputError(
            f"there are {len(rows)} images for a batch of {count}: name more sets with "
            "--data.test, or smaller --batches"
        )
    columns: dict[str, Any] = {
        name: [batch[name][row] for batch, row in rows]  # type: ignore[literal-required]
        for name in Batch.__annotations__
    }
    columns |= {name: torch.stack(columns[name]) for name in ("mos", "std", "index")}
    columns["samples"] = Samples(columns["samples"])
    return cast(Batch, columns)


def write_efficiency(folder: Path, costs: Sequence[Cost], where: str) -> None:
    """Write ``efficiency.csv``: a line for each of the two and batch size, and their ratios.

    Args:
        folder: folder to write to.
        costs: measured costs.
        where: device, in words.
    """
    lines: list[Sequence[object]] = []
    for cost in costs:
        spread = statistics.median(cost.seconds), min(cost.seconds), max(cost.seconds)
        lines.append((cost.name, cost.batch, cost.parameters, *spread, cost.memory, cost.tokens))
    for ratio in ratios(costs):
        spread = ratio.time, min(ratio.seconds), max(ratio.seconds)
        lines.append(("ratio", ratio.batch, ratio.parameters, *spread, ratio.memory, ""))
    seconds = ("seconds_per_image", "seconds_min", "seconds_max")
    columns = ("what", "batch", "parameters", *seconds, "memory_gib", "tokens_per_image", "device")
    write_csv(folder / "efficiency.csv", columns, [(*line, where) for line in lines])
