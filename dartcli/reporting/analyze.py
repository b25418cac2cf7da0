"""Run one analysis and write its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dartcli import catalog
from dartcli.errors import UsageError
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep

if TYPE_CHECKING:
    from dartcli.reporting.analysis import Analysis, AnalysisResult


def find_subjects(chosen: Run | Sweep | str | Sequence[Run | Sweep | str]) -> list[Run | Sweep]:
    """Return one subject, or several, as a list; names are looked up."""
    from dartcli.experiments.comparison import find_subject

    several = [chosen] if isinstance(chosen, Run | Sweep | str) else chosen
    return [find_subject(one) if isinstance(one, str) else one for one in several]


def compare_runs(*chosen: Run | Sweep | str, **options: Any) -> AnalysisResult:
    """Compare runs that share seeds, or the trainings of a sweep, with ``base``.

    Parameters
    ----------
    *chosen
        Runs or sweeps, or their names.
    **options
        Options of the analysis ``compare``.

    Raises
    ------
    UsageError, RunError
        As for :func:`run_analysis`.
    """
    return run_analysis("compare", chosen, options)


def run_analysis(
    what: str,
    chosen: Run | Sweep | str | Sequence[Run | Sweep | str],
    options: Mapping[str, Any] | None = None,
) -> AnalysisResult:
    """Analyze finished runs or sweeps and write the result.

    The files go to the folder ``analysis/<what>/`` of the first run or sweep: each figure as PNG
    and SVG, the tables as Markdown, LaTeX, and CSV, and ``numbers.json``.

    Raises
    ------
    UsageError
        If the analysis, a run, or an option does not exist.
    RunError
        If a run lacks what the analysis needs; the message names the command that helps.
    """
    from dartcli.reporting.analysis import write_result

    analysis: Analysis = catalog.load("analyses", what)
    subjects = find_subjects(chosen)
    if not subjects:
        raise UsageError(f"no run to analyze. Name one: `dart analyze {what} RUN`.")
    for one in subjects:
        if isinstance(one, Sweep) and not analysis.takes_sweeps:
            raise UsageError(
                f"{what} takes runs, but {one.name} is a sweep, which keeps only metrics. Train a "
                "run with `dart train`."
            )
        if not isinstance(one, Sweep) and not analysis.takes_runs:
            raise UsageError(
                f"{what} takes sweeps, but {one.name} is a run. Start a sweep with `dart sweep`."
            )
    result = analysis.answer(subjects, options)
    write_result(result, subjects[0].folder / "analysis" / what)
    return result
