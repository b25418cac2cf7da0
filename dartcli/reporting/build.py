"""Collect the content of a report, and write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from dartcli import catalog
from dartcli.data.logs.registry import load_log
from dartcli.data.manifest import is_complete
from dartcli.data.registry import find_dataset
from dartcli.errors import DartError, RunError, UsageError
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep
from dartcli.reporting.analyze import find_subjects
from dartcli.storage import paths
from dartcli.storage.atomic import write_text

if TYPE_CHECKING:
    from dartcli.reporting.analysis import Analysis, AnalysisResult
    from dartcli.reporting.page import PageContent, Source


@dataclass(frozen=True, repr=False)
class Page:
    """A report that :func:`write_report` wrote."""

    path: Path
    """The HTML file."""
    summary: tuple[str, ...]
    """Its main sentences."""
    analyses: tuple[str, ...]
    """Names of the analyses in it."""
    absent: Mapping[str, str]
    """What is not included -> why."""

    def __repr__(self) -> str:
        return f"<Page {self.path}>"

    def _repr_html_(self) -> str:
        """Return a link to the page, and its main sentences, for notebooks."""
        sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.summary)
        return f'<p><a href="{escape(self.path.as_uri())}">{escape(self.path.name)}</a></p>' + (
            sentences
        )


def write_report(
    chosen: Run | Sweep | str | Sequence[Run | Sweep | str], output: Path | str | None = None
) -> Page:
    """Write an HTML report about runs or sweeps: metrics, applicable analyses, settings.

    Parameters
    ----------
    chosen
        One or more runs or sweeps, or their names; not both kinds.
    output
        The file to write. Default: ``reports/`` under ``DART_HOME``, named after the runs.

    Raises
    ------
    UsageError, RunError
        If a run does not exist, or its files cannot be read.
    """
    from dartcli.reporting.overview import file_name
    from dartcli.reporting.page import render_page

    subjects = find_subjects(chosen)
    if not subjects:
        raise UsageError("no run to report on. List the runs with `dart runs`.")
    if len({isinstance(one, Sweep) for one in subjects}) > 1:
        raise UsageError("a report takes runs or sweeps, not both. Write two reports.")
    are_sweeps = isinstance(subjects[0], Sweep)
    path = Path(output).absolute() if output else paths.reports() / file_name(subjects)
    if path.is_dir():
        raise UsageError(f"--output {output} is a directory. Name a file in it.")
    results: list[AnalysisResult] = []
    analyses: dict[str, Analysis] = {}
    absent: dict[str, str] = {}
    for name in catalog.names("analyses"):
        try:
            analysis: Analysis = catalog.load("analyses", name)
            if not (analysis.takes_sweeps if are_sweeps else analysis.takes_runs):
                continue
            result, missing = _answer(analysis, subjects)
        except DartError as error:
            absent[name] = str(error)
            continue
        results.append(result)
        analyses[result.name] = analysis
        absent.update({f"{name} of {run}": sentence for run, sentence in missing.items()})
    results.sort(key=lambda one: analyses[one.name].place)
    content, names = _describe(subjects, results, absent)
    content = replace(
        content,
        sources=tuple(_sources(names)),
        questions={name: analysis.question for name, analysis in analyses.items()},
        absent=absent,
        leads=bool(results) and analyses[results[0].name].place == 0,
    )
    if are_sweeps:
        # the first table of the comparison leads the page
        results = [
            replace(one, tables=one.tables[1:]) if one.name == "compare" else one for one in results
        ]
    write_text(path, render_page(content, results))
    return Page(path, content.summary, tuple(result.name for result in results), absent)


def _answer(
    analysis: Analysis, subjects: Sequence[Run | Sweep]
) -> tuple[AnalysisResult, dict[str, str]]:
    """Return the result for all subjects, else for those that fit, and why the others do not."""
    try:
        return analysis.answer(subjects), {}
    except DartError:
        fit, missing = [], {}
        for one in subjects:
            try:
                analysis.answer([one])
                fit.append(one)
            except DartError as error:
                missing[one.name] = str(error)
        if not fit or not missing:
            raise
        return analysis.answer(fit), missing


def _describe(
    subjects: Sequence[Run | Sweep],
    results: Sequence[AnalysisResult],
    absent: Mapping[str, str],
) -> tuple[PageContent, list[str]]:
    """Return the content of the page, besides the analyses, and the names of the datasets."""
    from dartcli.reporting.overview import describe_runs
    from dartcli.reporting.sweep_overview import describe_sweeps

    runs = [one for one in subjects if isinstance(one, Run)]
    if runs:
        return describe_runs(runs), [run.metrics.dataset for run in runs]
    comparison = next((one for one in results if one.name == "compare"), None)
    if comparison is None:
        raise RunError(absent["compare"])
    sweeps = [one for one in subjects if isinstance(one, Sweep)]
    names = [row.settings.dataset.name for sweep in sweeps for _, row in sweep.finished()]
    return describe_sweeps(sweeps, comparison), names


def _sources(names: Sequence[str]) -> list[Source]:
    from dartcli.reporting.page import Source

    sources = []
    for name in dict.fromkeys(names):
        try:
            dataset = find_dataset(name)
        except UsageError:
            sources.append(Source(name, "not registered on the machine that wrote this report"))
            continue
        if load_log(name) is not None:
            sources.append(Source(name, "an interaction log, described in the settings"))
            continue
        citation = "" if dataset.citation.startswith("none") else dataset.citation
        partial = is_complete(name) is False
        sources.append(Source(name, dataset.title, dataset.license, citation, partial))
    return sources
