"""PIPAL (Gu et al. 2020): 225 references, 24,200 restored and distorted patches with Elo scores.

Elo is unbounded: the validation scores leave the range of the training scores on both sides. Low
and high are therefore taken over both, so that every MOS lies on [1, 5]. Each reference has one
text file without header; there are no deviations. The challenge's test labels are not public.
"""

from __future__ import annotations

from pathlib import Path

from lit_biqa.data.readers.disk import descend
from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import separated_rows
from lit_biqa.types import InputError

LABELS = {"train": ("Train_Label", "MOS_Scores_train"), "val": ("Val_Label", "MOS_Scores_valid")}


def read(folder: Path) -> list[Label]:
    """Labels from the text files of the training part and, if present, the validation part.

    Raises:
        InputError: if no label folder is found.
    """
    labels = []
    for part, names in LABELS.items():
        folders = [path for path in (descend(folder, name) for name in names) if path]
        for path in sorted(folders[0].glob("*.txt")) if folders else []:
            for row in separated_rows(path, ("name", "Elo score"), ","):
                name = row.text("name")
                score, reference = row.number("Elo score"), name.partition("_")[0]
                labels.append(Label(name, score, groups={"reference": reference}, part=part))
    if not labels:
        raise InputError(
            f"{folder} has no label files Train_Label/*.txt. Unpack Train_Label.zip there."
        )
    return labels


ENTRY = Entry(
    name="pipal",
    title="PIPAL",
    source="https://github.com/HaomingCai/PIPAL-dataset",
    folders=("PIPAL",),
    images=(
        (*(f"Distortion_{i}" for i in (1, 2, 3, 4)), "Train_Dist", "Val_Dist", "Distortion_valid"),
        (*(f"Distortion/Distortion_{i}" for i in (1, 2, 3, 4)), "Distortion_valid"),
    ),
    read=read,
    count=24200,
    low=868.2988,
    high=1857.0,
    groups=("reference",),
    split="official",
    parts={"official": {"train": ("train",), "val": ("val",)}},
    lists={"deqa": {"train": "train_pipal_19k.json", "test": "test_pipal_5k.json"}},
    digest="29edc757",
    portions={"68eecc22": 23200},  # Train_Label.zip alone
)
