"""Settings that make a recipe small, and leave all else of it as it is."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inputs import FIELD, SPLIT, TEXTS

from lit_biqa.cli.class_paths import imported
from lit_biqa.data.protocols import expanded

Settings = dict[str, Any]
_BUDGET = 16  # tokens of an answer
_STEPS = 2
_IMAGES = 24  # of each data set
# The head keeps its size, up to 700 dimensions and 250 prototypes, so that more images are needed.
_IMAGES_OF_RALI = 900
_CONVERSATIONS = {"samples": 64, "train": 48}
_CHECKPOINTS = {"QwenVL": "qwen", "MplugOwl2": "owl"}


def small(settings: Settings, inputs: Path, root: Path) -> Settings:
    """Settings to lay over a recipe.

    Two steps on 24 images of each data set, answers of 16 tokens, and weights at random; paradigm,
    prompts, rewards, readouts, conditions and optimizer stay. Weights of an earlier run, such as
    ``runs/q_insight/weights``, stay too.

    Args:
        settings: merged settings of the recipe.
        inputs: folder of `inputs.write`.
        root: folder of the data sets.
    """
    model = settings["model"]
    kind = model["class_path"].rpartition(".")[2]
    init = model.get("init_args", {})
    if kind == "RALI":
        changed = _encoder()
    elif kind == "Predictions":
        changed = _predictions(init, inputs, root)
    elif kind == "Metric":
        changed = {"parameters": str(root / Path(init["parameters"]).relative_to("data"))}
    else:
        changed = _chat(init, inputs)
    data = _data(settings["data"], inputs, root) | {"limit": _IMAGES}
    if "columns" in changed:  # published predictions at hand are of AGIQA-3K
        data |= {"test": [f"agiqa3k/{SPLIT}"]}
    if kind == "RALI":
        data |= {"limit": _IMAGES_OF_RALI, "loader": data["loader"] | {"batch_size": 128}}
    return {
        "model": {"class_path": model["class_path"], "init_args": changed},
        "data": data,
        "report": {"bootstrap": 0},
        **({} if kind in ("Predictions", "Metric") else {"trainer": _trainer(settings, kind)}),
    }


def _trainer(settings: Settings, kind: str) -> Settings:
    small = {"accelerator": "cpu", "devices": 1, "precision": "32-true", "log_every_n_steps": 1}
    if kind == "RALI":
        return small | {"max_epochs": min(settings["trainer"]["max_epochs"], 1)}
    return small | {"max_steps": _STEPS}


def _encoder() -> Settings:
    """CLIP's shared space has 768 dimensions; so has this one."""
    tiny = {"dim": 768, "size": 32, "crop": 1.0}
    return {"encoder": {"class_path": "lit_biqa.backbones.tiny.TinyClip", "init_args": tiny}}


def _predictions(init: Settings, inputs: Path, root: Path) -> Settings:
    if init.get("dataset"):
        # labels of LIVE-W are whole, its images at hand are not, and only these have scores
        return {"path": str(inputs / "scores.csv"), "coverage": 0.4}
    columns = {"image": "overall_score", "text": "reasoning_score"}
    return {"path": str(root / "predictions" / "v13_agiqa.csv"), "columns": columns}


def _chat(init: Settings, inputs: Path) -> Settings:
    backbone = init["backbone"]
    kind = backbone["class_path"].rpartition(".")[2]
    changed: Settings = {} if kind == "MplugOwl2" else {"max_pixels": 112 * 112}
    if not backbone["init_args"]["pretrained"].startswith(("runs/", "checkpoints/")):
        changed["pretrained"] = str(inputs / _CHECKPOINTS[kind])
    small: Settings = {
        "backbone": {"class_path": backbone["class_path"], "init_args": changed},
    }
    if "readouts" in init:
        small["readouts"] = [_readout(readout) for readout in init["readouts"]]
    if "sampling" in init:
        small["sampling"] = init["sampling"] | {"budget": _BUDGET}
    if scored := init.get("task", {}).get("init_args", {}).get("scored"):
        small["task"] = {"init_args": {"scored": _stand_ins(scored)}}
    return small


def _readout(readout: Settings) -> Settings:
    """A readout whose answers are short, where it writes any."""
    init = readout.get("init_args", {})
    takes = inspect.signature(imported(readout["class_path"], "readouts")).parameters
    if "sampling" not in takes:
        return readout
    sampling = init.get("sampling", {}) | {"budget": _BUDGET}
    return readout | {"init_args": init | {"sampling": sampling}}


def _data(data: Settings, inputs: Path, root: Path) -> Settings:
    small: Settings = {
        "root": str(root),
        "images": {"missing": "skip"},
        "loader": {"batch_size": 4, "eval_batch_size": 24, "num_workers": 0},
    }
    for part in ("train", "test"):
        if data.get(part):
            small[part] = _specs(expanded(data[part], part), inputs)
    if data.get("sets", {}).get("conversations"):
        files = {"file": str(inputs / "conversations.json"), "images": str(root / "AGIQA-3K")}
        small["sets"] = {"conversations": files | _CONVERSATIONS}
    texts = data.get("texts") or {}
    if texts.get("files"):
        named = _stand_ins(Path(file).stem.removeprefix("ract_") for file in texts["files"])
        small["texts"] = {"files": [TEXTS[name] for name in named], "fields": [FIELD]}
    if texts.get("annotations"):
        small["texts"] = {"annotations": str(inputs / "annotations.json")}
    return small


def _specs(listed: Sequence[str], inputs: Path) -> list[str]:
    """``[spaq/all, data/degradations.csv]`` -> ``[livew/random-0, INPUTS/degradations.csv]``."""
    found = []
    for spec in listed:
        if spec.endswith(".csv"):
            found.append(str(inputs / Path(spec).name))
        elif spec == "conversations":
            found.append(spec)
        else:
            found += [f"{name}/{SPLIT}" for name in _stand_ins([spec.partition("/")[0]])]
    return list(dict.fromkeys(found))


def _stand_ins(names: Iterable[str]) -> list[str]:
    """AGIQA-3K in the place of KonIQ and of itself, LIVE-W in that of all others."""
    ours = ("agiqa3k" if name.startswith(("koniq", "agiqa3k")) else "livew" for name in names)
    return list(dict.fromkeys(ours))
