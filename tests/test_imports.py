"""What imports what: the arrows among the rooms, light entry points, and the torchvision remedy."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> str:
    """Run ``code`` in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import lit_biqa, sys; print(sorted({'torch', 'numpy', 'lightning'} & set(sys.modules)))"
    assert python(code) == "[]"


def test_torchvision_imports_whatever_torch_it_meets() -> None:
    """With a CPU torch the remedy declares the operators; with a fitting pair it does nothing."""
    code = (
        "import lit_biqa, torchvision, torch\n"
        "from lit_biqa import _torchvision as remedy\n"
        "fits = torchvision.extension._has_ops()\n"
        "print(fits == (not remedy._kept), hasattr(torch.ops.torchvision, 'nms'))"
    )
    assert python(code) == "True True"


def test_torchvision_remedy_leaves_existing_operators_alone() -> None:
    code = (
        "import torch, pathlib\n"
        "from lit_biqa import _torchvision as remedy\n"
        "signature = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "library.define('nms' + signature)\n"
        "print(remedy.declare_missing_operators(pathlib.Path('nowhere')))\n"
        "print(remedy.declare_missing_operators(pathlib.Path('nowhere')))"
    )
    assert python(code).splitlines() == ["['qnms']", "[]"]
