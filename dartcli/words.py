"""Numbers in words: the same in the terminal and on a page."""

from __future__ import annotations


def number(value: str | int | float | None, digits: int = 4) -> str:
    """Return a cell in words: counts with thousands separators, shares with ``digits`` digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    if isinstance(value, int):
        return f"{value:,}"
    return value
