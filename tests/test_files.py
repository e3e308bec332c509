"""Files written where others may write too, and what is no file at all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_biqa.backbones.clip import OpenClip
from lit_biqa.backbones.tiny_chat import words_of
from lit_biqa.cli.config_files import merge_arguments
from lit_biqa.data.embeddings import read_embeddings
from lit_biqa.data.readers import csv_file
from lit_biqa.data.texts import json_items
from lit_biqa.evaluation.report import read_results
from lit_biqa.io.files import draft, refuse_special, replacing, whole
from lit_biqa.methods.predictions_file import Predictions
from lit_biqa.scoring.scorer import load_scorer
from lit_biqa.types import InputError


@pytest.mark.parametrize("name", [".results.csv.part", "results.csv"])
def test_a_planted_link_leads_no_writing_elsewhere(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / name).symlink_to(victim)
    with replacing(shared / "results.csv") as part:
        part.write_text("results")
    assert victim.read_text() == "mine"
    assert (shared / "results.csv").read_text() == "results"
    assert not (shared / "results.csv").is_symlink()


def test_a_name_that_is_taken_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_biqa.io.files.secrets.token_hex", lambda count: "0" * 2 * count)
    victim = tmp_path / "victim"
    (tmp_path / ".00000000.x.part").symlink_to(victim)
    with pytest.raises(OSError, match="exists"), whole(tmp_path / "x") as part:
        part.write_text("never")
    assert not victim.exists()


def test_files_have_the_permissions_that_the_user_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with whole(tmp_path / "written") as part:
        part.write_text("")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


KILLED = """
import os, pathlib, signal
from lit_biqa.io.files import draft, whole
place = pathlib.Path("PLACE")
with draft(place / "set") as made, whole(place / "x") as part:
    (made / "image").write_text("half")
    part.write_text("half")
    print("writing", flush=True)
    WAIT
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A folder in which a process was killed while it wrote a file and a folder."""
    code = KILLED.replace("PLACE", str(tmp_path)).replace(
        "WAIT", "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    return tmp_path


def test_what_a_killed_process_left_is_removed_by_the_next(killed: Path) -> None:
    with draft(killed / "set") as made, whole(killed / "x") as part:
        part.write_text("entire")
        made.rename(killed / "set")
    assert {path.name for path in killed.iterdir()} == {"set", "x"}
    assert list((killed / "set").iterdir()) == []


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Path]:
    """A folder in which another process writes a file and a folder."""
    code = KILLED.replace("PLACE", str(tmp_path)).replace("WAIT", "input()")
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield tmp_path
        process.kill()


def test_what_a_living_process_writes_is_left_alone(living: Path) -> None:
    theirs = set(living.iterdir())
    with draft(living / "set") as made, whole(living / "x") as part:
        part.write_text("entire")
        assert made.is_dir()
    assert set(living.iterdir()) == {*theirs, living / "x"}


def test_words_are_looked_for_here_and_under_the_root_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, here = tmp_path / "data", tmp_path / "here"
    for folder in (root, here):
        folder.mkdir()
        (folder / "both.txt").write_text(f"words of {folder.name}")
    (root / "words.json").write_text('["only there"]')
    monkeypatch.chdir(here)
    assert words_of(["both.txt"], root)[-1] == "words of here"
    assert words_of(["words.json"], root)[-1] == "only there"
    with pytest.raises(InputError, match=r"data/absent\.txt: no such file .* data\.root"):
        words_of(["absent.txt"], root)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path / "link", "a pipe"),
        (tmp_path / "socket", "a socket"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "a device"),
    ):
        with pytest.raises(InputError, match=f"^{path} is {kind}, not a file"):
            refuse_special(path)
    refuse_special(tmp_path / "absent")
    refuse_special(Path(__file__))


def test_readers_of_settings_texts_and_results_wait_for_no_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "open_clip_config.json"
    os.mkfifo(pipe)
    for read in (
        lambda: words_of([str(pipe)]),
        lambda: OpenClip(f"local-dir:{tmp_path}"),
        lambda: read_results(pipe),
        lambda: list(json_items(pipe)),
        lambda: load_scorer(pipe),
        lambda: read_embeddings(pipe),
        lambda: merge_arguments(["fit", f"--config={pipe}"]),
        lambda: csv_file.entry(pipe),
        lambda: Predictions(str(pipe)),
    ):
        with pytest.raises(InputError, match=r"open_clip_config\.json( is a pipe|: no desc)"):
            read()
