"""KonIQ-10k (Hosu et al. 2020): 10,073 photographs.

Two label files are in use, with different meanings of "MOS": z-scores scaled to 0..100 in
``koniq10k_distributions_sets.csv`` (which also names the split), means of ratings on 1..5 in
``koniq10k_scores_and_distributions.csv`` (whose z-scores are ``MOS_zscore``). SD is on 1..5 in
both. This reader takes the z-scores, like the papers that we compare with, and converts SD to their
scale by the ratio of the two ranges, so that both are on [1, 5] in a sample: std = 4 SD / (4.31 -
1.0961538), DeQA-Score's rule on the scale of the ratings. The archive holds 10,373 images, so the
label file is the list, never the folder.
"""

from __future__ import annotations

from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import Row, csv_rows, existing
from lit_biqa.types import InputError

FILES = ("koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv")
ZSCORE = (3.91176470588, 88.3888888889)  # lowest and highest over all 10,073 images
RATING = (1.0961538461536, 4.31)  # the same for the mean rating, sum of i times c_i
PARTS = ("training", "validation", "test", None)  # None: the file that names no split
LARGEST_SD = 2.1  # at most 2 on 1..5, and slightly more for division by n - 1


def read(folder: Path) -> list[Label]:
    """Labels: MOS as z-score, std on the same scale.

    Raises:
        InputError: if SD is on another scale than the file's name promises, or ``set`` is unknown.
    """
    path = existing(folder, *FILES)
    rows = list(csv_rows(path, ("image_name", "MOS", "SD")))
    mos = "MOS_zscore" if rows and "MOS_zscore" in rows[0].cells else "MOS"
    return [_label(row, mos) for row in rows]


def _label(row: Row, mos: str) -> Label:
    deviation = row.number("SD", least=0.0)
    if deviation > LARGEST_SD:
        raise InputError(
            f"{row.place}: SD is {deviation:g}, beyond what ratings on 1..5 can have. "
            f"Take {FILES[0]} as its authors publish it."
        )
    ratio = (ZSCORE[1] - ZSCORE[0]) / (RATING[1] - RATING[0])
    part = row.text("set") if "set" in row.cells else None
    if part not in PARTS:
        raise InputError(
            f"{row.place}: set is {part!r:.60}, training, validation or test is expected. "
            f"Take {FILES[0]} as its authors publish it."
        )
    return Label(row.text("image_name"), row.number(mos), deviation * ratio, part=part)


ENTRY = Entry(
    name="koniq10k",
    title="KonIQ-10k",
    source="https://database.mmsp-kn.de/koniq-10k-database.html "
    "(koniq10k_distributions_sets.csv: https://github.com/subpic/koniq, metadata/)",
    folders=("koniq10k",),
    images=(("1024x768",), ("512x384",)),
    read=read,
    count=10073,
    low=ZSCORE[0],
    high=ZSCORE[1],
    split="official",
    parts={
        "official": {"train": ("training",), "val": ("validation",), "test": ("test",)},
        # The papers we compare with test on both parts that are not for training.
        "paper3015": {"train": ("training",), "test": ("validation", "test")},
    },
    lists={
        "qalign": {"train": "train_koniq.json", "test": "test_koniq.json"},
        "deqa": {"train": "train_koniq_7k.json", "test": "test_koniq_2k.json"},
    },
    digest="41241f89",
    unmeasured=lambda labels: all(label.part is None for label in labels),  # FILES[1]
)
