"""Tables and cells, independent of how they are shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Marked:
    """A number with marks; each output format shows them in its own way."""

    value: float | None
    """The number; None if not defined."""
    digits: int = 4
    """Digits after the decimal point."""
    signed: bool = False
    """Show a plus sign."""
    best: bool = False
    """Best of its column: bold."""
    worse: bool = False
    """Worse than the baseline: followed by an asterisk."""
    unclear: bool = False
    """Not significantly different from the baseline: gray."""


Cell = str | int | float | Marked | None


@dataclass(frozen=True)
class Table:
    """A table of unformatted cells."""

    title: str
    """What the rows are."""
    columns: tuple[str, ...]
    """Column heads."""
    rows: tuple[tuple[Cell, ...], ...]
    """Cells; None if not defined."""
    marked: bool = False
    """Whether its cells are marked as best, worse, or unclear, which the caption explains."""


def difference_cell(value: float | None, *, unclear: bool = False) -> Marked:
    """Return a difference in units of 1e-4, such as +1.2."""
    return Marked(None if value is None else 1e4 * value, 1, signed=True, unclear=unclear)
