"""The command line as a whole, on a method of two numbers and a CSV of grey images."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import working_in
from PIL import Image

from lit_biqa.__main__ import SUBCOMMANDS, main, unknown
from lit_biqa.cli.main import CLI

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """
model: {class_path: dummy_method.Dummy}
data:
  {train: [grey.csv], val: [grey.csv], test: [grey.csv], loader: {num_workers: 0, batch_size: 8}}
trainer: {max_epochs: 2, accelerator: cpu, enable_model_summary: false}
report: {bootstrap: 0}
"""


def furnish(folder: Path) -> None:
    """24 grey images, their MOS and a recipe."""
    rows = ["image,mos"]
    for i in range(24):
        Image.new("L", (8, 8), 10 * i).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{1 + 4 * i / 23:.4f}")
    (folder / "grey.csv").write_text("\n".join(rows))
    (folder / "a.yaml").write_text(RECIPE)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which one fit has written ``out``."""
    folder = tmp_path_factory.mktemp("fitted")
    furnish(folder)
    with working_in(folder):
        assert run("fit --config a.yaml --run out") == 0
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working directory of a test."""
    furnish(tmp_path)
    with working_in(tmp_path):
        yield tmp_path


@pytest.fixture
def out(fitted: Path, folder: Path) -> Path:
    """A finished run of this test's own, in ``out``."""
    return Path(shutil.copytree(fitted / "out", folder / "out"))


def run(command: str) -> int:
    return main(shlex.split(command))


def load(run: str | Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(Path(run, f"checkpoints/{name}.ckpt"), weights_only=True)
    return content


def same_weights(one: str | Path, other: str | Path, tolerance: float = 0.0) -> bool:
    ours, theirs = load(one)["state_dict"], load(other)["state_dict"]
    return all(torch.allclose(ours[key], theirs[key], rtol=0, atol=tolerance) for key in ours)


def printed(command: str, capsys: pytest.CaptureFixture[str]) -> Any:
    with pytest.raises(SystemExit):
        run(f"{command} --print_config")
    return yaml.safe_load(capsys.readouterr().out)


HELP, WRONG = "usage: lit_biqa", f"error: {unknown('fitt')}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "output", "error"),
    [
        ([], 0, HELP, ""),
        (["-h"], 0, HELP, ""),
        (["--help"], 0, HELP, ""),
        (["--version"], 0, "lit_biqa 0.1.0\n", ""),
        (["fitt"], 2, "", WRONG),
    ],
)
def test_help_and_slips_are_answered_before_anything_heavy(
    arguments: list[str], status: int, output: str, error: str
) -> None:
    code = (
        f"import sys; from lit_biqa.__main__ import main; status = main({arguments!r})\n"
        "assert not {'torch', 'numpy', 'yaml'} & set(sys.modules)\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (status, error)
    assert done.stdout.startswith(output)


def test_static_help_tells_what_there_is() -> None:
    assert list(SUBCOMMANDS) == list(CLI.subcommands())


def test_one_folder_holds_all_that_a_fit_writes(fitted: Path) -> None:
    held = {str(path.relative_to(fitted)) for path in fitted.rglob("*") if path.is_file()}
    wanted = {"config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "shipped.txt"}
    wanted |= {"test/results.csv", "test/predictions.csv", "test/images.csv", "report.html"}
    assert {f"out/{name}" for name in wanted} <= held
    assert [name for name in held if name.startswith("out/events.out.tfevents")]
    assert not [name for name in held if name.endswith(".part")]
    outside = {name for name in held if not name.startswith("out/") and not name.endswith(".png")}
    assert outside == {"a.yaml", "grey.csv"}
    # The best weights alone can be tested; the last hold all that resuming takes.
    assert "optimizer_states" in load(fitted / "out")
    assert "optimizer_states" not in load(fitted / "out", "best")
    assert (fitted / "out/shipped.txt").read_text() == "layer.bias layer.weight"


def test_saved_settings_run_again_as_they_are(out: Path) -> None:
    saved = yaml.safe_load((out / "config.yaml").read_text())
    assert saved["run"] is saved["ckpt_path"] is None
    assert run("fit --config out/config.yaml --run again") == 0
    assert Path("again/config.yaml").read_text() == (out / "config.yaml").read_text()
    assert same_weights("again", out)


def test_a_test_takes_the_best_weights_and_leaves_the_settings_of_the_fit(out: Path) -> None:
    settings, results = (out / "config.yaml").read_text(), (out / "test/results.csv").read_text()
    (out / "checkpoints/last.ckpt").write_text("not looked at")
    assert run("test --config out/config.yaml --run out --data.loader.batch_size 4") == 0
    assert (out / "config.yaml").read_text() == settings
    assert (out / "test/results.csv").read_text() == results
    # The same into a folder of its own.
    assert run("test --config a.yaml --ckpt_path out/checkpoints/best.ckpt --run new") == 0
    assert Path("new/test/results.csv").read_text() == results
    assert Path("new/config.yaml").exists()


@pytest.mark.newest
def test_two_tests_at_once_and_the_fit_before_lose_nothing(out: Path) -> None:
    before = (out / "test/results.csv").read_text().splitlines()
    for name in ("one", "two"):
        rows = Path("grey.csv").read_text()
        Path(f"{name}.csv").write_text(rows)
    commands = [
        f"test --config out/config.yaml --run out --data.test '[{name}.csv]' {more}"
        for name, more in (("one", ""), ("two", "--ckpt_path last"))
    ]
    for process in [start(command) for command in commands]:
        _, error = process.communicate(timeout=200)
        assert process.returncode == 0, error
    after = (out / "test/results.csv").read_text().splitlines()
    assert set(before) <= set(after)
    assert {line.split(",")[0] for line in after[1:]} >= {"grey", "one", "two"}
    assert len((out / "test/predictions.csv").read_text().splitlines()) == 1 + 3 * 24


def test_predictions_lie_in_the_folder_of_the_run(out: Path) -> None:
    assert run("predict --config out/config.yaml --run out --data.predict '[0.png, 1.png]'") == 0
    assert run("predict --config out/config.yaml --run out --data.predict '[1.png, 2.png]'") == 0
    held = (out / "predictions.csv").read_text().splitlines()
    # Each image once, with where it lies; the second call adds one.
    assert [line.split(",")[-2] for line in held[1:]] == [
        str(Path(name).resolve()) for name in ("0.png", "1.png", "2.png")
    ]
    assert run("validate --config out/config.yaml --run out") == 0
    assert "Scored images" in (out / "report.html").read_text()


def test_a_report_that_cannot_be_drawn_fails_no_test(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path) -> Path:
        raise OSError("no room")

    monkeypatch.setattr("lit_biqa.html_report.run_report.write_report", fail)
    assert run("test --config out/config.yaml --run out") == 0
    said = capsys.readouterr()
    assert f"warning: {out.resolve() / 'report.html'} was not drawn: OSError: no room" in said.err
    # That of the fit's test is still there, and is not named as one of this test.
    assert (out / "report.html").exists()
    assert "report.html" not in said.out


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(out: Path) -> None:
    assert run("fit --config a.yaml --run parts --trainer.max_epochs 1 --data.test null") == 0
    assert run("fit --config a.yaml --run parts --ckpt_path last") == 0
    assert same_weights("parts", out)
    assert load("parts")["global_step"] == load(out)["global_step"] == 6
    # The settings on record are those that made the weights.
    assert Path("parts/config.yaml").read_text() == (out / "config.yaml").read_text()


def test_a_fit_of_no_epochs_still_ships_and_tests() -> None:
    assert run("fit --config a.yaml --run out --trainer.max_epochs 0") == 0
    assert Path("out/shipped.txt").exists()
    assert Path("out/test/results.csv").exists()


def test_a_fit_that_limits_its_test_to_no_batch_is_not_tested() -> None:
    short = "--trainer.max_epochs 1 --trainer.limit_test_batches 0"
    assert run(f"fit --config a.yaml --run out {short}") == 0
    assert Path("out/shipped.txt").exists() and not Path("out/test").exists()


def test_unnamed_runs_lie_under_runs(folder: Path) -> None:
    assert run("fit --config a.yaml --trainer.max_epochs 1 --data.test null") == 0
    (made,) = (folder / "runs").iterdir()
    assert re.fullmatch(r"a-\d{8}-\d{6}", made.name)
    assert (made / "config.yaml").exists()
    assert not (made / "test").exists()


def test_a_trial_run_leaves_nothing_behind(folder: Path) -> None:
    before = set(folder.iterdir())
    assert run("fit --config a.yaml --run trial --trainer.fast_dev_run true") == 0
    assert {path for path in folder.rglob("*") if path.is_file()} == before


def test_files_merge_in_order_and_the_command_line_wins(capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.yaml").write_text("data: {loader: {batch_size: 4}}\ntrainer: {max_epochs: 7}")
    command = "fit --trainer.max_epochs 9 --config a.yaml --config b.yaml --data.train '[x, y]'"
    config = printed(command, capsys)
    assert config["data"]["loader"]["batch_size"] == 4
    assert config["data"]["train"] == ["x", "y"]
    assert config["trainer"]["max_epochs"] == 9
    assert config["model"]["class_path"] == "dummy_method.Dummy"
    assert config["seed_everything"] == 0
    assert config["trainer"]["use_distributed_sampler"] is False


def test_another_class_gets_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    config = printed("fit --config a.yaml --model dummy_method.Wide", capsys)
    assert config["model"] == {"class_path": "dummy_method.Wide", "init_args": {"width": 3}}


def test_methods_go_by_their_bare_names(capsys: pytest.CaptureFixture[str]) -> None:
    config = printed("fit --model RALI --model.encoder TinyClip", capsys)
    assert config["model"]["class_path"] == "lit_biqa.methods.rali.RALI"


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "trainer").glob("*.yaml")), ids=str)
def test_trainer_overlays_say_all_that_they_set(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = printed(f"fit --config a.yaml --config {file} --run x", capsys)["trainer"]
    said = yaml.safe_load(file.read_text())["trainer"]
    assert {"accelerator", "devices", "strategy", "precision"} <= set(said)
    for name, value in said.items():
        expected = value["init_args"] if isinstance(value, dict) else value
        found = trainer[name]["init_args"] if isinstance(value, dict) else trainer[name]
        assert (
            found == expected if not isinstance(value, dict) else expected.items() <= found.items()
        )
    if isinstance(said["strategy"], dict):
        sizes = said["strategy"]["init_args"]
        assert sizes["data_parallel_size"] * sizes["tensor_parallel_size"] == said["devices"]


TINY = "--model RALI --model.encoder TinyClip --model.optimizer torch.optim.AdamW"
ERRORS = {
    "fit": "required: fit.model. Name a recipe or a file",
    "fit --config b.yaml": "no configuration file or recipe b.yaml. Nearest: a.yaml",
    "fit --config a.yaml --trainer.max_epoch 3": "Nearest names: trainer.max_epochs",
    "fit --config a.yaml --model.widht 3": "Nearest names: width",
    "fit --config a.yaml --model RALLI": "no class 'RALLI'. Nearest names: RALI",
    "fit --config a.yaml --model nothing.Here": "nothing",
    "fit --config a.yaml --model torch.nn.Linear": "not correspond to a subclass",
    "fit --config a.yaml --model.width three": "width: expected int. Got value: three",
    "fit --config a.yaml --model PortableScorer --model.path x": "nothing to train",
    "fit --config a.yaml --data.train '[koniq]'": "koniq10k",
    "fit --config a.yaml --data.train '[koniq10k]'": "koniq10k",
    "fit --config a.yaml --checkpoint.monitor val/scc": "choose from val/",
    "fit --config a.yaml --trainer.strategy dpp": "dpp",
    "fit --config a.yaml --trainer.val_check_interval 0": "interval is 0: give batches",
    "fit --config a.yaml --trainer.val_check_interval 100": "number of the training batches (3)",
    "fit --config a.yaml --seed_everything -1": "seed_everything is -1: give 0 to 4,294,967,295",
    "fit --config a.yaml --report.bootstrap -1": "report.bootstrap is -1: give 0 or more",
    "fit --config a.yaml --checkpoint.every_n_steps -2": "every_n_steps is -2: give 1 or more",
    "fit --config a.yaml --model.lr -1": "model.optimizer refuses its settings",
    "fit --config a.yaml --watchdog null": "watchdog: 'null' is no settings of it: give some, or",
    f"fit --config a.yaml {TINY} --model.optimizer.lr null": "RALI: optimizer: lr: expected float.",
    f"fit --config a.yaml {TINY} --model.optimizer.lr 1 --model.warmup 3": "model.warmup is 3.0",
    "fit --config a.yaml --run a.yaml": "cannot write to the run folder",
    "fit --config a.yaml --ckpt_path last --run none": "last.ckpt",
    "predict --model PortableScorer --model.path x.safetensors": "x.safetensors: no such scorer",
    "test --config a.yaml": "no weights were named",
    "test --config a.yaml --run none": "best.ckpt (the run folder does not exist)",
    "test --run nothere": "the run folder nothere does not exist",
    "predict --run nothere --data.predict x": "the run folder nothere does not exist",
    "fit --run nothere --ckpt_path last": "the run folder nothere does not exist",
    "test --config a.yaml --ckpt_path a.yaml": "is no checkpoint",
    "test --config a.yaml --ckpt_path none --data.test null": "data.test",
    "predict --config a.yaml --ckpt_path none": "data.predict",
    "validate --config a.yaml --ckpt_path none --trainer.limit_val_batches 0": "limit_val_batches",
    "test --config a.yaml --ckpt_path none --trainer.limit_test_batches 0": "is 0, so nothing",
    "test --config a.yaml --ckpt_path none --trainer.limit_test_batches 0.0": "is 0, so nothing",
    "test --config a.yaml --ckpt_path none --trainer.limit_test_batches 0.001": "limit_test_batche",
    "predict --config a.yaml --ckpt_path none --data.predict 0.png "
    "--trainer.limit_predict_batches 0": "limit_predict_batches is 0",
}


@pytest.mark.parametrize("command", ERRORS)
def test_bad_input_gets_one_clear_error(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert ERRORS[command] in lines[0]
    assert "Traceback" not in error


def test_a_wrong_setting_is_found_in_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.yaml").write_text("trainer: {max_epoch: 3}")
    assert run("fit --config a.yaml --config b.yaml") == 2
    assert "(in b.yaml). Nearest names: trainer.max_epochs" in capsys.readouterr().err


RESUME = "fit --config a.yaml --run out --trainer.max_epochs 3 --ckpt_path last"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit --config a.yaml --run out", "already holds a fit (last.ckpt): resume it with"),
        ("fit --config a.yaml --run out --ckpt_path none", "already holds a fit (last.ckpt)"),
        ("fit --config a.yaml --run out --ckpt_path other.ckpt", "already holds a fit (last.ckpt)"),
        ("fit --config a.yaml --run out --trainer.max_epochs 1 --ckpt_path last", "has reached 2"),
        ("fit --config a.yaml --run out --ckpt_path best", "resume with --ckpt_path last"),
        ("test --config a.yaml --run out --model dummy_method.Wide", "2 of another shape"),
        (f"{RESUME} --model.lr 0.2", "has lr=0.2, but"),
        (f"{RESUME} --model.momentum 0.9", "state of another optimizer than SGD"),
        (f"{RESUME} --model dummy_method.Fixed", "holds the optimizer state of other weights"),
        ("predict --config out/config.yaml --run new", "--ckpt_path out/checkpoints/best.ckpt"),
        ("predict --config out/config.yaml", "--ckpt_path out/checkpoints/best.ckpt"),
    ],
)
def test_a_used_folder_loses_nothing(
    out: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    shutil.copy(out / "checkpoints" / "last.ckpt", "other.ckpt")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run(command) == 2
    assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}


def start(arguments: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-m", "lit_biqa", *shlex.split(arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        # Tests that run in a shell's background inherit that interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_an_interrupted_fit_says_how_to_go_on_and_does(folder: Path) -> None:
    process = start("fit --config a.yaml --run 'my run' --trainer.max_epochs 100000")
    try:
        wait_for(Path("my run/checkpoints/last.ckpt"), process)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, error
    command = f"fit --run '{folder}/my run' --ckpt_path last"
    assert f"stopped by SIGINT: go on with: lit_biqa {command}" in error
    reached = load("my run")["global_step"]
    assert run(f"{command} --trainer.max_steps {reached + 1}") == 0
    assert load("my run")["global_step"] == reached + 1


def test_a_fit_killed_before_it_saved_is_begun_anew(out: Path) -> None:
    settings = (out / "config.yaml").read_text()
    for file in (out / "checkpoints").iterdir():
        file.unlink()
    (out / ".lock").write_text("process 1 on a machine that is off\n")
    assert run("fit --config a.yaml --run out") == 0
    assert (out / "config.yaml").read_text() == settings
    assert not (out / ".lock").exists()


def test_one_fit_at_a_time_in_a_folder(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start("fit --config a.yaml --run busy --trainer.max_epochs 100000")
    try:
        wait_for(Path("busy/checkpoints/last.ckpt"), process)
        for command in ("fit --config a.yaml --run busy", "fit --run busy --ckpt_path last"):
            assert run(command) == 2
            assert f"a fit is running in {Path('busy').absolute()} (process {process.pid} on" in (
                capsys.readouterr().err
            )
    finally:
        process.kill()
        process.communicate()
    # A process that is no more holds nothing.
    steps = load("busy")["global_step"]
    assert run(f"fit --run busy --ckpt_path last --trainer.max_steps {steps}") == 0


def test_a_run_folder_brings_its_settings(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("test --run out") == 0
    assert run("fit --run out --ckpt_path last") == 0
    assert run("fit --run out") == 2
    assert "required: fit.model" in capsys.readouterr().err


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not file.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)


@pytest.mark.newest
def test_two_processes_share_one_unnamed_folder_and_end_as_one_does(
    fitted: Path, folder: Path
) -> None:
    overlay = ROOT / "configs" / "trainer" / "ddp.yaml"
    here = "--trainer.accelerator cpu --trainer.devices 2 --trainer.precision 32-true"
    process = start(f"fit --config a.yaml --config {overlay} {here}")
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    (two,) = (folder / "runs").iterdir()
    assert same_weights(two, fitted / "out", 1e-6)
    # Scores differ in the last digit, ranks and counts do not.
    one_row, two_row = ((r / "test/results.csv").read_text() for r in (fitted / "out", two))
    assert two_row.split(",")[:20] == one_row.split(",")[:20]


@pytest.mark.newest
def test_two_processes_with_the_same_fault_speak_once(folder: Path) -> None:
    process = start(
        "fit --config a.yaml --data.train '[koniq10k]' --trainer.devices 2 --trainer.strategy ddp"
    )
    _, error = process.communicate(timeout=300)
    assert process.returncode == 2
    assert error.count("error: ") == 1
    assert "Traceback" not in error
    assert list((folder / "runs").iterdir()) == []
