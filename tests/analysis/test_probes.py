"""Feature spaces by hand, and probes on features whose answer is known."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from rated import FAMILIES, given, loaded
from scripted import ANSWERS, THOUGHTS, script

from lit_biqa.analysis.csv_rows import Who
from lit_biqa.analysis.probe_figures import tsne_figure
from lit_biqa.analysis.probes import probed, write_probes
from lit_biqa.analysis.score_states import SEGMENTS, context, rated_answers
from lit_biqa.analysis.spaces import STATES, TEXT, Reasoned, reasoned, spaces, text_encoder
from lit_biqa.analysis.tsne_states import FILE, RunStates, check_together, read_states, write_states
from lit_biqa.backbones.inputs import prompts_of
from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.readouts.ratings import Rated
from lit_biqa.types import InputError

READOUT = Rated(at_once=2)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_states_are_means_over_tokens(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(family)
    script(monkeypatch, [ANSWERS[0], '<answer>\n{"rating": 2}\n</answer>', ANSWERS[2]])
    batch = given(model)
    answers = rated_answers(model, READOUT, "image", batch)
    results = reasoned(model, batch, answers, 2)
    assert [item.text for item in results] == [THOUGHTS[0], THOUGHTS[2]]  # one did not reason
    found = context(model, answers[0])
    one = model.encode([answers[0].chat])
    pixels = answers[0].chat.pixels
    assert pixels is not None
    features = model(lambda m: m.image_features([pixels]))
    torch.testing.assert_close(results[0].states[0], features.mean(0), atol=1e-4, rtol=1e-4)
    hidden = model(lambda m: m.hidden(prompts_of([found.row]))).last_hidden_state[0]
    chosen = found.segment == SEGMENTS.index("reasoning")
    torch.testing.assert_close(results[0].states[2], hidden[chosen].mean(0), atol=1e-4, rtol=1e-4)
    seen = hidden[found.segment == SEGMENTS.index("image")].mean(0)
    torch.testing.assert_close(results[0].states[1], seen, atol=1e-4, rtol=1e-4)
    assert int(one.image.sum()) == int((found.segment == SEGMENTS.index("image")).sum())


def made(count: int = 40) -> list[Reasoned]:
    """Two sets; the first state tells them apart, the second ranks MOS, the third is noise."""
    noise = np.random.default_rng(0)
    results = []
    for i in range(count):
        one, mos = i % 2, float(noise.uniform(1, 5))
        states = (
            [one * 4 - 2, noise.normal()],
            [mos, noise.normal()],
            [noise.normal(), noise.normal()],
        )
        who = Who(("koniq", "livew")[one], "all", i, f"{i}.png")
        text = f"a rating of {mos:.1f}" if i < 3 else "sharp" if mos > 3 else "dim"
        vectors = tuple(torch.tensor(s, dtype=torch.float64) for s in states)
        results.append(Reasoned(who, mos, f"content {i}", text, vectors))
    return results


def test_probes_find_what_is_there(tmp_path: Path) -> None:
    results = made()
    found = spaces(results, None)
    assert list(found) == list(STATES)
    sets, mos, nothing = (probed(name, found[name], results) for name in STATES)
    assert (sets.told_apart, sets.chance) == (1.0, 0.5)
    assert (mos.within, mos.across) == pytest.approx((1.0, 1.0), abs=0.01)
    assert abs(nothing.told_apart - 0.5) < 0.25
    assert max(abs(nothing.within), abs(nothing.across)) < 0.5
    assert sets.map.shape == (40, 2)
    write_probes(tmp_path, results, [sets, mos, nothing])
    with (tmp_path / "tsne_probes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dataset"] for row in rows[:3]] == ["koniq", "livew", "all"]
    assert float(rows[2]["told_apart"]) == 1.0
    figure = tsne_figure([sets, mos, nothing], results, "run")
    assert "3 reasonings name a rating" in figure.get_suptitle()
    several = tsne_figure([sets, mos, nothing], results, "run on koniq", "other on livew")
    assert "run on koniq and other on livew: images and their" in several.get_suptitle()
    assert "data sets told apart: 100% (chance 50%)" in figure.axes[0].get_title()
    assert "SRCC 1.00, from other sets 1.00" in figure.axes[4].get_title()


def test_reasonings_are_kept_in_a_file(tmp_path: Path) -> None:
    results = [*made(4), dataclasses.replace(made(1)[0], mos=float("nan"))]
    write_states(tmp_path, RunStates("run", results))
    kept = read_states(tmp_path)
    assert (kept.model, kept.sets) == ("run", ["koniq", "livew"])
    for one, other in zip(kept.results, results, strict=True):
        assert (one.who, one.content, one.text) == (other.who, other.content, other.text)
        assert one.mos == pytest.approx(other.mos, nan_ok=True)
        torch.testing.assert_close(one.states, tuple(state.float() for state in other.states))
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(InputError, match="was damaged or altered; name a folder"):
        read_states(tmp_path)
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="broken file of reasonings"):
        read_states(tmp_path)


def test_a_map_takes_models_of_one_size_and_each_set_from_one_run() -> None:
    koniq, livew = made(4)[::2], made(4)[1::2]
    check_together([RunStates("a", koniq), RunStates("b", livew), RunStates("none yet", [])])
    with pytest.raises(InputError, match="a and b both have images of koniq"):
        check_together([RunStates("a", koniq), RunStates("b", koniq)])
    wide = [dataclasses.replace(livew[0], states=(torch.zeros(3),) * 3)]
    with pytest.raises(InputError, match="states of a have 2 numbers, those of b 3"):
        check_together([RunStates("a", koniq), RunStates("b", wide)])


def test_a_content_is_never_in_two_folds() -> None:
    results = made()
    # Each content has its own MOS in features that say no more than the content: what is learned of
    # one content tells nothing of another.
    mos = np.repeat(np.random.default_rng(1).uniform(1, 5, 10), 4)
    same = [
        Reasoned(Who("koniq", "all", i, ""), mos[i], f"{i // 4}", "", ())
        for i, _ in enumerate(results)
    ]
    features = np.eye(10)[np.arange(40) // 4]
    assert probed("one-hot", features, same).rankings[0].within < 0.3
    apart = [Reasoned(r.who, r.mos, f"{i}", "", ()) for i, r in enumerate(same)]
    assert probed("one-hot", features, apart).rankings[0].within > 0.9


def test_few_images_and_unknown_encoders_are_refused() -> None:
    with pytest.raises(InputError, match="koniq: 5 images"):
        probed("x", np.zeros((10, 2)), made(10))
    with pytest.raises(InputError, match="MODEL:TAG of open_clip"):
        text_encoder("nothing")


def test_texts_are_embedded_by_the_encoder() -> None:
    results = made(12)
    encoder = TinyClip(dim=8, width=16, size=32, context=16)
    encoder.load()
    found = spaces(results, encoder, at_once=5)[TEXT]
    whole = encoder.embed_texts([item.text for item in results])
    np.testing.assert_allclose(found, whole.detach().numpy(), atol=1e-5)
