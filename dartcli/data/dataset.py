"""What a dataset is: where its files are, how they are read, what is expected in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import polars as pl

from dartcli import settings

BIN_PREFIX: Final = "bin:"
"""A column so named holds numbers that become quantile bins when the data are split."""


class DataOptions(settings.Options):
    """Options that every dataset has."""

    split: Literal["random", "temporal", "leave-last-out"] = "random"
    """``random``: 8 : 1 : 1. ``temporal``: the earliest 80 % are trained on, the latest 10 % test.
    ``leave-last-out``: each user's last interaction tests, the one before validates."""


@dataclass(frozen=True)
class Counts:
    """What is in a dataset, as the thesis's Table 1 has it; None = not known."""

    users: int | None = None
    """Distinct users."""
    items: int | None = None
    """Distinct items."""
    true_positives: int | None = None
    """Interactions that the user liked."""
    false_positives: int | None = None
    """Interactions that the user did not like."""
    interactions: int | None = None
    """Interactions."""

    def differences(self, expected: Counts) -> list[str]:
        """Return "FOUND NAME instead of EXPECTED" for each count that is known and differs."""
        found, wanted = vars(self), vars(expected)
        return [
            f"{found[name]:,} {name.replace('_', ' ')} instead of {wanted[name]:,}"
            for name in wanted
            if wanted[name] is not None and found[name] != wanted[name]
        ]


@dataclass(frozen=True)
class SourceFile:
    """One file that a dataset is read from, as the reader finds it after downloading."""

    path: str
    """Path as the source itself names it (``ml-100k/u.data``): under the dataset's raw folder,
    in a mirror, and in an archive."""
    urls: tuple[str, ...]
    """Where it is, tried in turn: the file itself, or a zip archive that holds it."""
    sha256: str | None = None
    """Hash of the file itself (not of the archive); none = recorded at the first download."""
    size: int | None = None
    """Bytes of the file itself; none = not known."""
    limit: int = 1 << 30
    """Most bytes that the file may have."""
    required: bool = True
    """False: the dataset can be read without it, and is then partial."""

    archive_sha256: str | None = None
    """Hash of the archive that ``urls`` lead to; none = not known."""
    aliases: tuple[str, ...] = ()
    """Other names under which a mirror or an archive holds the file."""

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return self.path.rpartition("/")[2]


def _no_counts(_options: DataOptions) -> Counts | None:
    return None


@dataclass(frozen=True)
class Dataset:
    """A dataset: everything that this program knows of it."""

    name: str
    """Name in the catalog."""
    title: str
    """One line that says what was recorded."""
    license: str
    """What one may do with it."""
    citation: str
    """How its makers want to be cited."""
    homepage: str
    """Where its makers describe it."""
    files: tuple[SourceFile, ...]
    """What has to be downloaded; empty for a simulator."""
    options: type[DataOptions]
    """Options of the reader, such as the rating from which an interaction counts as liked."""
    read: Callable[[Path, DataOptions], pl.LazyFrame]
    """(raw folder, options) -> a table with ``user``, ``item`` and, where known, ``noisy``
    (Boolean), ``rating``, ``time`` and further fields: one row an interaction, raw ids."""
    expected: Callable[[DataOptions], Counts | None] = _no_counts
    """Counts of the complete data under these options; none = not known."""
    partial: Mapping[str, Counts] = field(default_factory=dict)
    """Known incomplete copies: what is missing -> the counts of that copy."""
    local_files: Callable[[DataOptions], list[Path]] | None = None
    """Files of the user's own that it is read from, where nothing is downloaded."""
    read_test: Callable[[DataOptions], pl.LazyFrame | None] | None = None
    """A test table with clean labels that replaces the test split, in the columns of ``read``."""
    unknown_ids: bool = False
    """Ids first seen outside training share one further code of their field."""
