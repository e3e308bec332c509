"""Protocols of the papers: their counts by the label files, and their names in settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_biqa.data.catalog import find, load_split, parse
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.protocols import PROTOCOLS, expanded
from lit_biqa.types import InputError


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_list_is_a_split(name: str) -> None:
    for part in ("train", "test"):
        for spec in expanded([f"protocol/{name}"], part):
            dataset, split, asked = parse(spec, part)
            if dataset != "conversations":
                entry, plain = find(dataset).at(split)
                known = entry.lists.get(plain) or entry.parts.get(plain) or {asked: ""}
                assert asked in known


def test_counts_are_those_of_the_papers(shared: Path) -> None:
    """KonIQ 3,015, KADID 10,125, LIVE-W 1,169, AGIQA 2,982, CSIQ 866: the published predictions."""
    counts = {
        parse(spec, "test")[0]: len(load_split(spec, "test", shared / "data", "keep").samples)
        for spec in expanded(["protocol/pure_textual_reasoning"], "test")
        if not spec.startswith("spaq")
    }
    expected = {"koniq10k": 3015, "kadid10k": 10125, "livew": 1169, "agiqa3k": 2982, "csiq": 866}
    assert counts == expected


def test_lists_of_reasoning_as_representation(shared: Path, tmp_path: Path) -> None:
    """KonIQ 2,010 and KADID 2,000, all of LIVE-W, AGIQA-3K, CSIQ and TID2013."""
    for name in (*(p.name for p in (shared / "data").iterdir()), "splits"):
        if name != "splits":
            (tmp_path / name).symlink_to(shared / "data" / name)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/qalign").symlink_to(shared / "data/splits/splits_qalign")
    counts = {}
    for spec in expanded(["protocol/reasoning_as_representation_mixed"], "test"):
        if not spec.startswith(("spaq", "pipal")):  # whose label files are not there
            counts[parse(spec, "test")[0]] = len(load_split(spec, "test", tmp_path, "keep").samples)
    assert counts == {
        **{"koniq10k": 2010, "kadid10k": 2000, "livew": 1169},
        **{"agiqa3k": 2982, "csiq": 866, "tid2013": 3000},
    }


def test_a_protocol_stands_beside_data_sets() -> None:
    data = BIQADataModule(test="protocol/reasoning_as_representation")
    assert data.specs["test"] == list(PROTOCOLS["reasoning_as_representation"].test)
    data = BIQADataModule(train=["protocol/pure_textual_reasoning", "own.csv"], test=["spaq"])
    assert data.specs["train"] == ["koniq10k/paper3015-512x384", "own.csv"]
    assert data.specs["test"] == ["spaq"]


@pytest.mark.parametrize(
    ("spec", "part", "message"),
    [
        ("protocol/pure_textual", "test", "there is no protocol/pure_textual. Did you mean pure_"),
        ("protocol/pure_textual_reasoning", "val", "is for data.train and data.test alone"),
    ],
)
def test_what_is_no_protocol_is_refused(spec: str, part: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        expanded([spec], part)
