"""Collect what a report shows, and write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dartcli import catalog
from dartcli.data.logs.registry import load_log
from dartcli.data.manifest import is_complete
from dartcli.data.registry import find_dataset
from dartcli.errors import DartError, RunError, UsageError
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep
from dartcli.storage import paths
from dartcli.storage.atomic import write_text

if TYPE_CHECKING:
    from dartcli.reporting.analysis import Analysis, AnalysisResult
    from dartcli.reporting.page import PageContent, Source


@dataclass(frozen=True)
class Page:
    """A page that :func:`report` wrote."""

    path: Path
    """Where it is."""
    summary: tuple[str, ...]
    """Its main sentences."""
    analyses: tuple[str, ...]
    """The analyses in it."""
    absent: Mapping[str, str]
    """What is not in it -> why."""


def write_report(chosen: Sequence[Run | Sweep | str], output: Path | None = None) -> Page:
    """Write one HTML page about runs or sweeps: what was run, measures, every analysis that fits.

    Parameters
    ----------
    chosen
        Runs or sweeps, or their names; not both kinds.
    output
        Where to write it; None takes ``reports/`` of ``DART_HOME``, named after the runs.

    Raises
    ------
    UsageError, RunError
        If there is no such run, or its files cannot be read.
    """
    from dartcli.experiments.comparison import subject
    from dartcli.reporting import overview
    from dartcli.reporting.page import render_page

    found = [subject(run) if isinstance(run, str) else run for run in chosen]
    swept = [one for one in found if isinstance(one, Sweep)]
    if swept and len(swept) < len(found):
        raise UsageError("dart report takes runs or sweeps, not both on one page.")
    if not found:
        raise UsageError("dart report needs the name of a run; see dart runs.")
    reports: list[AnalysisResult] = []
    questions: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name in catalog.names("analyses"):
        try:
            kind: Analysis = catalog.load("analyses", name)
            if not (kind.takes_sweeps if swept else kind.takes_runs):
                continue
            made, missing = _examined(kind, found)
        except DartError as error:
            absent[name] = str(error)
            continue
        reports.append(made)
        questions[made.name] = kind.question
        absent.update({f"{name} of {run}": sentence for run, sentence in missing.items()})
    context = _context(found, reports, questions, absent)
    if swept:
        # the first table leads the page
        reports = [
            replace(one, tables=one.tables[1:]) if one.name == "compare" else one for one in reports
        ]
    path = output or paths.reports() / overview.file_name(found)
    if path.is_dir():
        raise UsageError(f"--output {path} is a directory; name a file in it.")
    write_text(path, render_page(context, reports))
    return Page(path, context.summary, tuple(made.name for made in reports), absent)


def _context(
    found: Sequence[Run | Sweep],
    reports: Sequence[AnalysisResult],
    questions: Mapping[str, str],
    absent: Mapping[str, str],
) -> PageContent:
    from dartcli.reporting.overview import describe_runs, describe_sweeps

    swept = [one for one in found if isinstance(one, Sweep)]
    if not swept:
        trained = [one for one in found if isinstance(one, Run)]
        names = [run.metrics.dataset for run in trained]
        return describe_runs(trained, _sources(names), questions, absent)
    comparison = next((one for one in reports if one.name == "compare"), None)
    if comparison is None:
        raise RunError(absent.get("compare", "there is nothing to compare."))
    names = [row.settings.dataset.name for one in swept for _, row in one.finished()]
    return describe_sweeps(swept, _sources(names), questions, absent, comparison)


def _examined(
    kind: Analysis, found: Sequence[Run | Sweep]
) -> tuple[AnalysisResult, dict[str, str]]:
    """Return the report of all runs, else of those that the analysis can take, and why not all."""
    try:
        return kind.answer(found), {}
    except DartError:
        fit, missing = [], {}
        for run in found:
            try:
                kind.answer([run])
                fit.append(run)
            except DartError as error:
                missing[run.name] = str(error)
        if not fit or not missing:
            raise
        return kind.answer(fit), missing


def _sources(names: Sequence[str]) -> list[Source]:
    from dartcli.reporting.page import Source

    sources = []
    for name in dict.fromkeys(names):
        try:
            known = find_dataset(name)
        except UsageError:
            sources.append(Source(name, "not known on the machine that made this page"))
            continue
        if load_log(name) is not None:
            sources.append(Source(name, "a log of one's own; its description is in the settings"))
            continue
        citation = "" if known.citation.startswith("none") else known.citation
        partial = is_complete(name) is False
        sources.append(Source(name, known.title, known.license, citation, partial))
    return sources
