"""Print tables on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from dartcli.cli.console import stdout
from dartcli.reporting import formats
from dartcli.reporting.table import Marked

if TYPE_CHECKING:
    from dartcli.reporting.table import Cell
    from dartcli.reporting.table import Table as View


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    sections: Sequence[int] = (),
) -> None:
    """Print a table; columns of numbers are right-aligned.

    ``sections`` lists the numbers of rows after which a rule is drawn.
    """
    view = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    widths = _fit_widths(columns, rows, stdout().width - 3 * len(columns) - 1)
    for position, column in enumerate(columns):
        numeric = all(not isinstance(row[position], str) for row in rows)
        view.add_column(
            column,
            justify="right" if numeric else "left",
            width=widths[position] if widths else None,
            overflow="fold",
        )
    for index, row in enumerate(rows):
        view.add_row(*(_style(cell) for cell in row), end_section=index + 1 in sections)
    stdout().print(view)


def show(view: View) -> None:
    """Print a table of a result; text without styles shows neither bold nor dim."""
    marks = {"best": "bold", "unclear": "dim"} if stdout().color_system else {}
    table(formats.caption(view, **marks), view.columns, view.rows)


def _style(value: Cell) -> Text:
    style = ""
    if isinstance(value, Marked):
        style = "bold" if value.best else "dim" if value.unclear else ""
    return Text(formats.text(value), style=style)


def _fit_widths(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], room: int
) -> list[int] | None:
    """Return column widths that sum to at most ``room``, or None if the cells do not fit.

    Headers may wrap between words; cells wrap only in the widest column whose text can spare the
    excess.
    """
    texts = [[formats.text(cell) for cell in row] for row in rows]
    cells = [max((len(row[i]) for row in texts), default=1) for i in range(len(columns))]
    heads = [max(map(len, column.split()), default=1) for column in columns]
    widths = [max(cell, head) for cell, head in zip(cells, heads, strict=True)]
    excess = sum(widths) - room
    for position in sorted(range(len(columns)), key=lambda i: -widths[i]):
        words = [word for row in texts for word in row[position].split()]
        spare = widths[position] - max([heads[position], *map(len, words)])
        if 0 < excess <= spare:
            widths[position] -= excess
            return widths
    if excess > 0:
        if sum(cells) > room:
            return None
        widths = cells
    for position, column in enumerate(columns):
        more = min(max(len(column) - widths[position], 0), room - sum(widths))
        widths[position] += more
    return widths
