"""Format cells as text and tables as Markdown, LaTeX, and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Final

from dartcli.reporting.table import Marked

if TYPE_CHECKING:
    from dartcli.reporting.table import Cell, Table


def text(cell: Cell) -> str:
    """Return a cell as text: counts with thousands separators, other numbers with 4 digits."""
    if isinstance(cell, Marked):
        if cell.value is not None:
            # adding 0.0 removes the sign of a negative number that was rounded to zero
            value = round(cell.value, cell.digits) + 0.0
            return f"{value:{'+' if cell.signed else ''}.{cell.digits}f}" + "*" * cell.worse
        cell = None
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.4f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return "–" if cell is None else cell


def caption(table: Table, *, best: str = "", unclear: str = "") -> str:
    """Return the title, and what marks mean; ``best`` and ``unclear`` name those of a format."""
    marks = {best: "best", "*": "significantly worse than base", unclear: "not significant"}
    legend = "; ".join(f"{mark}: {meaning}" for mark, meaning in marks.items() if mark)
    return f"{table.title} ({legend})" if table.marked else table.title


def format_size(size: int | None) -> str:
    """Return a number of bytes as ``1.2 MB``, or a dash if it is unknown."""
    if size is None:
        return "–"
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def is_numeric(table: Table, column: int) -> bool:
    """Return True if a column has no text."""
    return all(not isinstance(row[column], str) for row in table.rows)


def format_markdown(table: Table) -> str:
    """Return ``table`` as GitHub Markdown: best in bold, not significant in italics."""

    def shown(cell: Cell) -> str:
        words = re.sub(r"([\\|*_<>`\[\]])", r"\\\1", text(cell))
        if isinstance(cell, Marked) and cell.value is not None:
            words = f"_{words}_" if cell.unclear else words
            words = f"**{words}**" if cell.best else words
        return words

    rule = ["---:" if is_numeric(table, column) else "---" for column in range(len(table.columns))]
    heads = [shown(head) for head in table.columns]
    lines = [heads, rule, *([shown(cell) for cell in row] for row in table.rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    title = shown(caption(table, best="bold", unclear="italics"))
    return f"**{title}**\n\n{body}\n"


_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
}


def format_html(table: Table) -> str:
    """Return ``table`` as a plain HTML table, for notebooks: best in bold, unclear in gray."""

    def shown(cell: Cell) -> str:
        words = escape(text(cell))
        if isinstance(cell, Marked) and cell.value is not None:
            words = f'<span style="color: gray">{words}</span>' if cell.unclear else words
            words = f"<b>{words}</b>" if cell.best else words
        return words

    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{shown(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    title = escape(caption(table, best="bold", unclear="gray"))
    return f"<table><caption>{title}</caption><tr>{head}</tr>{rows}</table>"


def format_latex(table: Table) -> str:
    """Return ``table`` as LaTeX that needs the packages booktabs and xcolor."""

    def shown(cell: Cell) -> str:
        words = re.sub(r"[\\&%$#_{}~^–]", lambda found: _LATEX[found[0]], text(cell))
        if isinstance(cell, Marked) and cell.value is not None:
            words = words.replace("*", r"$^\ast$")
            words = f"\\textcolor{{gray}}{{{words}}}" if cell.unclear else words
            words = f"\\textbf{{{words}}}" if cell.best else words
        return words

    align = "".join(
        "r" if is_numeric(table, column) else "l" for column in range(len(table.columns))
    )
    heads = " & ".join(shown(head) for head in table.columns)
    rows = "\n".join(f"  {' & '.join(shown(cell) for cell in row)} \\\\" for row in table.rows)
    return (
        "\\begin{table}\n"
        f"\\caption{{{shown(caption(table, best='bold', unclear='gray'))}}}\n"
        f"\\begin{{tabular}}{{{align}}}\n\\toprule\n  {heads} \\\\\n\\midrule\n{rows}\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def format_csv(table: Table) -> str:
    """Return ``table`` as CSV: full precision, no marks, empty if not defined."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        values = [cell.value if isinstance(cell, Marked) else cell for cell in row]
        writer.writerow(["" if value is None else value for value in values])
    return lines.getvalue()


FORMATS: Final[dict[str, Callable[[Table], str]]] = {
    "markdown": format_markdown,
    "latex": format_latex,
    "csv": format_csv,
}
"""Name of a format -> function that formats a table."""
SUFFIXES: Final = {"markdown": "md", "latex": "tex", "csv": "csv"}
"""Name of a format -> suffix of its files."""
