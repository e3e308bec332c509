"""One image through several models: caption, reasoning, rating, level, likeness to a reference.

Sources: Reasoning as Representation, figures A.2 and A.3; Guiding Perception-Reasoning Closer to
Human in BIQA, figures 1 and 4, whose ROUGE-1 compares with texts that people wrote.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from lit_biqa.analysis.figures import blank_figure
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.evaluation.report import write_csv
from lit_biqa.io.files import replacing
from lit_biqa.readouts.base import Readout, Verdict
from lit_biqa.text.levels import level_of
from lit_biqa.text.parsing import read, tagged
from lit_biqa.text.rouge import Overlap, best_rouge1
from lit_biqa.types import Batch, Sample, Samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "image.png"
_SIDE = 640  # pixels of the picture beside the texts
_WIDTH = 130  # signs of a line in the figure
_MOST = 900  # signs of a text in the figure; all of it stands in the other files


@dataclass(frozen=True)
class Case:
    """Answer of one model.

    Attributes:
        model: name of the model.
        condition: input that the score was read from.
        score: score on [1, 5]; ``nan`` if there is none.
        level: level that was named, or that the score falls into; empty without either.
        status: ``ok``, or the reason for the missing score.
        caption: text before the reasoning; empty if there is none.
        reasoning: text of the reasoning; empty if there is none.
        overlap: ROUGE-1 of caption and reasoning to the nearest reference; ``None`` without texts
            or references.
    """

    model: str
    condition: str
    score: float
    level: str = ""
    status: str = "ok"
    caption: str = ""
    reasoning: str = ""
    overlap: Overlap | None = None

    @property
    def headline(self) -> str:
        """Rating, level and ROUGE-1 in a line."""
        score = f"rating {self.score:.2f}" if math.isfinite(self.score) else self.status
        level = f" ({self.level})" if self.level else ""
        return f"{score}{level}" + (f", ROUGE-1 {self.overlap.f:.3f}" if self.overlap else "")


def batch_of(pixels: torch.Tensor, path: Path, mos: float) -> Batch:
    """A batch of one image."""
    return Batch(
        pixels=[pixels],
        samples=Samples([Sample("case", "one", 0, path.name, path, mos)]),
        mos=torch.tensor([mos]),
        std=torch.tensor([math.nan]),
        index=torch.tensor([0]),
        dataset=["case"],
        split=["one"],
        name=[path.name],
        text=[""],
        prompt=[()],
        conclusion=[""],
        status=["ok"],
    )


def answered(
    name: str,
    model: VisionLanguageModel,
    readout: Readout,
    condition: str,
    batch: Batch,
    references: Sequence[str] = (),
) -> Case:
    """Case of a model that writes.

    Args:
        name: name of the model.
        model: model with its weights.
        readout: its readout.
        condition: condition of the readout.
        batch: batch of one image.
        references: texts about the image that people wrote.
    """
    verdict: Verdict = readout.read(model, batch)[condition][0]
    reading, thought = read(verdict.text), tagged(verdict.text, "think") or ""
    # A text without tags is a description.
    caption = reading.caption or ("" if "<" in verdict.text else verdict.text.strip())
    text = f"{caption}\n{thought}".strip()
    overlap = best_rouge1(text, references) if text and references else None
    level = verdict.level or level_word(verdict.score)
    return Case(name, condition, verdict.score, level, verdict.status, caption, thought, overlap)


def level_word(score: float) -> str:
    """Level of a score; empty for ``nan``."""
    return level_of(min(max(score, 1.0), 5.0)) if math.isfinite(score) else ""


def write_cases(
    folder: Path, image: Image.Image, title: str, cases: Sequence[Case], references: Sequence[str]
) -> None:
    """Write ``case.md``, ``case.csv``, and the picture that the first shows."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    with replacing(folder / PICTURE) as part:
        small.save(part, format="PNG")
    blocks = [f"# {title}", f"![{title}]({PICTURE})"]
    blocks += [f"Reference:\n\n{_quoted(text)}" for text in references]
    for case in cases:
        blocks.append(f"## {case.model}: {case.headline}")
        texts = {"Caption": case.caption, "Reasoning": case.reasoning}
        blocks += [f"{name}:\n\n{_quoted(text)}" for name, text in texts.items() if text]
    with replacing(folder / "case.md") as part:
        part.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    lines = []
    for c in cases:
        shares = (c.overlap.precision, c.overlap.recall, c.overlap.f) if c.overlap else ("",) * 3
        lines.append(
            (c.model, c.condition, c.score, c.level, c.status, *shares, c.caption, c.reasoning)
        )
    rouge = ("rouge1_precision", "rouge1_recall", "rouge1_f")
    columns = ("model", "condition", "score", "level", "status", *rouge, "caption", "reasoning")
    write_csv(folder / "case.csv", columns, lines)


def _quoted(text: str) -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;")
    return "\n".join(f"> {line}".rstrip() for line in safe.splitlines())


def case_figure(image: Image.Image, title: str, cases: Sequence[Case]) -> Figure:
    """The image, and beside it what each model says."""
    blocks = [(case, _lines(case)) for case in cases]
    inch, gap = 0.155, 0.3
    height = sum(inch * (len(lines) + 1.6) + gap for _, lines in blocks) + 0.6
    figure = blank_figure(12.5, max(4.2, height))
    figure.set_layout_engine("none")
    width, tall = figure.get_size_inches()
    axes = figure.add_axes((0.015, 1 - 4.0 / tall, 0.29, 3.5 / tall), anchor="N")
    axes.imshow(image)
    axes.axis("off")
    figure.suptitle(title, x=0.015, y=1 - 0.12 / tall, ha="left", va="top", parse_math=False)
    at = tall - 0.55
    for case, lines in blocks:
        place = {"x": 4.05 / width, "va": "top", "parse_math": False}
        head = f"{case.model}: {case.headline}"
        figure.text(y=at / tall, s=head, fontsize=10, fontweight="bold", **place)
        figure.text(y=(at - 0.25) / tall, s="\n".join(lines), fontsize=8, **place)
        at -= inch * (len(lines) + 1.6) + gap
    return figure


def _lines(case: Case) -> list[str]:
    lines = []
    for name, text in (("Caption", case.caption), ("Reasoning", case.reasoning)):
        if text:
            whole = " ".join(text.split())
            short = whole if len(whole) <= _MOST else f"{whole[:_MOST].rstrip()} …"
            lines += textwrap.wrap(f"{name}: {short}", _WIDTH)
    return lines or ["(a score without a text)"]
