"""Tables as text: what a cell looks like, and Markdown, LaTeX and CSV of a whole table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dartcli.reporting.table import Marked

if TYPE_CHECKING:
    from dartcli.reporting.table import Cell, Table


def text(cell: Cell) -> str:
    """Return a cell in words: counts with thousands separators, other numbers with 4 digits."""
    if isinstance(cell, Marked):
        if cell.value is not None:
            # adding 0.0 takes the sign from a small negative number that was rounded to zero
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


def numeric(table: Table, column: int) -> bool:
    """Return whether a column holds numbers only."""
    return all(not isinstance(row[column], str) for row in table.rows)


def markdown(table: Table) -> str:
    """Return ``table`` in GitHub's Markdown; best in bold, unclear in italics."""

    def shown(cell: Cell) -> str:
        words = re.sub(r"([\\|*_<>`\[\]])", r"\\\1", text(cell))
        if isinstance(cell, Marked) and cell.value is not None:
            words = f"_{words}_" if cell.unclear else words
            words = f"**{words}**" if cell.best else words
        return words

    rule = ["---:" if numeric(table, column) else "---" for column in range(len(table.columns))]
    heads = [shown(head.replace("\n", " ")) for head in table.columns]
    lines = [heads, rule, *([shown(cell) for cell in row] for row in table.rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{shown(table.title)}**\n\n{body}\n"


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


def latex(table: Table) -> str:
    """Return ``table`` as a LaTeX table; needs the packages booktabs and xcolor."""

    def shown(cell: Cell) -> str:
        words = re.sub(r"[\\&%$#_{}~^–]", lambda found: _LATEX[found[0]], text(cell))
        if isinstance(cell, Marked) and cell.value is not None:
            words = words.replace("*", r"$^\ast$")
            words = f"\\textcolor{{gray}}{{{words}}}" if cell.unclear else words
            words = f"\\textbf{{{words}}}" if cell.best else words
        return words

    align = "".join("r" if numeric(table, column) else "l" for column in range(len(table.columns)))
    heads = " & ".join(shown(head.replace("\n", " ")) for head in table.columns)
    rows = "\n".join(f"  {' & '.join(shown(cell) for cell in row)} \\\\" for row in table.rows)
    return (
        "\\begin{table}\n"
        f"\\caption{{{shown(table.title)}}}\n"
        f"\\begin{{tabular}}{{{align}}}\n\\toprule\n  {heads} \\\\\n\\midrule\n{rows}\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def comma_separated(table: Table) -> str:
    """Return ``table`` as CSV: numbers in full, no marks, empty where not defined."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow([head.replace("\n", " ") for head in table.columns])
    for row in table.rows:
        values = [cell.value if isinstance(cell, Marked) else cell for cell in row]
        writer.writerow(["" if value is None else value for value in values])
    return lines.getvalue()


FORMATS: Final[dict[str, Callable[[Table], str]]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": comma_separated,
}
"""Name of a format -> a table in it."""
SUFFIXES: Final = {"markdown": "md", "latex": "tex", "csv": "csv"}
"""Name of a format -> suffix of its files."""
