"""NIQE and BRISQUE: pyiqa gets whole images and published parameters, and nothing else."""

from __future__ import annotations

import csv
import shlex
import socket
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat
from torch import Tensor

from lit_biqa.__main__ import main
from lit_biqa.compat import pyiqa
from lit_biqa.methods.metric import Metric
from lit_biqa.scoring.metric_parameters import read_brisque, read_niqe
from lit_biqa.types import InputError

SIZES = {"0.png": (120, 100), "1.png": (96, 130), "2.png": (120, 100), "3.png": (200, 97)}
HEAD = ["svm_type epsilon_svr", "kernel_type rbf", "gamma 0.05", "nr_class 2", "total_sv 2"]
MODEL = [*HEAD, "rho -153.5", "SV", "-1024 1:-0.5 36:2 ", "3.5 2:1e-3"]
TAKES = {"niqe": "modelparameters.mat", "brisque": "allmodel"}
REAL = pytest.mark.skipif(find_spec("pyiqa") is None, reason=f"no pyiqa: {pyiqa.REMEDY}")


@pytest.fixture(autouse=True)
def folder(working_folder: Path) -> Path:
    """A working directory with four images of three sizes, the brighter the better."""
    for number, (name, size) in enumerate(SIZES.items()):
        Image.new("RGB", size, (40 * number, 50, 60)).save(name)
    labels = ["image,mos", *(f"{name},{1 + number}" for number, name in enumerate(SIZES))]
    Path("own.csv").write_text("\n".join(labels))
    savemat("modelparameters.mat", {"mu_prisparam": np.ones((1, 36)), "cov_prisparam": np.eye(36)})
    Path("allmodel").write_text("\n".join(MODEL))
    return working_folder


Calls = list[tuple[Tensor, dict[str, Any]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A pyiqa whose scores are the darkness of the red channel; what it was called with."""
    seen: Calls = []

    def score(image: Tensor, **parameters: Any) -> Tensor:
        seen.append((image, parameters))
        return 1 - image[:, 0].mean()

    contents: dict[str, dict[str, Any]] = {
        "pyiqa": {},
        "pyiqa.archs": {},
        "pyiqa.archs.niqe_arch": {"calculate_niqe": score},
        "pyiqa.archs.brisque_arch": {"brisque": score},
        "pyiqa.default_model_configs": {
            "DEFAULT_CONFIGS": {name: {"lower_better": True} for name in TAKES}
        },
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(pyiqa, "version", lambda _: pyiqa.RELEASE)
    return seen


def run(command: str) -> int:
    settings = "--data.loader.num_workers 0 --report.bootstrap 0 --run out"
    return main(shlex.split(f"{command} {settings}"))


def rows(name: str) -> list[dict[str, str]]:
    with Path("out/test", name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", TAKES)
def test_a_whole_image_is_scored_and_higher_is_better(name: str, calls: Calls) -> None:
    command = f"test --config metric/{name} --model.parameters {TAKES[name]} --data.test [own.csv]"
    assert run(f"{command} --data.loader.eval_batch_size 4") == 0
    assert [tuple(image.shape) for image, _ in calls] == [
        (1, 3, height, width) for width, height in SIZES.values()
    ]
    first = np.asarray(Image.open("1.png"), dtype=np.float32) / 255
    assert torch.equal(calls[1][0][0], torch.from_numpy(first).permute(2, 0, 1))
    assert [float(row["score"]) for row in rows("predictions.csv")] == pytest.approx(
        [40 * number / 255 - 1 for number in range(4)], abs=1e-6
    )
    (result,) = rows("results.csv")
    assert (result["n"], result["failures"]) == ("4", "0")
    assert float(result["srcc"]) == pytest.approx(1)


def test_the_precision_of_a_run_moves_no_score(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    def score(image: Tensor, **_: Any) -> Tensor:
        assert (image @ image.mT).dtype == torch.float32
        return 1 - image[:, 0].mean()

    vars(sys.modules["pyiqa.archs.niqe_arch"])["calculate_niqe"] = score
    command = (
        "test --config metric/niqe --model.parameters modelparameters.mat --data.test [own.csv]"
    )
    assert run(f"{command} --trainer.precision bf16-mixed") == 0
    scores = [float(row["score"]) for row in rows("predictions.csv")]
    assert scores == pytest.approx([40 * number / 255 - 1 for number in range(4)], abs=1e-6)
    assert run(f"{command} --trainer.precision bf16-true") == 2
    said = capsys.readouterr().err
    assert "a metric is not computed with trainer.precision=bf16-true: take 32-true" in said


def test_two_metrics_of_a_run_stay_apart(calls: Calls) -> None:
    for name, file in TAKES.items():
        named = f"--model.name {name} --model.parameters {file}"
        assert run(f"test --model Metric {named} --data.test [own.csv]") == 0
    assert len({row["weights"] for row in rows("results.csv")}) == 2
    assert len(rows("predictions.csv")) == 2 * len(SIZES)


def test_images_without_a_score_say_why(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (300, 95)).save("0.png")
    Path("1.png").write_bytes(b"none")
    turns = iter(range(2))

    def score(*_: Any, **__: Any) -> Tensor:
        if next(turns):
            raise torch.linalg.LinAlgError("not finite")  # type: ignore[attr-defined]
        return torch.tensor(torch.nan)

    monkeypatch.setattr(sys.modules["pyiqa.archs.niqe_arch"], "calculate_niqe", score)
    command = "test --model Metric --model.name niqe --model.parameters modelparameters.mat"
    assert run(f"{command} --data.test [own.csv]") == 2
    said = capsys.readouterr().err
    assert "0.png: 300 x 95 pixels are too small for the metric: the shorter side needs 96" in said
    assert run(f"{command} --data.test [own.csv] --data.images.on_bad skip") == 0
    found = [(row["score"], row["status"]) for row in rows("predictions.csv")]
    assert {score for score, _ in found} == {"nan"}
    assert "too small" in found[0][1] and "not an image" in found[1][1]
    assert {status for _, status in found[2:]} == {"niqe has no value for the image"}


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nique",
            "there is no metric 'nique'. Did you mean niqe or brisque? Scores of others enter",
        ),
        ("musiq", "there is no metric 'musiq'. Valid names: brisque, niqe. Scores of others enter"),
    ],
)
def test_another_metric_enters_as_predictions(name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Metric(name, Path("modelparameters.mat"))
    assert message in str(caught.value) and "docs/reproduce.md" in str(caught.value)


def test_the_parameters_are_the_users(calls: Calls) -> None:
    with pytest.raises(
        InputError, match=r"name the parameters of niqe in model.parameters: modelparam"
    ):
        Metric("niqe")
    with pytest.raises(InputError, match=r"absent\.mat: no such file"):
        Metric("niqe", Path("absent.mat"))


def test_without_pyiqa_one_line_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(pyiqa, "version", absent)
    command = "test --model Metric --model.name niqe --model.parameters modelparameters.mat"
    assert run(f"{command} --data.test [own.csv]") == 2
    said = capsys.readouterr().err
    line = "niqe and brisque need the extra metrics: pip install 'lit_biqa[metrics]'."
    assert said == f"error: {line}\n"


def test_another_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyiqa, "version", lambda _: "0.2.0")
    with pytest.raises(InputError, match=r"pyiqa 0\.2\.0 is installed, but only 0\.1\.16 was"):
        Metric("brisque", Path("allmodel"))


# Parameters --------------------------------------------------------------------------------------


def test_support_vectors_are_read() -> None:
    found = read_brisque(Path("allmodel"))
    assert found["coefficients"].tolist() == [-1024, 3.5]
    expected = torch.zeros(2, 36, dtype=torch.float64)
    expected[0, 0], expected[0, 35], expected[1, 1] = -0.5, 2, 1e-3
    assert torch.equal(found["vectors"], expected)
    assert (float(found["gamma"]), float(found["rho"])) == (0.05, -153.5)


def broken(change: Callable[[str], str]) -> Path:
    Path("allmodel").write_text(change("\n".join(MODEL)))
    return Path("allmodel")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SV\n", "", "no model of LIBSVM: it has no line SV"),
        ("rbf", "linear", "no support vector regression with the kernel rbf"),
        ("total_sv 2", "total_sv 3", "has 2 support vectors, not as its line total_sv says"),
        ("gamma 0.05", "gamma", "a line with gamma and a number expected"),
        ("rho -153.5", "rho nan", "a line with rho and a number expected"),
        (" 36:2 ", " 37:2", "line 8: a number and features 1 to 36, such as 1:0.5, expected"),
        (" 36:2 ", " 0:2", "line 8: a number"),
        (" 36:2 ", " -1:2", "line 8: a number"),
        (" 36:2 ", " 36:", "line 8: a number"),
        ("3.5 2", "inf 2", "line 9: a number"),
        ("3.5 2:1e-3", "\n", "line 9: a number"),
    ],
)
def test_a_broken_model_of_brisque(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_brisque(broken(lambda text: text.replace(old, new)))
    assert message in str(caught.value)


def test_files_that_are_no_parameters() -> None:
    with pytest.raises(
        InputError, match=r"allmodel has 17\D[\d,]* bytes, more than the 16,777,216"
    ):
        read_brisque(broken(lambda text: text + " " * 17_000_000))
    with pytest.raises(InputError, match="cannot be read as a MATLAB file"):
        read_niqe(Path("own.csv"))
    savemat("m.mat", {"mu_prisparam": np.ones(35), "cov_prisparam": np.eye(36)})
    with pytest.raises(InputError, match=r"m\.mat: mu_prisparam has 35 values, NIQE's has 36"):
        read_niqe(Path("m.mat"))
    savemat("m.mat", {"mu_prisparam": np.ones(36)})
    with pytest.raises(InputError, match="variable 'cov_prisparam' expected"):
        read_niqe(Path("m.mat"))


def test_published_parameters_are_read(shared: Path) -> None:
    path = shared / "data/params/niqe_live/modelparameters.mat"
    found, published = read_niqe(path), loadmat(path)
    assert np.array_equal(found["mean"], published["mu_prisparam"][0])
    assert np.array_equal(found["covariance"], published["cov_prisparam"])
    svr = read_brisque(shared / "data/params/brisque_live/allmodel")
    assert svr["vectors"].shape == (774, 36)
    # As of every support vector regression: its coefficients are bounded and add up to nothing.
    assert float(svr["coefficients"].abs().max()) == 1024
    assert float(svr["coefficients"].sum()) == pytest.approx(0, abs=1e-6)


# The real pyiqa ----------------------------------------------------------------------------------

# Five distorted images of TID2013, which pyiqa's wheel holds, with the scores of the authors'
# MATLAB code that pyiqa's repository prints (ResultsCalibra/results_official.csv), and by how much
# pyiqa departs from them. The last image has flat areas under noise.
MATLAB = {
    "niqe": {
        "I03": (15.7536293917814, 0.11),
        "I04": (3.65492152353770, 0.001),
        "I06": (3.23547743716998, 0.002),
        "I08": (3.18403333858339, 0.01),
        "I19": (8.63519663862637, 0.45),
    },
    "brisque": {
        "I03": (94.6421, 0.01),
        "I04": (-0.107618, 0.01),
        "I06": (0.992889, 0.1),
        "I08": (5.35827, 0.25),
        "I19": (72.2617, 5.5),
    },
}


@REAL
@pytest.mark.parametrize("name", MATLAB)
def test_scores_are_the_authors(name: str, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("pyiqa opens a connection or a file of weights")

    monkeypatch.setattr(torch, "load", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    metric = Metric(name, shared / "data/params" / f"{name}_live" / TAKES[name])
    for image, (expected, apart) in MATLAB[name].items():
        file = distribution("pyiqa").locate_file(f"ResultsCalibra/dist_dir/{image}.bmp")
        pixels = metric.transform(Image.open(str(file)).convert("RGB"))
        assert metric.score(pixels) == pytest.approx(-expected, abs=apart)


@REAL
def test_niqe_is_that_of_the_front_door(shared: Path) -> None:
    from pyiqa import create_metric

    parameters = shared / "data/params/niqe_live/modelparameters.mat"
    theirs = create_metric("niqe", device="cpu", pretrained_model_path=str(parameters))
    image = distribution("pyiqa").locate_file("ResultsCalibra/dist_dir/I06.bmp")
    metric = Metric("niqe", parameters)
    score = metric.score(metric.transform(Image.open(str(image)).convert("RGB")))
    assert score == -float(theirs(str(image)))


@REAL
@pytest.mark.parametrize("name", MATLAB)
def test_an_image_without_variance_has_no_score(name: str, shared: Path) -> None:
    metric = Metric(name, shared / "data/params" / f"{name}_live" / TAKES[name])
    assert np.isnan(metric.score(metric.transform(Image.new("RGB", (224, 224)))))


@REAL
def test_ranges_of_features_are_the_published(shared: Path) -> None:
    from pyiqa.archs.brisque_arch import scale_features

    lines = (shared / "data/params/brisque_live/allrange").read_text().splitlines()[2:]
    ends = torch.tensor([[float(word) for word in line.split()[1:]] for line in lines])
    assert ends.shape == (36, 2)
    scaled = scale_features(ends.double().T)
    assert torch.allclose(scaled, torch.tensor([[-1.0], [1.0]]).double().expand(2, 36), atol=1e-6)
