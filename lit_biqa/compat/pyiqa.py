"""Hand-crafted metrics of pyiqa as functions of pixels: the extra ``metrics``.

pyiqa's front door, ``create_metric``, downloads a metric's parameters and unpickles BRISQUE's. The
functions behind it take parameters as tensors: they read no file and open no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from torch import Tensor

from lit_biqa.types import InputError

#: The one release whose inside the tests have run with, as in setup.cfg.
RELEASE = "0.1.16"
REMEDY = "pip install 'lit_biqa[metrics]'"

#: From one image ``[1, 3, H, W]`` of RGB floats on [0, 1] to its score, a tensor of one value.
Score = Callable[[Tensor], Tensor]


def check() -> None:
    """Refuse an environment without the tested release; imports nothing.

    Raises:
        InputError: names the command that installs it.
    """
    try:
        found = version("pyiqa")
    except PackageNotFoundError:
        raise InputError(f"niqe and brisque need the extra metrics: {REMEDY}") from None
    if found != RELEASE:
        raise InputError(f"pyiqa {found} is installed, but only {RELEASE} was tested: {REMEDY}")


def niqe(parameters: Mapping[str, Tensor]) -> Score:
    """NIQE in double precision.

    Args:
        parameters: ``mean`` ``[36]`` and ``covariance`` ``[36, 36]`` of the features of pristine
            images.
    """
    from pyiqa.archs.niqe_arch import calculate_niqe

    function = partial(
        calculate_niqe,
        mu_pris_param=parameters["mean"],
        cov_pris_param=parameters["covariance"],
    )
    return cast(Score, function)


def brisque(parameters: Mapping[str, Tensor]) -> Score:
    """BRISQUE, whose table of feature ranges is pyiqa's own copy of the authors'.

    Args:
        parameters: ``coefficients`` ``[N]`` and ``vectors`` ``[N, 36]`` of the support vectors,
            ``gamma`` of their kernel and ``rho``, the negative bias.
    """
    from pyiqa.archs.brisque_arch import brisque

    function = partial(
        brisque,
        sv_coef=parameters["coefficients"],
        sv=parameters["vectors"],
        gamma=float(parameters["gamma"]),
        rho=float(parameters["rho"]),
    )
    return cast(Score, function)


def lower_is_better(name: str) -> bool:
    """True if pyiqa says of a metric that a lower score is a better image."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    settings: Mapping[str, Any] = DEFAULT_CONFIGS[name]
    return bool(settings.get("lower_better", False))
