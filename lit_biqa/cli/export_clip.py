"""Write the CLIP of a RALI scorer as transformers reads it, for use elsewhere.

    lit_biqa export-clip runs/rali --out clip_image
    lit_biqa export-clip runs/rali --out clip --text openai/clip-vit-large-patch14-336

A scorer holds the image tower alone, which becomes a CLIPVisionModelWithProjection. With --text the
frozen text tower of the starting weights goes with it, and both become a CLIPModel.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_biqa.backbones.hf_clip_folder import describe, read_clip, write_clip
from lit_biqa.backbones.transforms import Frame
from lit_biqa.cli.errors import guard
from lit_biqa.scoring.scorer import load_scorer
from lit_biqa.types import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder; the exit status is 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa export-clip",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scorer", help="scorer file, or the folder of its run")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument(
        "--text", metavar="CLIP", help="folder or hub name of the CLIPModel that RALI started from"
    )
    options = parser.parse_args(arguments)
    return guard(lambda: _export(options.scorer, options.out, options.text))


def _export(path: str, out: Path, text: str | None) -> None:
    scorer = load_scorer(path)
    if scorer.encoder["kind"] != "open_clip":
        raise InputError(f"{path} is a scorer of kind {scorer.encoder['kind']}, not of a CLIP")
    config = {name: value for name, value in scorer.encoder["config"].items() if name != "text_cfg"}
    weights = {f"visual.{name}": value for name, value in scorer.tower.state_dict().items()}
    if text is not None:
        theirs, _ = describe(text)
        _check_same(path, config, text, theirs)
        config["text_cfg"] = theirs["text_cfg"]
        weights = read_clip(text, theirs).state_dict() | weights
    write_clip(out, weights, config, Frame(**scorer.encoder["frame"]))
    print(f"CLIP: {out}")


def _check_same(path: str, ours: dict[str, Any], text: str, theirs: dict[str, Any]) -> None:
    """Refuse another space, in which a text would mean something else."""
    if (ours["embed_dim"], bool(ours.get("quick_gelu"))) != (
        theirs["embed_dim"],
        theirs["quick_gelu"],
    ):
        raise InputError(
            f"{path} and {text} differ in dimensions or activation: name the weights that RALI "
            "started from"
        )
