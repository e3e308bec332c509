"""Scaling, cropping and normalising as ONNX operations, put before the graph of a scorer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lit_biqa.backbones.transforms import Frame

# In ONNX's text form. Sides are [height, width].
_SIDES = """
    batch_and_channels = Shape <start = 0, end = 2> (images)
    sides = Shape <start = 2, end = 4> (images)
    side = Constant <value_ints = [{side}, {side}]> ()
"""
_SQUASHED = """
    target = Identity(side)
"""
_IN_PROPORTION = """
    shorter = ReduceMin <keepdims = 1> (sides)
    goal = {goal}
    grown = Mul(sides, goal)
    target = Div(grown, shorter)
"""
# Of integers onnxruntime makes what Pillow makes, but for single levels. Pillow weighs the pixels
# inside the image alone, and its bicubic kernel has the coefficient -0.5.
_RESIZED = """
    sizes = Concat <axis = 0> (batch_and_channels, target)
    resized = Resize <mode = "{kind}", antialias = 1, cubic_coeff_a = -0.5, exclude_outside = 1,
        coordinate_transformation_mode = "half_pixel"> (images, , , sizes)
"""
_WHOLE = """
    cropped = Identity(resized)
"""
_CROPPED = """
    size = Constant <value_ints = [{size}, {size}]> ()
    two = Constant <value_ints = [2, 2]> ()
    axes = Constant <value_ints = [2, 3]> ()
    gap = Sub(target, size)
    half = Div(gap, two)
    between = Mod(gap, two)
    uneven = Mod(half, two)
    up = Mul(between, uneven)
    corner = {corner}
    end = Add(corner, size)
    cropped = Slice(resized, corner, end, axes)
"""
_NORMALISED = """
    levels = Cast <to = 1> (cropped)
    most = Constant <value_float = 255.0> ()
    mean = Constant <value = float[3, 1, 1] {{{mean}}}> ()
    std = Constant <value = float[3, 1, 1] {{{std}}}> ()
    shares = Div(levels, most)
    centred = Sub(shares, mean)
    transformed = Div(centred, std)
"""


def prepend_transform(path: Path, frame: Frame) -> None:
    """Let a graph take uint8 images ``images`` ``[B, 3, H, W]`` of any size, not ``pixels``.

    It does what `lit_biqa.backbones.transforms.CentreCrop` does, but for an image so narrow that it
    grows beyond the limit of a picture: all of it is scaled, not its middle.

    Args:
        path: ONNX file of a graph that takes ``pixels``, which is replaced.
        frame: size, scaling and normalisation of the pixels.
    """
    import onnx
    from onnx import compose, parser

    model = onnx.load(path)
    (opset,) = (each.version for each in model.opset_import if not each.domain)
    text = f'<ir_version: {model.ir_version}, opset_import: ["": {opset}]>{_graph(frame)}'
    onnx.save(
        compose.merge_models(parser.parse_model(text), model, [("transformed", "pixels")]), path
    )


def _graph(frame: Frame) -> str:
    """Graph from ``images`` to ``transformed``."""
    parts = [_SIDES.format(side=round(frame.size * (1 + frame.margin)))]
    if frame.mode == "squash":
        parts.append(_SQUASHED)
    else:
        goal = "Min(side, shorter)" if frame.mode == "native" else "Identity(side)"
        parts.append(_IN_PROPORTION.format(goal=goal))
    parts.append(_RESIZED.format(kind="cubic" if frame.bicubic else "linear"))
    if frame.mode == "native":
        parts.append(_WHOLE)
    else:
        corner = "Identity(half)" if frame.mode == "floor" else "Add(half, up)"
        parts.append(_CROPPED.format(size=frame.size, corner=corner))
    parts.append(_NORMALISED.format(mean=_list(frame.mean), std=_list(frame.std)))
    return (
        "transform (uint8[batch, 3, height, width] images)"
        f" => (float[batch, 3, rows, columns] transformed) {{{''.join(parts)}}}"
    )


def _list(values: Sequence[float]) -> str:
    return ", ".join(map(str, values))
