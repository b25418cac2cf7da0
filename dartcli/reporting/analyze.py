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


def run_analysis(
    what: str,
    chosen: Sequence[Run | Sweep | str],
    options: Mapping[str, Any] | None = None,
) -> AnalysisResult:
    """Run one analysis over finished runs and write its files.

    They go to the folder ``analysis/<what>/`` of the first run (or sweep): each figure as PNG and
    SVG, the tables as Markdown, LaTeX and CSV, and ``numbers.json``.

    Raises
    ------
    UsageError
        If there is no such analysis or run.
    RunError
        If a run lacks what the analysis needs; the message says which command makes it.
    """
    from dartcli.experiments.comparison import subject
    from dartcli.reporting import analysis

    kind: Analysis = catalog.load("analyses", what)
    found = [subject(name) if isinstance(name, str) else name for name in chosen]
    if not found:
        raise UsageError(f"dart analyze {what} needs the name of a run; see dart train.")
    wrong = [one.name for one in found if isinstance(one, Sweep) and not kind.takes_sweeps]
    if wrong:
        raise UsageError(
            f"dart analyze {what} looks at runs, but {wrong[0]} is a sweep, which keeps measures "
            "only; train a run with dart train."
        )
    if not kind.takes_runs and not all(isinstance(one, Sweep) for one in found):
        raise UsageError(
            f"dart analyze {what} looks at sweeps, not at runs; see dart sweep --help."
        )
    report = kind.answer(found, options)
    analysis.save(report, found[0].folder / "analysis" / what)
    return report
