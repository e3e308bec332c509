"""A model of other sizes than the goldens' against a restatement that shares no code with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from owls import mini, mini_config, pictures, random_model
from restatement import Restatement

# Two images, one image, none: every row of another length once its images are in.
ROWS = [[1, 9, -200, 30, -200, 12], [1, -200, 44, 45, 46, 47, 48], [1, 5, 60, 8]]
IMAGES_OF = [slice(0, 2), slice(2, 3), slice(3, 3)]


@pytest.fixture(scope="module")
def expected() -> list[torch.Tensor]:
    model = mini()
    plain = Restatement(model.state_dict(), model.config.to_dict())
    return [
        plain.logits(row, pictures(3)[which]).float()
        for row, which in zip(ROWS, IMAGES_OF, strict=True)
    ]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mixed_batch(expected: list[torch.Tensor], side: str, implementation: str) -> None:
    model = mini()
    model.set_attn_implementation(implementation)
    longest = max(map(len, ROWS))
    pads = [[0] * (longest - len(row)) for row in ROWS]
    ids = [pad + row if side == "left" else row + pad for row, pad in zip(ROWS, pads, strict=True)]
    mask = torch.tensor(ids).ne(0)
    with torch.no_grad():
        spliced = model.model.splice(torch.tensor(ids), mask, pictures(3))
        output = model(input_ids=torch.tensor(ids), attention_mask=mask, images=pictures(3))
    model.set_attn_implementation("sdpa")
    for row, logits in enumerate(output.logits):
        real = logits[spliced.attention_mask[row].bool()]
        torch.testing.assert_close(real, expected[row], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rope_theta", {"rope_theta": 10000.0}),
        ("rms_norm_eps", {"rms_norm_eps": 1e-6}),
        ("layer_norm_eps", {}),
    ],
)
def test_the_comparison_sees_constants(
    expected: list[torch.Tensor], name: str, change: dict[str, Any]
) -> None:
    """Each of these numbers, taken from elsewhere than the configuration, would show."""
    config = mini_config(**change)
    if name == "layer_norm_eps":
        config.visual_config["visual_abstractor"]["layer_norm_eps"] = 1e-6
    model = random_model(config)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(ROWS[:1]), images=pictures(2)).logits
    assert (logits[0] - expected[0]).abs().max() > 1e-3
