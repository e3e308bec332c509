"""Studies of models that write a rating: what moves it, its spaces, and what it costs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from lit_biqa.analysis import figures, score_figures
from lit_biqa.analysis.efficiency import (
    MODEL,
    SCORER,
    Runner,
    first_rows,
    measure,
    ratios,
    write_efficiency,
)
from lit_biqa.analysis.efficiency_figure import efficiency_figure
from lit_biqa.analysis.probe_figures import tsne_figure
from lit_biqa.analysis.probes import probed, write_probes
from lit_biqa.analysis.score_attention import (
    ALL,
    ScoreAttention,
    ScoreLook,
    score_looks,
    word_shares,
    write_score_attention,
)
from lit_biqa.analysis.score_causes import CausalCheck, Caused, effects, write_causes
from lit_biqa.analysis.score_states import SEGMENTS, rated_answers
from lit_biqa.analysis.spaces import Reasoned, reasoned, spaces, text_encoder
from lit_biqa.analysis.tsne_states import RunStates, check_together, read_states, write_states
from lit_biqa.cli.restore import Studied
from lit_biqa.evaluation.conditions import Condition
from lit_biqa.progress import track
from lit_biqa.readouts.ratings import Rated
from lit_biqa.scoring.inputs import open_picture
from lit_biqa.scoring.scorer import load_scorer
from lit_biqa.types import Batch, InputError, rows_of

Study = Callable[[argparse.Namespace, Studied, Path], dict[str, str]]


def batches(studied: Studied, title: str) -> Iterator[Batch]:
    """Batches of the samples, with their progress."""
    return track(studied.loader, title, None, "images", lambda b: len(b["index"]), "batches")


def study_score_attention(
    options: argparse.Namespace, studied: Studied, out: Path
) -> dict[str, str]:
    """Measure attention at the digits of a rating, and what moves the rating."""
    model, readout, condition = studied.model, studied.readout, studied.condition
    assert isinstance(readout, Rated)
    looks: list[ScoreLook] = []
    # A text condition has no image to take out.
    seen = Condition.parse(condition).reads_image
    check = CausalCheck(model, readout.at_once) if seen else None
    for batch in batches(studied, "Score attention"):
        answers = rated_answers(model, readout, condition, batch)
        looks += score_looks(model, batch, answers, readout.at_once)
        if check is not None:
            check.add(batch, answers)
    lines = _write_attention(options.name, looks, out)
    if check is not None:
        lines |= _write_causes(options.name, check.results, out)
    return lines


def _write_attention(name: str, looks: list[ScoreLook], out: Path) -> dict[str, str]:
    result, words = ScoreAttention.of(looks), word_shares(looks)
    write_score_attention(out, result)
    figure = score_figures.score_attention_figure(result, name)
    figures.save(figure, out / "score_attention.png")
    figure = score_figures.words_figure(words, len(looks), name)
    figures.save(figure, out / "score_attention_words.png")
    rows = {"mean of all layers": -1, "last layer": -2}
    lines = {
        which: ", ".join(
            f"{score_figures.NAMES[segment]} {100 * share:.1f}%"
            for segment, share in zip(SEGMENTS, result.mean[ALL][row].tolist(), strict=True)
        )
        for which, row in rows.items()
    }
    lines |= {
        f"text of image and text, {which}": f"{100 * result.of_text(row):.1f}%"
        for which, row in rows.items()
    }
    most = ", ".join(f"{word.word} {100 * word.mean:.1f}%" for word in words[:5])
    return lines | {"words with most attention": most or "none"}


def _write_causes(name: str, results: list[Caused], out: Path) -> dict[str, str]:
    measured = effects(results)
    write_causes(out, results)
    figure = score_figures.causes_figure(measured, len(results), name)
    figures.save(figure, out / "score_causes.png")
    return {
        f"rating with {e.change}": f"moves by {e.moved:.3f}, PLCC with MOS {e.mos:.3f}"
        for e in measured[1:]
    }


def study_tsne(options: argparse.Namespace, studied: Studied, out: Path) -> dict[str, str]:
    """Map images and reasonings, and probe how well data sets and MOS can be read from them."""
    condition = studied.condition
    if not Condition.parse(condition).reads_image:
        raise InputError(f"tsne maps images, and --condition {condition} shows none: name another")
    earlier = [read_states(folder) for folder in options.beside]
    encoder = None if options.text_encoder == "none" else text_encoder(options.text_encoder)
    if encoder is not None:
        encoder.load()
        encoder.to(studied.model.device).eval()
    runs = [_run_states(options.name, studied, earlier), *earlier]
    results = [item for run in runs for item in run.results]
    found = spaces(results, encoder)
    measured = [probed(name, features, results, options.seed) for name, features in found.items()]
    write_states(out, runs[0])
    write_probes(out, results, measured)
    models = [f"{run.model} on {', '.join(run.sets)}" if earlier else run.model for run in runs]
    figures.save(tsne_figure(measured, results, *models), out / "tsne.png")
    lines = {
        space.name: f"data sets told apart {100 * space.told_apart:.1f}% "
        f"(chance {100 * space.chance:.0f}%), SRCC within a set {space.within:.3f}, "
        f"from other sets {space.across:.3f}"
        for space in measured
    }
    return lines | {", ".join(r.sets): f"{len(r.results)} images by {r.model}" for r in earlier}


def _run_states(name: str, studied: Studied, earlier: list[RunStates]) -> RunStates:
    model, readout = studied.model, studied.readout
    assert isinstance(readout, Rated)
    results: list[Reasoned] = []
    for batch in batches(studied, "t-SNE"):
        answers = rated_answers(model, readout, studied.condition, batch)
        found = reasoned(model, batch, answers, readout.at_once)
        check_together([RunStates(name, found), *earlier])  # before hours of answers
        results += found
    if not results:
        raise InputError("no answer has a reasoning between <think> and </think> and a rating")
    return RunStates(name, results)


def study_efficiency(options: argparse.Namespace, studied: Studied, out: Path) -> dict[str, str]:
    """Compare time and memory with those of a scorer, over batch sizes."""
    model, readout = studied.model, studied.readout
    assert isinstance(readout, Rated)
    scorer = load_scorer(options.scorer, model.device)
    given = first_rows(batches(studied, "Reading"), max(options.batches))
    paths = [sample.path for sample in given["samples"]]
    pixels = [scorer.transform(open_picture(path)) for path in paths if path is not None]

    @torch.inference_mode()
    def score(count: int) -> int:
        moved = [image.to(model.device) for image in pixels[:count]]
        # The precision of the run is not the scorer's: `lit_biqa score` knows no autocast.
        with torch.autocast(model.device.type, enabled=False):
            scorer.score_pixels(moved).cpu()
        return 0

    def reason(count: int) -> int:
        readout.at_once = count
        _, answered = next(readout.answered(model, rows_of(given, slice(count))))
        return sum(len(some[0].ids) for some in answered.completions)

    runners = [Runner(SCORER, scorer, score), Runner(MODEL, model, reason)]
    costs = measure(runners, sorted(set(options.batches)), options.repeats, model.device)
    where = _device(model.device)
    write_efficiency(out, costs, where)
    figures.save(efficiency_figure(costs, options.name, where), out / "efficiency.png")
    return {
        f"batch of {r.batch}": f"{100 * r.time:.3g}% of the time, {100 * r.memory:.3g}% of the "
        f"memory, {100 * r.parameters:.3g}% of the parameters"
        for r in ratios(costs)
    }


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


STUDIES: dict[str, Study] = {
    "score-attention": study_score_attention,
    "tsne": study_tsne,
    "efficiency": study_efficiency,
}
