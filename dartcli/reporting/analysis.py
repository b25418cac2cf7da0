"""What an analysis is, what it returns, and the files that a result is written to.

An analysis takes finished runs and returns an :class:`AnalysisResult`: tables, figures, every
number behind them, and sentences computed from the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dartcli.experiments.comparison import read_protocol
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep
from dartcli.reporting.figures import STYLE, Floats, render_svg
from dartcli.reporting.formats import FORMATS, SUFFIXES, format_html
from dartcli.reporting.table import Table
from dartcli.settings import Options, validate
from dartcli.storage.atomic import atomic_directory, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class AnalysisResult:
    """What an analysis found."""

    name: str
    """Name of the analysis."""
    title: str
    """Heading."""
    sentences: tuple[str, ...]
    """Findings, computed from the numbers."""
    tables: tuple[Table, ...]
    """Tables for the terminal and the report."""
    numbers: dict[str, Any]
    """Every number in the tables and figures, JSON-ready."""
    figures: dict[str, Figure] = field(default_factory=dict)
    """File name without suffix -> figure."""
    files: list[Path] = field(default_factory=list)
    """Files it was written to."""

    def __repr__(self) -> str:
        counts = f"{len(self.tables)} tables, {len(self.figures)} figures"
        return f"<AnalysisResult {self.name}: {counts}>"

    def _repr_html_(self) -> str:
        """Return sentences, tables, and figures, for notebooks."""
        parts = [f"<p>{escape(sentence)}</p>" for sentence in self.sentences]
        parts += map(format_html, self.tables)
        import matplotlib as mpl

        with mpl.rc_context(STYLE):
            parts += [render_svg(figure).decode() for figure in self.figures.values()]
        return "".join(parts)


@dataclass(frozen=True)
class Analysis:
    """A question that finished runs can answer."""

    question: str
    """The question, in one sentence."""
    examine: Callable[..., AnalysisResult]
    """Takes runs (and sweeps, if ``takes_sweeps``), then an instance of ``options`` if there is
    one. Raises RunError, naming the command that helps, if a run lacks something."""
    thesis_figure: str = ""
    """The figure or table of the thesis that it reproduces under the protocol ``reference``."""
    takes_sweeps: bool = False
    """Accepts sweeps."""
    takes_runs: bool = True
    """Accepts runs."""
    options: type[Options] | None = None
    """Options of the analysis."""
    place: int = 50
    """Where a report shows it: lower comes first. At 0, its first figure follows the summary."""

    def answer(
        self, subjects: Sequence[Run | Sweep], options: Mapping[str, Any] | None = None
    ) -> AnalysisResult:
        """Return the result for ``subjects``.

        Raises
        ------
        UsageError
            If an option is unknown or its value is invalid.
        RunError
            As :attr:`examine` does.
        """
        chosen = validate(self.options or Options, options or {}, "option")
        result = self.examine(subjects, *([chosen] if self.options else []))
        if self.thesis_figure and all(read_protocol(one) == "reference" for one in subjects):
            title = f"{result.title} ({self.thesis_figure} of Tang, 2023)"
            return replace(result, title=title)
        return result


def write_result(result: AnalysisResult, folder: Path) -> None:
    """Replace ``folder`` by the files of ``result``, and list them in ``result.files``.

    Each figure as PNG and SVG, the tables as Markdown, LaTeX, and CSV, and ``numbers.json``.
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE), atomic_directory(folder) as place:
        for name, figure in result.figures.items():
            figure.savefig(place / f"{name}.png", metadata={"Software": None})
            (place / f"{name}.svg").write_bytes(render_svg(figure))
        for form, render in FORMATS.items():
            text = "\n".join(render(table) for table in result.tables)
            write_text(place / f"tables.{SUFFIXES[form]}", text)
        write_json(
            place / "numbers.json",
            {
                "analysis": result.name,
                "title": result.title,
                "sentences": list(result.sentences),
                **result.numbers,
            },
        )
        written = sorted(path.name for path in place.iterdir())
    result.files.extend(folder / name for name in written)


def nan_to_none(values: Floats) -> list[float | None]:
    """Return ``values`` as JSON numbers, NaN as null."""
    return [None if np.isnan(value) else float(value) for value in values]
