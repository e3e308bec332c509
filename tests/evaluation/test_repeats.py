"""Mean and deviation over seeds, by hand; runs that are no repeats are told."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from lit_biqa.cli import compare
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.repeats import is_varied
from lit_biqa.evaluation.report import Result, write_results

CONFIG = """
seed_everything: {seed}
model: {{class_path: a.RALI, init_args: {{head: {{pca: {pca}, seed: {seed}}}}}}}
data: {{loader: {{seed: 0}}}}
"""


def run(folder: Path, seed: int, pca: int, plcc: float, srcc: float, weights: str = "w") -> str:
    (folder / "test").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(seed=seed, pca=pca))
    results = [Result("csiq", "all@1", "image", Correlations(866, 0, plcc, srcc), weights)]
    write_results(folder / "test" / "results.csv", results)
    return str(folder)


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Three seeds of one size, two of another."""
    return [
        run(tmp_path / "pca512_0", 0, 512, 0.80, 0.70),
        run(tmp_path / "pca256_0", 0, 256, 0.75, 0.60),
        run(tmp_path / "pca512_1", 1, 512, 0.82, 0.73),
        run(tmp_path / "pca256_1", 1, 256, 0.77, 0.60),
        run(tmp_path / "pca512_2", 2, 512, 0.84, 0.76),
    ]


# 512: deviations -.02, 0, .02 of PLCC: sqrt(.0008 / 2) = .02; of SRCC -.03, 0, .03: .03.
# 256: -.01, .01: sqrt(.0002 / 1) = .0141; equal SRCC: 0.
BY_HAND = [
    ["pca512_0, pca512_1, pca512_2", "3", "866", "0.8200", "0.0200", "0.7300", "0.0300"],
    ["pca256_0, pca256_1", "2", "866", "0.7600", "0.0141", "0.6000", "0.0000"],
]


def test_mean_and_deviation_over_seeds(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([*runs, "--mean-over", "seed"]) == 0
    printed = capsys.readouterr().out
    assert "over runs that differ in seed" in printed
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert head == ["test", "repeats", "runs", "n", "PLCC", "PLCC sd", "SRCC", "SRCC sd"]
    assert rows == [["csiq", *BY_HAND[0]], ["", *BY_HAND[1]]]


def test_formats_for_programs_and_papers(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    alone = runs[1:3]  # one run of each size has no deviation
    assert compare.main([*runs[:3], "--mean-over", "seed", "--format", "csv"]) == 0
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["runs"], first["PLCC"], first["PLCC sd"]) == ("2", "0.8100", "0.0141")
    assert (second["runs"], second["SRCC"], second["SRCC sd"]) == ("1", "0.6000", "")
    assert compare.main([*runs, "--mean-over", "seed", "--format", "latex"]) == 0
    latex = capsys.readouterr().out
    assert r"pca256\_0, pca256\_1 & 2 & 866 & 0.7600 & 0.0141 & 0.6000 & 0.0000 \\" in latex
    assert compare.main([*alone, "--mean-over", "seed"]) == 2
    assert "no two runs have all settings but seed in common" in capsys.readouterr().err


def test_several_settings_may_vary(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--mean-over", "seed", "--mean-over", "model.head.pca", "--format", "csv"]
    assert compare.main([*runs, *more]) == 0
    [line] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (line["runs"], line["PLCC"]) == ("5", "0.7960")  # 3.98 / 5


def test_runs_that_are_no_repeats_are_told(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = run(tmp_path / "copy", 0, 512, 0.80, 0.70)
    assert compare.main([*runs, again, "--mean-over", "seed"]) == 2
    assert "pca512_0 and " in (error := capsys.readouterr().err)
    assert "copy have the same settings" in error
    results = Path(runs[0]) / "test" / "results.csv"
    line = Result("csiq", "all@1", "image", Correlations(866, 0, 0.8, 0.7), "best")
    write_results(results, [line, replace(line, weights="last")])
    assert compare.main([*runs, "--mean-over", "seed"]) == 2
    assert "pca512_0 was tested with several weights" in capsys.readouterr().err
    assert compare.main([*runs, "--mean-over", "seed", "--baseline", runs[1]]) == 2
    assert "leave out --expected and --baseline" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "varied"),
    [
        ("seed_everything", True),
        ("model.head.seed", True),
        ("report.seed", True),
        ("model.seeding", False),
        ("model.seed.rate", False),
    ],
)
def test_settings_of_seeds(setting: str, varied: bool) -> None:
    assert is_varied(setting, ["seed"]) is varied
    assert not is_varied(setting, ["rali"])
