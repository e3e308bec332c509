"""Rates, time left, and how often lines are written where there is no terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lit_biqa import progress
from lit_biqa.progress import Bar, clock, track


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Clock:
    hand = Clock()
    monkeypatch.setattr(progress, "time", hand)
    return hand


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_text_has_rate_in_units_and_time_left_from_steps(hand: Clock) -> None:
    bar = Bar("Embedding", total=10, unit="images")
    assert bar.text() == "0/10"
    for _ in range(4):
        hand.now += 0.5
        bar.advance(8)
    # 32 images in 2 s; 6 steps of half a second each are left.
    assert bar.text("loss 0.5") == "4/10, 16.0 images/s, 0:03 left, loss 0.5"


def test_resumed_steps_and_pauses_do_not_count_in_the_rate(hand: Clock) -> None:
    bar = Bar("Epoch", total=20, unit="images", done=10)
    hand.now += 1
    bar.advance(8)
    hand.now += 100
    bar.pause(100)
    assert bar.text() == "11/20, 8.0 images/s, 0:09 left"


def test_without_terminal_a_line_every_ten_seconds_and_one_at_the_end(
    hand: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def slowly() -> Iterator[int]:
        for i in range(25):
            hand.now += 1
            yield i

    assert list(track(slowly(), "Scoring", total=25, unit="images")) == list(range(25))
    assert capsys.readouterr().out.splitlines() == [
        "Scoring: 10/25, 1.0 images/s, 0:15 left",
        "Scoring: 20/25, 1.0 images/s, 0:05 left",
        "Scoring: 25/25, 1.0 images/s, took 0:25",
    ]


def test_track_takes_the_length_and_counts_units(capsys: pytest.CaptureFixture[str]) -> None:
    batches = [[1, 2, 3], [4]]
    shown = track(batches, "Embedding", unit="images", units=len, steps="batches")
    assert list(shown) == batches
    line = capsys.readouterr().out
    assert line.startswith("Embedding: 2/2 batches, ")
    assert re.search(r"images/s, took \d+:\d\d", line)


def test_a_broken_loop_says_where_it_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="third"):
        for i in track(range(5), "Reading"):
            if i == 2:
                raise RuntimeError("third")
    assert capsys.readouterr().out.startswith("Reading: 2/5, ")


def test_only_rank_zero_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "world", lambda: (1, 2))
    assert list(track(range(3), "Reading")) == [0, 1, 2]
    assert capsys.readouterr().out == ""


def test_on_a_terminal_a_bar_is_drawn_and_may_hold_another() -> None:
    code = (
        "from lit_biqa.progress import Bar\n"
        "outer = Bar('Epoch 1/3', 2, 'images'); outer.advance(4)\n"
        "inner = Bar('Validation', 1, keep=False); inner.advance(); inner.close()\n"
        "print('a table'); outer.advance(4); outer.close('loss 0.2')\n"
    )
    main, child = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=child,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        timeout=300,
    )
    os.close(child)
    shown = os.read(main, 1 << 16).decode()
    os.close(main)
    assert done.returncode == 0, done.stderr.decode()
    assert "━" in shown and "Validation" in shown and "a table" in shown
    assert "2/2" in shown and re.search(r"took \d+:\d\d, loss 0.2", shown)
