"""What an analysis receives and returns, and how its figures look.

An analysis takes finished runs and returns a :class:`Report`: tables for the terminal, figures,
every number that is drawn, and sentences computed from the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from dartcli.errors import RunError
from dartcli.files import building, write_json, write_text
from dartcli.rendering import FORMATS, SUFFIXES, Marked
from dartcli.runs import Run
from dartcli.settings import Options, parsed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Cell = str | int | float | Marked | None

# Okabe and Ito's palette: told apart with any colour vision, and in print
TRUE_POSITIVE: Final = "#009E73"
FALSE_POSITIVE: Final = "#D55E00"
NEGATIVE: Final = "#6E6E6E"
RUN_COLOURS: Final = ("#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BASELINE_STYLES: Final = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))

STYLE: Final[dict[Any, Any]] = {
    "figure.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "dartcli",
}


@dataclass(frozen=True)
class Table:
    """A table for the terminal; numbers are formatted by whoever shows it."""

    title: str
    """What the rows are."""
    columns: tuple[str, ...]
    """Column heads."""
    rows: tuple[tuple[Cell, ...], ...]
    """Cells; None = not defined."""


@dataclass(frozen=True)
class Report:
    """What an analysis found."""

    name: str
    """Name of the analysis."""
    title: str
    """Heading."""
    sentences: tuple[str, ...]
    """What the numbers mean, computed from them."""
    tables: tuple[Table, ...]
    """For the terminal."""
    numbers: dict[str, Any]
    """Every number of the tables and figures, JSON-ready."""
    figures: dict[str, Figure] = field(default_factory=dict)
    """File name without suffix -> figure."""
    files: list[Path] = field(default_factory=list)
    """Where it was saved."""


@dataclass(frozen=True)
class Analysis:
    """One question asked of finished runs."""

    title: str
    """Heading."""
    question: str
    """The question, in one sentence."""
    examine: Callable[..., Report]
    """The answer for some runs (and sweeps, where it takes them), and options where it has some.
    Raises RunError, naming the command that helps, where one lacks something."""
    takes_sweeps: bool = False
    """It takes sweeps as well as runs."""
    takes_runs: bool = True
    """It takes runs; false where only a sweep has enough."""
    options: type[Options] | None = None
    """What can be chosen; ``examine`` then takes an instance as its second argument."""

    def answer(self, subjects: Sequence[Any], chosen: Mapping[str, Any] | None = None) -> Report:
        """Return the answer for ``subjects``, with what was ``chosen``.

        Raises
        ------
        UsageError
            If there is no such option, or a value does not fit.
        RunError
            As :attr:`examine` does.
        """
        if self.options is None:
            parsed(Options, chosen or {}, "option")
            return self.examine(subjects)
        return self.examine(subjects, parsed(self.options, chosen or {}, "option"))


def save(report: Report, folder: Path) -> None:
    """Write the files of ``report`` to ``folder``.

    Each figure as PNG and SVG, the tables as Markdown, LaTeX and CSV, and ``numbers.json``.
    """
    import matplotlib as mpl

    # the style holds what makes an SVG the same bytes every time
    with mpl.rc_context(STYLE), building(folder) as place:
        for name, figure in report.figures.items():
            figure.savefig(place / f"{name}.png", metadata={"Software": None})
            figure.savefig(place / f"{name}.svg", metadata={"Date": None, "Creator": None})
        for form, render in FORMATS.items():
            text = "\n".join(render(table) for table in report.tables)
            write_text(place / f"tables.{SUFFIXES[form]}", text)
        write_json(
            place / "numbers.json",
            {
                "analysis": report.name,
                "title": report.title,
                "sentences": list(report.sentences),
                **report.numbers,
            },
        )
        written = sorted(path.name for path in place.iterdir())
    report.files.extend(folder / name for name in written)


@contextmanager
def figure(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of ``width`` x ``height`` inches and its axes, in the house style.

    The axes are listed row by row.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(width, height))
        axes = drawing.subplots(rows, columns, squeeze=False)
        yield drawing, list(axes.flat)
        # text is measured when a figure is drawn: do it while the style holds
        drawing.draw_without_rendering()


def smooth(numerator: Floats, denominator: Floats, window: int, *, least: float = 0.0) -> Floats:
    """Return pooled ratios: sums of ``numerator`` over sums of ``denominator``, centred windows.

    At the ends the window is cut off. NaN counts as zero in both; the ratio is NaN where the
    denominators of a window sum to ``least`` or less: a ratio of a few counts is noise.
    """
    size = len(numerator)
    position = np.arange(size)
    first = np.maximum(position - window // 2, 0)
    last = np.minimum(position + (window + 1) // 2, size)

    def windowed(values: Floats) -> Floats:
        total = np.concatenate([[0.0], np.nancumsum(values)])
        return np.asarray(total[last] - total[first], dtype=np.float64)

    below = windowed(np.where(np.isnan(numerator), 0.0, denominator))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > least, windowed(numerator) / below, np.nan)


def json_floats(values: Floats) -> list[float | None]:
    """Return ``values`` as JSON numbers, NaN as null."""
    return [None if np.isnan(value) else float(value) for value in values]


def needs_known_false_positives(run: Run) -> None:
    """Raise RunError if nobody knows which positives of the run's data are false."""
    if sum(run.iterations(run.seeds[0])["false_positives"]) == 0:
        raise RunError(
            f"the data set of {run.name} ({run.metrics.dataset}) has no known false positives, so "
            "nothing can be said about finding them; analyse a run on data with explicit feedback."
        )
