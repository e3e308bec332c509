"""Results of a test for Python programs: lines of `results.csv`, their file, a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_biqa.evaluation import tables
from lit_biqa.evaluation.report import COLUMNS, METRICS, Result


@dataclass(frozen=True, repr=False)
class Results:
    """Correlations of one test with MOS; printing it shows the table of the test.

    Example:
        >>> results = lit_biqa.test("runs/first", data=["livew"])  # doctest: +SKIP
        >>> results.rows[0]["dataset"], results.rows[0]["srcc"]  # doctest: +SKIP
        ('livew', 0.8123)

    Attributes:
        lines: one for each data set and condition, then the lines derived from them.
        path: `results.csv` of the run, which holds these lines and those of its other tests.
    """

    lines: tuple[Result, ...]
    path: Path

    @property
    def rows(self) -> list[dict[str, str | int | float]]:
        """Lines as mappings by column, columns as in `results.csv`; ``nan`` if undefined."""
        return [
            {
                name: getattr(line.correlations if name in METRICS else line, name)
                for name in COLUMNS
            }
            for line in self.lines
        ]

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "Results.to_pandas needs pandas: pip install pandas, or take Results.rows."
            ) from error
        return pandas.DataFrame(self.rows, columns=list(COLUMNS))

    def __repr__(self) -> str:
        if not self.lines:
            return f"Results(nothing was tested; {self.path} would hold it)"
        return f"{tables.table(self.lines, 'Results')}\n{self.path}"
