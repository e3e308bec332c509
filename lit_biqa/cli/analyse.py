"""Study a model: stability, accuracy, logit lens and attention of level words; causes of ratings.

    lit_biqa analyse instability --run runs/conclude --data.test '[agiqa3k/random-0]'
    lit_biqa analyse accuracy    --run runs/one_stage --condition word --samples 720
    lit_biqa analyse logit-lens  --run runs/conclude --level poor
    lit_biqa analyse attention   --config my.yaml --ckpt_path none --out analysis
    lit_biqa analyse score-attention --run runs/score --samples 100
    lit_biqa analyse tsne        --run runs/score --data.test '[koniq10k, livew]'
    lit_biqa analyse tsne        --run runs/score --data.test '[koniq10k]' --beside maps/spaq
    lit_biqa analyse efficiency  --run runs/score --scorer runs/rali

Each study writes CSV files and figures (docs/studies.md) into RUN/analysis/CONDITION, or into the
folder of --out. All other arguments are settings of the model or the data that differ from the
run's, as on the command line of `lit_biqa fit`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lit_biqa.analysis import figures
from lit_biqa.analysis.accuracy import FIVE, THREE, accuracy, write_accuracy
from lit_biqa.analysis.answers import Asked, ask_sessions
from lit_biqa.analysis.attention import SEGMENTS, attention, write_attention
from lit_biqa.analysis.instability import instability, write_answers, write_instability
from lit_biqa.analysis.logit_lens import lens, write_lens
from lit_biqa.cli import rating_studies
from lit_biqa.cli.errors import guard
from lit_biqa.cli.rating_studies import Study, batches
from lit_biqa.cli.restore import RATINGS, WORDS, Studied, prepare
from lit_biqa.evaluation import tables
from lit_biqa.types import InputError


def study_instability(options: argparse.Namespace, studied: Studied, out: Path) -> dict[str, str]:
    """Measure how often the model contradicts itself about one image."""
    asked = _asked(options, studied, "Instability")
    results = instability(asked)
    write_instability(out, asked, results, options.temperature)
    write_answers(out / "instability_answers.csv", asked)
    settings = options.sessions, options.predictions, options.temperature
    figure = figures.instability_figure(results, *settings, options.name)
    figures.save(figure, out / "instability.png")
    kinds = {"unstable predictions": "unstable", "samples in disagreement": "disagreement"}
    kinds |= {"no level named": "no_level"}
    return {
        f"{f.dataset}: {k}": str(getattr(f, name)) for f in results for k, name in kinds.items()
    }


def study_accuracy(options: argparse.Namespace, studied: Studied, out: Path) -> dict[str, str]:
    """Measure how often the level word is that of the MOS."""
    asked = _asked(options, studied, "Accuracy")
    five, three = accuracy(asked, FIVE), accuracy(asked, THREE)
    write_accuracy(out, asked, [*five, *three])
    write_answers(out / "accuracy_answers.csv", asked)
    # The last result covers the only data set, or all of them.
    figure = figures.confusion_figure([five[-1], three[-1]], options.name)
    figures.save(figure, out / "accuracy.png")
    return {
        f"{f.dataset}, {len(f.levels)} levels": f"{f.right}, majority {100 * f.majority:.2f}%"
        for f in (*five, *three)
    }


def study_lens(options: argparse.Namespace, studied: Studied, out: Path) -> dict[str, str]:
    """Show the likeliest tokens at deep layers."""
    given = batches(studied, "Logit lens")
    norm = not options.no_norm
    lens_result = lens(
        studied.model,
        studied.readout,
        given,
        options.level,
        options.first_layer,
        norm,
        options.samples,
    )
    write_lens(out, lens_result)
    figures.save(figures.lens_figure(lens_result, norm, options.name), out / "logit_lens.png")
    lines = {f"samples predicted {lens_result.level!r}": str(len(lens_result.samples))}
    for place, layer in enumerate(lens_result.layers):
        best = lens_result.probability[place].topk(3)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        named = (
            f"{lens_result.names.get(token, f'#{token}')} {100 * p:.1f}%" for token, p in pairs
        )
        lines[f"layer {layer}"] = ", ".join(named)
    return lines


def study_attention(options: argparse.Namespace, studied: Studied, out: Path) -> dict[str, str]:
    """Measure attention to image, description and the rest."""
    result = attention(studied.model, studied.readout, batches(studied, "Attention"))
    write_attention(out, result)
    figures.save(figures.attention_figure(result, options.name), out / "attention.png")
    if result.image_samples:
        tokens = figures.image_tokens_figure(result, options.name)
        figures.save(tokens, out / "attention_image_tokens.png")
    rows = {"mean of all layers": result.mean[-1], "last layer": result.mean[-2]}
    return {
        name: ", ".join(f"{s} {100 * v:.1f}%" for s, v in zip(SEGMENTS, row.tolist(), strict=True))
        for name, row in rows.items()
    }


STUDIES: dict[str, Study] = {
    "instability": study_instability,
    "accuracy": study_accuracy,
    "logit-lens": study_lens,
    "attention": study_attention,
    **rating_studies.STUDIES,
}


def _asked(options: argparse.Namespace, studied: Studied, title: str) -> list[Asked]:
    asked = ask_sessions(
        studied.model,
        studied.readout,
        batches(studied, title),
        options.sessions,
        options.predictions,
        options.temperature,
        options.seed,
    )
    if not asked:
        raise InputError("none of the images can be read: see data.images.on_bad")
    return asked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lit_biqa analyse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    studies = parser.add_subparsers(dest="study", required=True)
    for name, study in STUDIES.items():
        sub = studies.add_parser(name, help=study.__doc__, allow_abbrev=False)
        add = sub.add_argument
        add("--run", type=Path, help="folder of a fit")
        add("--ckpt_path", metavar="WEIGHTS", help="best or last of the run, a file, or none")
        add("--condition", help="readout of the run to study; default: the first")
        if name != "efficiency":
            at_level = "samples predicted at the level, after which to stop"
            counted = at_level if name == "logit-lens" else "test samples drawn"
            add("--samples", type=_positive, default=300, help=f"{counted} (default: 300)")
        add("--seed", type=int, default=0, help="seed of the draw and of sampling")
        add("--at-once", type=_positive, help="chats that the model runs together")
        add("--out", type=Path, help="folder to write to")
        if name in ("instability", "accuracy"):
            predictions = 5 if name == "instability" else 1
            add("--sessions", type=_positive, default=3)
            add("--predictions", type=_positive, default=predictions, help="per sample and session")
            add("--temperature", type=float, default=0.2, help="0.2 as in Q-Instruct's demo")
        if name == "efficiency":
            add("--scorer", type=Path, required=True, help="scorer file, or the run of RALI")
            sizes = [1, 2, 4, 8, 16]
            add("--batches", type=_positive, nargs="+", default=sizes, help="images in a batch")
            add("--repeats", type=_positive, default=5, help="timed runs of each (default: 5)")
        if name == "tsne":
            encoders = "package:minilm, a folder, MODEL:TAG of open_clip, or none"
            add("--text-encoder", default="package:minilm", metavar="NAME", help=encoders)
            beside = "folders of earlier tsne of other runs, drawn in the same map"
            add("--beside", type=Path, nargs="+", default=[], metavar="FOLDER", help=beside)
        if name == "logit-lens":
            add("--level", default="poor", help="study samples predicted at this level")
            add("--first-layer", type=_positive, help="default: 30, or the last tenth")
            add("--no-norm", action="store_true", help="no final norm before the head")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return number


def _count(options: argparse.Namespace) -> int | None:
    """Number of samples to draw; the lens counts those at its level, known once predicted."""
    if options.study == "efficiency":
        return int(max(options.batches))
    return None if options.study == "logit-lens" else int(options.samples)


def _study(options: argparse.Namespace, settings: Sequence[str]) -> None:
    if options.run is None and options.out is None:
        raise InputError("no output folder: name a run with --run, or a folder with --out")
    rated = options.study == "accuracy"
    needs = RATINGS if options.study in rating_studies.STUDIES else WORDS
    where = (options.condition, options.at_once, _count(options), options.seed, rated, needs)
    studied = prepare(options.run, options.ckpt_path, settings, *where)
    condition = studied.condition
    out = options.out or options.run / "analysis" / condition.replace(" ", "_")
    run = options.run.name if options.run is not None else type(studied.model).__name__
    options.name = f"{run} ({condition})"
    with studied.autocast():
        lines = STUDIES[options.study](options, studied, out)
    print(tables.pairs(f"{options.study} of {options.name}", lines))
    print(f"written to {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one study; the exit status is 2 for bad input."""
    options, settings = _parser().parse_known_args(arguments)
    return guard(lambda: _study(options, settings))
