"""Shared fixtures: the path of the real data, and few threads for each of two workers."""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Two workers on two cores: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each call is told, not the first of its kind alone, so that Lightning's hide none of ours.
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "all")
# Converted weights and features go to a folder that the end of the tests removes.
if "LIT_BIQA_CACHE" not in os.environ:
    os.environ["LIT_BIQA_CACHE"] = tempfile.mkdtemp(prefix="lit_biqa-cache-")
    atexit.register(shutil.rmtree, os.environ["LIT_BIQA_CACHE"], ignore_errors=True)

import pytest
from hypothesis import HealthCheck, settings

import lit_biqa  # noqa: F401  before torchvision, which it mends

# Mutated inputs of each property test: few, always the same, in every run of the suite; more, each
# within 10 seconds, by `pytest tests/fuzz --hypothesis-profile long`.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "short", max_examples=20, derandomize=True, deadline=None, suppress_health_check=SLOW
)
settings.register_profile("long", max_examples=600, deadline=10_000, suppress_health_check=SLOW)
settings.load_profile("short")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Number of trials of random tests."""
    parser.addoption("--stops", type=int, default=0, help="random stops of each method's fits")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real images, texts and goldens; the test is skipped where it is absent."""
    folder = Path(os.environ.get("LIT_BIQA_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set LIT_BIQA_SHARED to its folder")
    return folder


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """A working directory; and undo what a run tells the processes that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("LIT_BIQA_RUN", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            patch.setenv(name, "")
            patch.delenv(name)
        yield


@pytest.fixture
def working_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty working directory, for commands that run within the test."""
    with working_in(tmp_path):
        yield tmp_path


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is written from now on reaches the disk, as on one that is full."""

    def fail(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
