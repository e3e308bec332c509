"""Parameters of NIQE and BRISQUE, in the files that their authors publish."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from lit_biqa.data.readers.matlab import numbers
from lit_biqa.data.readers.tables import check_file, read_text
from lit_biqa.limits import METRIC_BYTES
from lit_biqa.types import InputError

FEATURES = 36  # of natural scene statistics: 18 at each of two scales
_PLACES = range(1, 1 + FEATURES)
_SVR = {"svm_type": ["epsilon_svr"], "kernel_type": ["rbf"]}

Parameters = dict[str, Tensor]


def read_niqe(path: Path) -> Parameters:
    """Gaussian model of pristine images, from the authors' ``modelparameters.mat``.

    Returns:
        ``mean`` ``[36]`` and ``covariance`` ``[36, 36]``, in double precision.

    Raises:
        InputError: if the file is absent, broken or another one.
    """
    mean = _values(path, "mu_prisparam", FEATURES)
    covariance = _values(path, "cov_prisparam", FEATURES**2)
    return {"mean": mean, "covariance": covariance.reshape(FEATURES, FEATURES)}


def _values(path: Path, variable: str, count: int) -> Tensor:
    found = numbers(path, variable)
    if len(found) != count:
        raise InputError(f"{path}: {variable} has {len(found)} values, NIQE's has {count}.")
    return torch.tensor(found, dtype=torch.float64)


def read_brisque(path: Path) -> Parameters:
    """Support vector regression of BRISQUE, from the authors' ``allmodel``, a file of LIBSVM.

    Returns:
        ``coefficients`` ``[N]``, ``vectors`` ``[N, 36]``, ``gamma`` and ``rho``, in double
        precision.

    Raises:
        InputError: if the file is absent, broken or another one; names the line.
    """
    check_file(path, METRIC_BYTES, kind="model of BRISQUE")
    lines = [line.split() for line in read_text(path).splitlines()]
    if ["SV"] not in lines:
        raise InputError(f"{path} is no model of LIBSVM: it has no line SV.")
    start = lines.index(["SV"]) + 1
    head = {line[0]: line[1:] for line in lines[: start - 1] if line}
    if not _SVR.items() <= head.items():
        raise InputError(f"{path} is no support vector regression with the kernel rbf.")
    rows = [_row(path, place, line) for place, line in enumerate(lines[start:], start + 1)]
    if head.get("total_sv") != [str(len(rows))]:
        raise InputError(f"{path} has {len(rows)} support vectors, not as its line total_sv says.")
    vectors = torch.tensor(rows, dtype=torch.float64)
    return {
        "coefficients": vectors[:, 0],
        "vectors": vectors[:, 1:],
        **{name: _number(path, head, name) for name in ("gamma", "rho")},
    }


def _row(path: Path, place: int, line: list[str]) -> list[float]:
    """Coefficient of a support vector and its features; LIBSVM leaves features of zero out."""
    row = [0.0] * (1 + FEATURES)
    try:
        row[0] = _finite(line[0])
        for cell in line[1:]:
            index, value = cell.split(":")
            row[_PLACES.index(int(index)) + 1] = _finite(value)
    except (ValueError, IndexError):
        raise InputError(
            f"{path}, line {place}: a number and features 1 to {FEATURES}, such as 1:0.5, expected."
        ) from None
    return row


def _number(path: Path, head: dict[str, list[str]], name: str) -> Tensor:
    try:
        (text,) = head.get(name, [])
        return torch.tensor(_finite(text), dtype=torch.float64)
    except ValueError:
        raise InputError(f"{path}: a line with {name} and a number expected.") from None


def _finite(text: str) -> float:
    """Number of a text.

    Raises:
        ValueError: if it is none, or not finite.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
