"""Null, NaN and infinity are refused where no setting can have them."""

from __future__ import annotations

import math

import pytest
from lightning.pytorch import Trainer

from lit_biqa.compat.jsonargparse import Namespace
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.setting_values import check_values
from lit_biqa.types import InputError

GROUPS = {"trainer": Trainer, "data": BIQADataModule}
GOOD = {
    "trainer.max_epochs": 1,
    "trainer.gradient_clip_val": None,
    "data.batch_size": 8,
    "data.train": None,
    "model.class_path": "lit_biqa.methods.rali.RALI",
    "model.init_args.warmup": 0.1,
    "model.init_args.scorer": None,
    "model.init_args.head.lr": 0.1,
    "model.init_args.head.holdout": 0.1,
    "model.init_args.encoder.class_path": "lit_biqa.backbones.tiny.TinyClip",
    "model.init_args.encoder.init_args.width": 4,
    "model.init_args.optimizer.class_path": "torch.optim.AdamW",
    "model.init_args.optimizer.init_args.lr": 0.1,
    "model.init_args.optimizer.init_args.fused": None,
}
NUMBERS = [name for name, value in GOOD.items() if isinstance(value, (int, float))]


def settings(**changed: object) -> Namespace:
    """Parsed settings with some of them changed."""
    made = Namespace()  # type: ignore[no-untyped-call]
    for name, value in {**GOOD, **changed}.items():
        made[name] = value
    return made


def test_null_passes_where_a_setting_is_an_option() -> None:
    check_values(settings(), GROUPS)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [n for n in NUMBERS if n != "trainer.max_epochs"])
def test_no_number_is_null_or_not_finite(name: str, value: float | None) -> None:
    with pytest.raises(InputError) as caught:
        check_values(settings(**{name: value}), GROUPS)
    assert str(caught.value).startswith(name.replace(".init_args", "") if value is None else name)


@pytest.mark.parametrize("name", GROUPS)
def test_no_group_is_null(name: str) -> None:
    made = settings()
    made[name] = None
    with pytest.raises(InputError, match=f"{name} is null"):
        check_values(made, GROUPS)
