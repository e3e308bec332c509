"""Reasonings of one run in a file, for a map together with those of another run.

Source: Reasoning as Representation, figure 4, which draws two data sets, each by the model that was
trained on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from lit_biqa.analysis.csv_rows import Who
from lit_biqa.analysis.spaces import STATES, Reasoned
from lit_biqa.io.files import refuse_special, replacing
from lit_biqa.io.json_text import parse_json
from lit_biqa.io.seals import check_notes, seal_notes
from lit_biqa.types import InputError

FILE = "tsne_states.safetensors"
_FORMAT = "lit_biqa-tsne-1"
_REMEDY = "name a folder that `lit_biqa analyse tsne` wrote, or run it again"


@dataclass(frozen=True)
class RunStates:
    """Reasonings of one run.

    Attributes:
        model: name of the run and of its condition.
        results: the reasonings.
    """

    model: str
    results: Sequence[Reasoned]

    @property
    def sets(self) -> list[str]:
        """Names of the data sets."""
        return sorted({item.who.dataset for item in self.results})


def check_together(runs: Sequence[RunStates]) -> None:
    """Check that runs can share a map.

    Raises:
        InputError: if their models differ in size, or two of them have images of one data set.
    """
    for one, other in combinations([run for run in runs if run.results], 2):
        sizes = [[len(state) for state in run.results[0].states] for run in (one, other)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"states of {one.model} have {sizes[0][0]} numbers, those of {other.model} "
                f"{sizes[1][0]}: a map takes runs of models of one hidden size, such as fits of "
                "one model to two data sets; name another --run, or other folders with --beside"
            )
        if both := sorted({*one.sets} & {*other.sets}):
            raise InputError(
                f"{one.model} and {other.model} both have images of {', '.join(both)}: a map takes "
                "each data set from one run; name others with --data.test"
            )


def write_states(folder: Path, run: RunStates) -> None:
    """Write reasonings with their states to `FILE`, whole or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    from safetensors.torch import save

    states = zip(*(item.states for item in run.results), strict=True)
    tensors = {name: torch.stack(some).float() for name, some in zip(STATES, states, strict=True)}
    rows = [(item.who, item.mos, item.content, item.text) for item in run.results]
    notes = {"format": _FORMAT, "model": json.dumps(run.model), "rows": json.dumps(rows)}
    with replacing(folder / FILE) as part:
        part.write_bytes(save(tensors, metadata=seal_notes(notes, tensors)))


def read_states(folder: Path) -> RunStates:
    """Read the reasonings that `write_states` wrote to a folder.

    Raises:
        InputError: if there are none, or the file is broken.
    """
    from safetensors import SafetensorError, safe_open

    path = folder.expanduser() / FILE
    refuse_special(path)
    if not path.is_file():
        raise InputError(f"--beside {folder}: no {FILE} is there; {_REMEDY}")
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            if notes.get("format") != _FORMAT:
                raise InputError(f"not a file of {_FORMAT}")
            tensors = {name: file.get_tensor(name) for name in STATES}
        check_notes(notes, tensors)
        return _run_states(notes, tensors)
    except InputError as error:
        raise InputError(f"{path}: {error}; {_REMEDY}") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: broken file of reasonings ({error}); {_REMEDY}") from error


def _run_states(notes: Mapping[str, str], tensors: Mapping[str, Tensor]) -> RunStates:
    rows = parse_json(notes["rows"], "rows")
    states = zip(*(tensors[name] for name in STATES), strict=True)
    results = [
        Reasoned(Who(*who), float(mos), str(content), str(text), vectors)
        for (who, mos, content, text), vectors in zip(rows, states, strict=True)
    ]
    return RunStates(str(parse_json(notes["model"], "model")), results)
