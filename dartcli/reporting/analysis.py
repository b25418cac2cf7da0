"""What an analysis receives and returns, and how its figures look.

An analysis takes finished runs and returns a :class:`Report`: tables for the terminal, figures,
every number that is drawn, and sentences computed from the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dartcli.errors import RunError
from dartcli.experiments.run import Run
from dartcli.reporting.figures import STYLE, Floats
from dartcli.reporting.formats import FORMATS, SUFFIXES
from dartcli.reporting.table import Table
from dartcli.settings import Options, validate
from dartcli.storage.atomic import atomic_directory, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class AnalysisResult:
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
    examine: Callable[..., AnalysisResult]
    """The answer for some runs (and sweeps, where it takes them), and options where it has some.
    Raises RunError, naming the command that helps, where one lacks something."""
    takes_sweeps: bool = False
    """It takes sweeps as well as runs."""
    takes_runs: bool = True
    """It takes runs; false where only a sweep has enough."""
    options: type[Options] | None = None
    """What can be chosen; ``examine`` then takes an instance as its second argument."""

    def answer(
        self, subjects: Sequence[Any], chosen: Mapping[str, Any] | None = None
    ) -> AnalysisResult:
        """Return the answer for ``subjects``, with what was ``chosen``.

        Raises
        ------
        UsageError
            If there is no such option, or a value does not fit.
        RunError
            As :attr:`examine` does.
        """
        if self.options is None:
            validate(Options, chosen or {}, "option")
            return self.examine(subjects)
        return self.examine(subjects, validate(self.options, chosen or {}, "option"))


def save(report: AnalysisResult, folder: Path) -> None:
    """Write the files of ``report`` to ``folder``.

    Each figure as PNG and SVG, the tables as Markdown, LaTeX and CSV, and ``numbers.json``.
    """
    import matplotlib as mpl

    # the style holds what makes an SVG the same bytes every time
    with mpl.rc_context(STYLE), atomic_directory(folder) as place:
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


def json_floats(values: Floats) -> list[float | None]:
    """Return ``values`` as JSON numbers, NaN as null."""
    return [None if np.isnan(value) else float(value) for value in values]


def needs_known_false_positives(run: Run) -> None:
    """Raise RunError if nobody knows which positives of the run's data are false."""
    if sum(run.iterations(run.seeds[0])["false_positives"]) == 0:
        raise RunError(
            f"the dataset of {run.name} ({run.metrics.dataset}) has no known false positives, so "
            "nothing can be said about finding them; analyze a run on data with explicit feedback."
        )
