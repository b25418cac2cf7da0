"""What a data set is: where its files are, how they are read, what is expected in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from dartcli import settings


@dataclass(frozen=True)
class Counts:
    """The row of a data set in the thesis's Table 1."""

    users: int
    """Distinct users."""
    items: int
    """Distinct items."""
    true_positives: int
    """Interactions that the user liked."""
    false_positives: int
    """Interactions that the user did not like."""


@dataclass(frozen=True)
class SourceFile:
    """One file that a data set is read from, as the reader finds it after downloading."""

    path: str
    """Path as the source itself names it (``ml-100k/u.data``): under the data set's raw folder,
    in a mirror, and in an archive."""
    urls: tuple[str, ...]
    """Where it is, tried in turn: the file itself, or a zip archive that holds it."""
    sha256: str | None = None
    """Hash of the file itself (not of the archive); none = recorded at the first download."""
    size: int | None = None
    """Bytes of the file itself; none = not known."""
    limit: int = 1 << 30
    """Most bytes that the file may have."""

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return self.path.rpartition("/")[2]


def _no_counts(_options: settings.Options) -> Counts | None:
    return None


@dataclass(frozen=True)
class Dataset:
    """A data set: everything that this program knows of it."""

    name: str
    """Name in the catalogue."""
    title: str
    """One line that says what was recorded."""
    licence: str
    """What one may do with it."""
    citation: str
    """How its makers want to be cited."""
    homepage: str
    """Where its makers describe it."""
    files: tuple[SourceFile, ...]
    """What has to be downloaded; empty for a simulator."""
    options: type[settings.Options]
    """Options of the reader, such as the rating from which an interaction counts as liked."""
    read: Callable[[Path, settings.Options], pl.LazyFrame]
    """(raw folder, options) -> a table with ``user``, ``item`` and, where known, ``noisy``
    (Boolean), ``rating``, ``time`` and further fields: one row an interaction, raw ids."""
    expected: Callable[[settings.Options], Counts | None] = _no_counts
    """Counts of the complete data under these options; none = not known."""
    partial: Mapping[str, Counts] = field(default_factory=dict)
    """Known incomplete copies: what is missing -> the counts of that copy."""
