"""Null, NaN, infinity and numbers out of range are refused where no setting can have them."""

from __future__ import annotations

import math

import pytest
from lightning.pytorch import Trainer

from lit_biqa.callbacks import CorrelationReport
from lit_biqa.cli.setting_values import check_ranges, check_values
from lit_biqa.compat.jsonargparse import Namespace
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.settings import ImageSettings, LoaderSettings, TextSettings
from lit_biqa.runs.checkpoint_callback import RunCheckpoint
from lit_biqa.types import InputError

GROUPS = {"trainer": Trainer, "data": BIQADataModule}
GOOD = {
    "trainer.max_epochs": 1,
    "trainer.gradient_clip_val": None,
    "data.loader.batch_size": 8,
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


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("trainer.accumulate_grad_batches", [1, 8], [0, -1]),
        ("trainer.check_val_every_n_epoch", [None, 1], [0, -1]),
        ("trainer.gradient_clip_val", [None, 0, 0.5], [-1, -0.5]),
        ("trainer.log_every_n_steps", [None, 0, 1], [-1]),
        ("trainer.max_epochs", [None, -1, 0], [-2]),
        ("trainer.val_check_interval", [None, 1, 1.0, 0.25, 7, "00:01:00:00"], [0, 0.0, -1, 1.5]),
        ("seed_everything", [True, False, 0, 2**32 - 1], [-1, 2**32, 99999999999999999999]),
    ],
)
def test_numbers_that_lightning_counts_by_have_a_range(
    name: str, good: list[object], bad: list[object]
) -> None:
    for value in good:
        check_ranges(settings(**{name: value}))
    for value in bad:
        with pytest.raises(InputError, match=f"^{name} is {value}: give "):
            check_ranges(settings(**{name: value}))


@pytest.mark.parametrize(
    ("kind", "group", "bad"),
    [
        (CorrelationReport, "report", {"bootstrap": -1, "seed": -1}),
        (RunCheckpoint, "checkpoint", {"patience": 0, "every_n_steps": -2}),
        (
            LoaderSettings,
            "data.loader",
            {"batch_size": 0, "eval_batch_size": 0, "num_workers": -1, "seed": -1},
        ),
        (TextSettings, "data.texts", {"per_image": 0}),
        (ImageSettings, "data.images", {"max_pixels": 0}),
    ],
)
def test_our_own_numbers_have_a_range(kind: type, group: str, bad: dict[str, int]) -> None:
    for name, value in bad.items():
        with pytest.raises(InputError, match=f"^{group}.{name} is {value}: give "):
            kind(**{name: value})
