"""Reports as one HTML page that needs nothing else: no network, no other file.

Pure: what analyses found and a :class:`Context` go in, text comes out. The templates are in
``dartcli/templates/``; whatever is put into them is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from dartcli.reporting import svg
from dartcli.reporting.analysis import AnalysisResult
from dartcli.reporting.formats import text
from dartcli.reporting.table import Cell, Marked, Table

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Source:
    """A dataset, as a page names it."""

    name: str
    """Name of the dataset."""
    title: str = ""
    """What it is."""
    license: str = ""
    """Its license, in a line."""
    citation: str = ""
    """What its makers ask to be cited."""
    partial: bool = False
    """True if the copy that was used is known not to be complete."""


@dataclass(frozen=True)
class PageContent:
    """What a page says besides what the analyses found."""

    title: str
    """Heading."""
    subtitle: tuple[str, ...]
    """Below the heading: what was looked at, in a few words each."""
    summary: tuple[str, ...]
    """The main result, one to three sentences."""
    results: Table
    """The measures, one row a run."""
    seeds: Table | None = None
    """The measures of every seed, folded away."""
    setup: tuple[Table, ...] = ()
    """What was run: the settings that matter."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Versions and machine: term -> words."""
    sources: tuple[Source, ...] = ()
    """The datasets."""
    questions: Mapping[str, str] = field(default_factory=dict)
    """Name of an analysis -> the question it answers."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """What is not included -> the sentence that says why."""
    commands: tuple[str, ...] = ()
    """What repeats it, one command a line."""
    documents: Mapping[str, str] = field(default_factory=dict)
    """File name -> text of the files that the commands read."""
    made_on: str = ""
    """When the last run ended, in words."""


def render_page(context: PageContent, reports: Sequence[AnalysisResult]) -> str:
    """Return the HTML page of ``reports``: the same text whenever it is asked for the same.

    Figures are drawn as inline SVG, tables can be sorted by their heads, and a reader's choice of
    dark or light holds.
    """
    from markupsafe import Markup

    script, sheet = _file("report.js"), _file("report.css")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{_digest(script)}'"
    )
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            context=context,
            reports=[(report, _figures(report, place)) for place, report in enumerate(reports, 1)],
            policy=policy,
            script=Markup(script),  # noqa: S704 - our own files
            sheet=Markup(sheet),  # noqa: S704
        )
    )


def _figures(report: AnalysisResult, place: int) -> list[tuple[str, str]]:
    """Return (caption, SVG) of each figure."""
    from markupsafe import Markup

    found: list[tuple[str, str]] = []
    for count, (name, figure) in enumerate(report.figures.items(), 1):
        many = len(report.figures) > 1
        caption = f"{report.title}: {name.replace('-', ' ')}" if many else report.title
        label = " ".join([f"{caption}.", *report.sentences])
        drawn = svg.inline(figure, f"f{place}-{count}-", label)
        found.append((caption, Markup(drawn)))  # noqa: S704 - a serialized tree, escaped
    return found


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("dartcli.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=text, order=_order, kind=_kind)
    made.tests.update(numeric=_numeric)
    return made


def _file(name: str) -> str:
    return (files("dartcli.reporting") / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _order(cell: Cell) -> str:
    """Return the number that a cell is sorted by, else nothing: ``0.71 ± 0.02`` sorts as 0.71."""
    if isinstance(cell, Marked):
        cell = cell.value
    if isinstance(cell, str):
        match = re.match(r"-?\d+(\.\d+)?(?= ±|$)", cell)
        return match[0] if match else ""
    return "" if cell is None else repr(float(cell))


def _kind(cell: Cell) -> str:
    """Return the classes of a cell that stands out."""
    if not isinstance(cell, Marked):
        return ""
    return " best" * cell.best + " unclear" * cell.unclear


def _numeric(rows: Sequence[Sequence[Cell]], column: int) -> bool:
    """Return True if a column holds numbers only."""
    return all(text(row[column]) == "–" or _order(row[column]) for row in rows)
