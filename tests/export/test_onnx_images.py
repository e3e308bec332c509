"""The transform of a scorer as ONNX operations, against Pillow's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from lit_biqa.backbones.transforms import CentreCrop, Frame
from lit_biqa.export.onnx_images import prepend_transform

#: Width and height. Pillow from 13 on scales some upright images by their height first, which
#: moves single values by more than a level.
SIZES = (90, 61), (200, 133), (97, 97), (300, 40)
LEVEL = 1.05 / 255  # one of 256, and the rounding of floats


def write_identity(path: Path) -> None:
    """A graph that gives back its pixels."""
    shape = ["batch", 3, "h", "w"]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("pixels", "same")
    ]
    node = helper.make_node("Identity", ["pixels"], ["same"])
    graph = helper.make_graph([node], "identity", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def picture(width: int, height: int) -> Image.Image:
    """Coarse and fine structure, and hard edges."""
    rng = np.random.default_rng(width)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    large = np.array(coarse.resize((width, height), Image.Resampling.NEAREST), dtype=np.int16)
    noise = rng.integers(-20, 21, large.shape)
    return Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("mode", ["shortest", "floor", "squash", "native"])
@pytest.mark.parametrize("bicubic", [True, False])
@pytest.mark.parametrize(("size", "margin"), [(50, 0.0), (33, 0.1)])
def test_pixels_are_those_of_the_scorer(
    mode: str, bicubic: bool, size: int, margin: float, tmp_path: Path
) -> None:
    frame = Frame(size, mode, bicubic=bicubic, margin=margin, std=(0.5, 0.25, 1.0))
    write_identity(path := tmp_path / "graph.onnx")
    prepend_transform(path, frame)
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("images", "tensor(uint8)")
    for width, height in SIZES:
        pictures = [
            picture(width, height),
            picture(height, width).transpose(Image.Transpose.ROTATE_90),
        ]
        batch = np.stack([np.asarray(each).transpose(2, 0, 1) for each in pictures])
        (found,) = session.run(None, {"images": batch})
        expected = np.stack([CentreCrop(frame)(each).numpy() for each in pictures])
        apart = np.abs(found - expected) * np.array(frame.std)[:, None, None]
        assert apart.max() <= LEVEL
