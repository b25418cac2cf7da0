"""Render a report as one HTML page that loads nothing: no network, no other file.

Pure: :class:`PageContent` and analysis results go in, text comes out. The templates escape
everything that is put into them.
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

from dartcli.reporting.analysis import AnalysisResult
from dartcli.reporting.figures import render_svg
from dartcli.reporting.formats import caption, text
from dartcli.reporting.table import Cell, Marked, Table

if TYPE_CHECKING:
    from jinja2 import Environment

PIXELS_PER_INCH = 108
"""Width of a figure at most."""
MIN_PIXELS_PER_INCH = 83
"""Width of a figure at least, which keeps text of 8 points legible; a wider figure scrolls."""


@dataclass(frozen=True)
class Source:
    """A dataset that a report is based on."""

    name: str
    """Name of the dataset."""
    title: str = ""
    """What it is."""
    license: str = ""
    """Its license, in one line."""
    citation: str = ""
    """The citation that its authors ask for."""
    partial: bool = False
    """The copy that was used is known to be incomplete."""


@dataclass(frozen=True)
class PageContent:
    """Everything on a page except the analyses."""

    title: str
    """Heading."""
    subtitle: tuple[str, ...]
    """What was examined, in a few words each."""
    summary: tuple[str, ...]
    """The main result, in one to three sentences."""
    metrics: Table
    """Metrics, one row per run."""
    seed_metrics: Table | None = None
    """Metrics, one row per seed; folded."""
    setup: tuple[Table, ...] = ()
    """The settings that matter."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Versions and machine."""
    sources: tuple[Source, ...] = ()
    """The datasets."""
    questions: Mapping[str, str] = field(default_factory=dict)
    """Name of an analysis -> the question it answers."""
    leads: bool = False
    """The first figure of the first analysis follows the summary."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """What is not included -> why."""
    commands: tuple[str, ...] = ()
    """Commands that reproduce the page."""
    documents: Mapping[str, str] = field(default_factory=dict)
    """File name -> text of a file that the commands read."""
    made_on: str = ""
    """When the last run ended."""


@dataclass(frozen=True)
class Image:
    """A figure as the page shows it."""

    caption: str
    """Title of the analysis, and the name of the figure if there are several."""
    alt: str
    """Text alternative."""
    source: str
    """Data URI."""
    width: int
    """Largest width in pixels."""
    min_width: int
    """Smallest width in pixels."""
    height: int
    """Height in pixels at the largest width."""


def render_page(content: PageContent, results: Sequence[AnalysisResult]) -> str:
    """Return the HTML page; equal arguments give equal text.

    Column heads sort the tables, and the page follows the reader's color scheme.
    """
    from markupsafe import Markup

    script, style = _read("report.js"), _read("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown = [(result, _images(result)) for result in results]
    leading = shown[0][1][:1] if content.leads and shown else []
    if leading:
        shown[0] = (shown[0][0], shown[0][1][1:])
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            content=content,
            leading=leading,
            results=shown,
            policy="default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{digest}'",
            script=Markup(script),  # noqa: S704 - our own files
            style=Markup(style),  # noqa: S704
        )
    )


def _images(result: AnalysisResult) -> list[Image]:
    images = []
    for name, figure in result.figures.items():
        several = len(result.figures) > 1
        caption = f"{result.title}: {name.replace('-', ' ')}" if several else result.title
        width, height = figure.get_size_inches()
        encoded = base64.b64encode(render_svg(figure, transparent=True)).decode()
        images.append(
            Image(
                caption=caption,
                alt=" ".join([f"{caption}.", *result.sentences]),
                source=f"data:image/svg+xml;base64,{encoded}",
                width=round(width * PIXELS_PER_INCH),
                min_width=round(width * MIN_PIXELS_PER_INCH),
                height=round(height * PIXELS_PER_INCH),
            )
        )
    return images


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dartcli.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        text=text, caption=caption, sort_key=_sort_key, classes=_classes, commands=_mark_commands
    )
    environment.tests.update(numeric=_is_numeric)
    return environment


def _read(name: str) -> str:
    return (files("dartcli.reporting") / "templates" / name).read_text(encoding="utf-8")


def _sort_key(cell: Cell) -> str:
    """Return the number that a cell is sorted by, if any: ``0.71 ± 0.02`` sorts as 0.71."""
    if isinstance(cell, Marked):
        cell = cell.value
    if isinstance(cell, str):
        match = re.match(r"-?\d+(\.\d+)?(?= ±|$)", cell)
        return match[0] if match else ""
    return "" if cell is None else repr(float(cell))


def _mark_commands(sentence: str) -> str:
    """Return an escaped sentence in which backticks become ``<code>`` elements."""
    from markupsafe import Markup, escape

    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence)))
    return Markup(marked)  # noqa: S704 - escaped above


def _classes(cell: Cell) -> str:
    """Return the CSS classes of a cell with marks."""
    if not isinstance(cell, Marked):
        return ""
    return " best" * cell.best + " unclear" * cell.unclear


def _is_numeric(rows: Sequence[Sequence[Cell]], column: int) -> bool:
    """Return True if a column can be sorted by number."""
    return all(text(row[column]) == "–" or _sort_key(row[column]) for row in rows)
