"""Import of a torchvision whose compiled extension does not fit the installed torch.

A common pair is a CPU build of torch with the registry's torchvision, built for CUDA. There
``import torchvision`` fails with ``operator torchvision::nms does not exist``, and with it
lightning, torchmetrics, timm, open_clip and peft. None of them needs that operator here, so
declaring it without an implementation is enough. A matching pair is left unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# A torch.library.Library withdraws its declarations when it is garbage-collected.
_libraries: list[object] = []


def install() -> None:
    """Hook into every later import of torchvision; costs nothing until then."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def declare_missing_operators(folder: Path) -> list[str]:
    """Declare the operators that torchvision registers fakes for, if its extension cannot load.

    Args:
        folder: folder of the torchvision package.

    Returns:
        Names of the declared operators; empty if torchvision fits torch.
    """
    import torch

    if _extension_loads(folder):
        return []
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library(  # type: ignore[no-untyped-call]
            "torchvision", "FRAGMENT"
        )
        for name in missing:
            library.define(name + _SIGNATURE)  # type: ignore[no-untyped-call]
        _libraries.append(library)
    return missing


def _extension_loads(folder: Path) -> bool:
    import torch

    for suffix in EXTENSION_SUFFIXES:
        file = folder / f"_C{suffix}"
        if file.is_file():
            try:
                torch.ops.load_library(str(file))  # type: ignore[no-untyped-call]
            except OSError:
                return False
            return True
    return False


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        declare_missing_operators(Path(self.path).parent)
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec
