"""Baseline that sees no image, by hand and on AGIQA-3K's own labels."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from archives import write

from lit_biqa.cli import baseline
from lit_biqa.cli import list as listing
from lit_biqa.data.catalog import load_split
from lit_biqa.data.group_means import group_means
from lit_biqa.types import InputError, Sample


def sample(group: str, mos: float) -> Sample:
    groups = {"generator": group} if group else {}
    return Sample("own", "all", 0, "a.png", None, mos, groups=groups)


def test_test_images_get_the_mean_training_mos_of_their_group() -> None:
    train = [sample("a", 1), sample("a", 2), sample("b", 4), sample("", 5)]
    # Scores 1.5, 4 and, for a group that is not in training, the mean 3 of all four.
    test = [sample("a", 1), sample("b", 5), sample("c", 4)]
    found = group_means(train, test, "generator")
    assert (found.groups, found.unseen, found.images) == (3, 1, 3)
    expected = pandas.Series([1.5, 4, 3]).corr(pandas.Series([1.0, 5, 4]))
    assert (found.plcc, found.srcc) == pytest.approx((expected, 1))


def test_a_constant_has_no_correlation() -> None:
    found = group_means([sample("a", 1), sample("a", 2)], [sample("b", 1), sample("c", 2)], "x")
    assert math.isnan(found.plcc)
    assert math.isnan(found.srcc)


def test_generators_alone_reach_much_of_agiqa_on_its_random_split(shared: Path) -> None:
    """The same as a groupby of the label file, which neither our readers nor formulas touch."""
    train, test = (
        load_split("agiqa3k/random-0", part, shared / "data").samples for part in ("train", "test")
    )
    found = group_means(train, test, "generator")
    assert (found.groups, found.unseen, found.images) == (10, 0, 596)
    assert (found.plcc, found.srcc) == pytest.approx((0.829, 0.726), abs=5e-4)

    frame = pandas.read_csv(shared / "data" / "AGIQA-3K" / "data.csv").set_index("name")
    frame["generator"] = frame.index.str.rsplit("_", n=1).str[0]
    means = frame.loc[[s.name for s in train]].groupby("generator").mos_quality.mean()
    tested = frame.loc[[s.name for s in test]]
    scores = tested.generator.map(means)
    assert found.plcc == pytest.approx(scores.corr(tested.mos_quality))
    assert found.srcc == pytest.approx(scores.corr(tested.mos_quality, method="spearman"))


def test_the_command_prints_each_kind_of_groups(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = ["agiqa3k", "agiqa3k/generator-0", "kadid10k/reference-0"]
    assert baseline.main([*specs, "--root", str(shared / "data")]) == 0
    table, _, note = capsys.readouterr().out.strip().rpartition("\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert rows[0] == ["agiqa3k/random-0", "generator", "10", "596", "0.8288", "0.7261"]
    assert rows[2] == ["agiqa3k/generator-0", "generator", "2, 2 unseen", "596", "-", "-"]
    assert [row[:2] for row in rows[1::2]] == [
        ["agiqa3k/random-0", "prompt"],
        ["agiqa3k/generator-0", "prompt"],
    ]
    assert rows[4][:3] == ["kadid10k/reference-0", "reference", "16, 16 unseen"]
    assert "a constant" in note


def test_a_csv_of_ones_own_with_references(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{i}.png,{1 + i % 4},r{i % 4}" for i in range(80)]
    path = tmp_path / "mine.csv"
    write(path, "image,mos,reference\n" + "\n".join(rows) + "\n")
    assert baseline.main([str(path)]) == 0
    assert "| mine/random-0 | reference |      4 |     16 | 1.0000 | 1.0000 |" in (
        capsys.readouterr().out
    )


def test_a_csv_of_ones_own_with_groups(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = [f"{i}.png,{1 + i % 4},camera {i % 5},r{i % 8}" for i in range(80)]
    write(path, "image,mos,group,reference\n" + "\n".join(rows) + "\n")
    test = load_split(f"{path}/group-0", "test", tmp_path, missing="keep").samples
    assert len({sample.group for sample in test}) == 1
    assert len(test) == 16
    assert {len(sample.groups) for sample in test} == {2}
    titles = [row[:3] for row in baseline.rows_of(f"{path}/reference-0:train", tmp_path)]
    assert titles == [
        ("mine/reference-0:train", "group", "5"),
        ("mine/reference-0:train", "reference", "6"),
    ]


def test_data_sets_without_groups_are_refused_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.csv"
    write(path, "image,mos\na.png,1\nb.png,2\nc.png,2\n")
    assert baseline.main([str(path)]) == 2
    assert "belong to no groups. Data sets with groups: kadid10k" in capsys.readouterr().err
    assert baseline.main(["--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "agiqa3k is left out: AGIQA-3k not found" in error
    assert "no data set with groups lies under" in error
    assert baseline.main(["agiqa3k/reference-0", "--root", str(tmp_path)]) == 2


def test_splits_of_one_data_set_are_counted(shared: Path) -> None:
    rows = listing.split_counts("agiqa3k", shared / "data")
    assert rows[0] == ("split", "train", "val", "test", "groups held out")
    assert {row[0]: row[1:] for row in rows[1:]} == {
        "all": ("2982", "2982", "2982", "-"),
        "random-0": ("2386", "-", "596", "-"),
        **dict.fromkeys(("qalign", "deqa"), ("-", "-", "-", "-")),  # lists that are not there
        "generator-0": ("2386", "-", "596", "2 of 10 generators"),
        "prompt-0": ("2391", "-", "591", "60 of 300 prompts"),
    }
    with pytest.raises(InputError, match="no data set is called"):
        listing.split_counts("agiqa", shared / "data")


def test_the_command_loads_no_torch(shared: Path) -> None:
    code = (
        "import sys; from lit_biqa.cli import baseline; "
        f"assert baseline.main(['agiqa3k', '--root', {str(shared / 'data')!r}]) == 0; "
        "assert 'torch' not in sys.modules and 'PIL' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
