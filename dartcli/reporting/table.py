"""Tables and cells, independent of how they are shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Marked:
    """A number that stands out: how is up to whoever shows it."""

    value: float | None
    """The number; None = not defined."""
    digits: int = 4
    """Digits behind the point."""
    signed: bool = False
    """Show a plus sign."""
    best: bool = False
    """The best of its column: bold."""
    worse: bool = False
    """Worse than the base: followed by a star."""
    unclear: bool = False
    """Not to be told apart from the base: gray."""


Cell = str | int | float | Marked | None


@dataclass(frozen=True)
class Table:
    """A table for the terminal; numbers are formatted by whoever shows it."""

    title: str
    """What the rows are."""
    columns: tuple[str, ...]
    """Column heads."""
    rows: tuple[tuple[Cell, ...], ...]
    """Cells; None = not defined."""
