"""Tables of text in three formats: Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

Format = Literal["markdown", "csv", "latex"]

_LATEX = {character: rf"\{character}" for character in "&%$#_{}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


@dataclass
class Grid:
    """A table of text.

    Attributes:
        names: headers of columns of names, which come first and may be folded.
        numbers: headers of columns of numbers, which stay whole.
        rows: cells, each row as long as both headers together.
    """

    names: Sequence[str]
    numbers: Sequence[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def rich(self) -> Table:
        """Table to print as Markdown; a name that repeats that of the row above is left out."""
        from rich import box
        from rich.table import Table

        grid = Table(box=box.MARKDOWN)
        for name in self.names:
            grid.add_column(name, overflow="fold")
        for name in self.numbers:
            grid.add_column(name, justify="right", no_wrap=True)
        before: tuple[str, ...] = ()
        for row in self.rows:
            first = "" if row[:1] == before[:1] else row[0]
            grid.add_row(*(cell.replace("|", r"\|") for cell in (first, *row[1:])))
            before = row
        return grid

    def csv(self) -> str:
        """Lines with a header."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self._with_header())
        return text.getvalue()

    def latex(self) -> str:
        """A ``tabular`` with the rules of the package booktabs."""
        columns = "l" * len(self.names) + "r" * len(self.numbers)
        lines = [" & ".join(map(_escaped, row)) + r" \\" for row in self._with_header()]
        body = "\n".join([lines[0], r"\midrule", *lines[1:]])
        return (
            f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
        )

    def _with_header(self) -> list[tuple[str, ...]]:
        return [(*self.names, *self.numbers), *self.rows]


def _escaped(cell: str) -> str:
    return "".join(_LATEX.get(character, character) for character in cell)
