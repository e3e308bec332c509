"""Settings laid flat."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_biqa.evaluation.hyperparameters import flatten, read_hyperparameters
from lit_biqa.types import InputError

CONFIG = """
seed_everything: 3
run: runs/one
ckpt_path: null
model:
  class_path: lit_biqa.methods.rali.RALI
  init_args:
    encoder: {class_path: lit_biqa.backbones.tiny.Tiny, init_args: {width: 32}}
    head: {bases: 240, whiten: null}
data: {train: [agiqa3k, koniq10k/official], loader: {batch_size: 64}}
trainer:
  default_root_dir: runs/one
  logger: {class_path: a.TensorBoardLogger, init_args: {save_dir: x}}
  callbacks:
  - {class_path: a.Swap, init_args: {start: 2}}
  - {class_path: b.Swap}
  - {lone: 1}
"""


def test_flat_settings_of_a_run_without_its_places(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    assert read_hyperparameters(tmp_path) == {
        "seed_everything": 3,
        "model": "RALI",
        "model.encoder": "Tiny",
        "model.encoder.width": 32,
        "model.head.bases": 240,
        "model.head.whiten": None,
        "data.train": "agiqa3k, koniq10k/official",
        "data.loader.batch_size": 64,
        "trainer.callbacks.Swap": "Swap",
        "trainer.callbacks.Swap.start": 2,
        "trainer.callbacks.Swap1": "Swap",
        "trainer.callbacks.2.lone": 1,
    }


def test_values_yaml_has_and_loggers_have_not_become_text() -> None:
    assert flatten({"a": Path("x") / "y", "b": [], "c": True}) == {"a": "x/y", "b": "", "c": True}


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "name the run folder"), ("- 1", "holds no settings"), ("a: [", "no YAML")],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: str | None, why: str) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=why) as raised:
        read_hyperparameters(tmp_path)
    assert str(tmp_path / "config.yaml") in str(raised.value)
