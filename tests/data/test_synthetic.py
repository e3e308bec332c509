from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import file_of
from jsonargparse import auto_cli
from PIL import Image

from lit_biqa.data import synthetic
from lit_biqa.data.distortions import DISTORTIONS
from lit_biqa.data.readers.synthetic import LABELS
from lit_biqa.data.synthetic import SyntheticSettings, folder, generate, samples
from lit_biqa.types import InputError, Sample

SMALL = SyntheticSettings(sources=2, images_per_source=5, size=32, texts=2)
EVERYTHING = SyntheticSettings(sources=3, images_per_source=66, size=48, texts=1)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return samples(generate(tmp_path_factory.mktemp("everything"), EVERYTHING))


def contents(place: Path) -> dict[str, bytes]:
    files = (path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def photographs(place: Path, count: int, width: int = 90, height: int = 60) -> Path:
    place.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"p{i}.png")
    return place


def test_the_same_settings_give_the_same_files(tmp_path: Path) -> None:
    first, second = (contents(generate(tmp_path / name, SMALL)) for name in "ab")
    assert first == second
    assert len(first) == 2 * 5 + 2


def test_more_sources_leave_the_first_ones_as_they_were(tmp_path: Path) -> None:
    few = contents(generate(tmp_path, SMALL))
    many = contents(generate(tmp_path, replace(SMALL, sources=3)))
    assert all(many[name] == data for name, data in few.items() if name.endswith(".png"))


def test_samples_are_whole(tmp_path: Path) -> None:
    found = samples(generate(tmp_path, SMALL))
    assert [sample.index for sample in found] == list(range(10))
    assert {sample.group for sample in found} == {"leaves-000", "leaves-001"}
    assert all(len(set(sample.texts)) == 2 for sample in found)
    for sample in found:
        with Image.open(file_of(sample)) as image:
            assert image.size == (32, 32) and image.mode == "RGB"
        assert 1 <= sample.mos <= 5 and 0 < sample.std < 2
        assert sample.dataset == "synthetic" and file_of(sample).name == sample.name


def test_each_source_has_its_pristine_image_near_five(everything: list[Sample]) -> None:
    pristine = [sample.mos for sample in everything if "-pristine-0" in sample.name]
    assert len(pristine) == 3 and min(pristine) > 4.5


def test_every_type_and_level_occurs_once_per_source(everything: list[Sample]) -> None:
    names = [sample.name for sample in everything]
    expected = [f"{s:03d}-{k}-{n}.png" for s in range(3) for k in DISTORTIONS for n in range(1, 6)]
    assert set(expected) < set(names) and len(set(names)) == len(names) == 3 * 66


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_mos_falls_with_level_up_to_the_raters_noise(kind: str, everything: list[Sample]) -> None:
    for source in range(3):
        start = f"{source:03d}-{kind}-"
        mos = np.array([sample.mos for sample in everything if sample.name.startswith(start)])
        assert len(mos) == 5 and mos.min() >= 1 and mos.max() <= 5
        assert np.diff(mos).max() < 0.2  # two standard errors of a difference, or so
        assert mos[0] - mos[-1] > 0.4 * DISTORTIONS[kind].loss


def test_mos_covers_the_scale(everything: list[Sample]) -> None:
    counts, _ = np.histogram([sample.mos for sample in everything], bins=[1, 2, 3, 4, 5])
    assert counts.min() >= 0.1 * len(everything)


def test_without_texts_there_is_one_empty_row_per_image(tmp_path: Path) -> None:
    place = generate(tmp_path, replace(SMALL, texts=0))
    with (place / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [""] * 10
    assert all(sample.texts == () for sample in samples(place))


def test_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = generate(tmp_path, SMALL)
    monkeypatch.setattr(synthetic, "_write", lambda *_: pytest.fail("made again"))
    assert generate(tmp_path, SMALL) == place == folder(tmp_path, SMALL)


def test_other_settings_lie_in_other_folders(tmp_path: Path) -> None:
    others = [
        replace(SMALL, sources=3),
        replace(SMALL, images_per_source=6),
        replace(SMALL, size=33),
        replace(SMALL, texts=1),
        replace(SMALL, seed=1),
        replace(SMALL, pristine=str(photographs(tmp_path / "photographs", 1))),
    ]
    assert len({folder(tmp_path, settings) for settings in [SMALL, *others]}) == 7


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(pixels: object, path: Path) -> None:
        path.write_bytes(b"begun")
        if len(list(path.parent.iterdir())) >= 7:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "_save", fails)
    with pytest.raises(OSError, match="No space left"):
        generate(tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_race_has_one_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = synthetic._write

    def slowly(draft: Path, settings: SyntheticSettings) -> None:
        write(draft, settings)
        monkeypatch.setattr(synthetic, "_write", write)
        generate(tmp_path, settings)  # another process is done first

    monkeypatch.setattr(synthetic, "_write", slowly)
    place = generate(tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == [place] and len(samples(place)) == 10


def test_an_altered_label_is_told_and_a_set_without_a_digest_is_read(tmp_path: Path) -> None:
    place = generate(tmp_path, SMALL)
    labels, settings = place / "labels.csv", place / "settings.json"
    labels.write_text(labels.read_text().replace(" is ", " was ", 1))
    with pytest.raises(InputError, match=r"labels\.csv: its content differs from the digest"):
        samples(place)
    settings.write_text(json.dumps({**json.loads(settings.read_text()), LABELS: None}))
    assert len(samples(place)) == 10
    kept = json.loads(settings.read_text())
    del kept[LABELS]
    settings.write_text(json.dumps(kept))
    assert generate(tmp_path, SMALL) == place and len(samples(place)) == 10


@pytest.mark.parametrize("settings", ["{}", "not JSON"])
def test_an_altered_folder_is_refused(tmp_path: Path, settings: str) -> None:
    place = generate(tmp_path, SMALL)
    (place / "settings.json").write_text(settings)
    with pytest.raises(InputError, match=rf"{place.name}.*Remove it"):
        generate(tmp_path, SMALL)


def test_photographs_in_place_of_leaves(tmp_path: Path) -> None:
    pristine = photographs(tmp_path / "photographs", 3)
    place = generate(tmp_path, replace(SMALL, size=60, pristine=str(pristine)))
    found = samples(place)
    assert [s.group for s in found] == ["p0.png"] * 5 + ["p1.png"] * 5  # at most `sources`
    with Image.open(pristine / "p0.png") as photograph:
        centre = np.asarray(photograph)[:, 15:75]  # 90 x 60: the square needs no resizing
    np.testing.assert_array_equal(np.asarray(Image.open(file_of(found[0]))), centre)


def test_fewer_photographs_than_sources_are_all_used(tmp_path: Path) -> None:
    settings = replace(SMALL, pristine=str(photographs(tmp_path / "photographs", 1)))
    assert {s.group for s in samples(generate(tmp_path, settings))} == {"p0.png"}


def test_a_changed_photograph_makes_another_set(tmp_path: Path) -> None:
    pristine = photographs(tmp_path / "photographs", 1)
    settings = replace(SMALL, pristine=str(pristine))
    before = folder(tmp_path, settings)
    Image.new("RGB", (90, 60)).save(pristine / "p0.png")
    assert folder(tmp_path, settings) != before


def test_photographs_too_small_are_named(tmp_path: Path) -> None:
    pristine = photographs(tmp_path / "photographs", 1, width=200, height=50)
    settings = replace(SMALL, size=64, pristine=str(pristine))
    with pytest.raises(InputError, match=r"p0\.png is 200 x 50 pixels"):
        generate(tmp_path / "root", settings)
    assert list((tmp_path / "root").iterdir()) == []


def test_photographs_that_are_absent_or_unreadable_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        generate(tmp_path, replace(SMALL, pristine=str(tmp_path / "empty")))
    with pytest.raises(InputError, match="nowhere"):
        generate(tmp_path, replace(SMALL, pristine=str(tmp_path / "nowhere")))
    (tmp_path / "empty" / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.png"):
        generate(tmp_path, replace(SMALL, pristine=str(tmp_path / "empty")))


@pytest.mark.parametrize(
    ("name", "value"),
    [("sources", 0), ("images_per_source", 67), ("size", 31), ("texts", -1), ("seed", -1)],
)
def test_settings_out_of_range_are_refused(name: str, value: int) -> None:
    change: dict[str, Any] = {name: value}
    with pytest.raises(InputError, match=f"{name} is {value}; give a number from"):
        replace(SMALL, **change)


def test_settings_can_be_given_on_a_command_line() -> None:
    found = auto_cli(SyntheticSettings, args=["--sources=3", "--pristine=photographs"])
    assert found == SyntheticSettings(sources=3, pristine="photographs")
