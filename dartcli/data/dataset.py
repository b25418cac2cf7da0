"""What a dataset is: its files, how to read them, and the counts to expect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import polars as pl
from pydantic import field_validator

from dartcli import settings

BIN_PREFIX: Final = "bin:"
"""Prefix of a numeric column that is replaced by quantile bins when the data are split."""


def absolute_paths(files: Iterable[str]) -> tuple[str, ...]:
    """Return ``files`` with absolute paths, so that they can be read from anywhere."""
    return tuple(str(Path(path).expanduser().absolute()) for path in files)


class DataOptions(settings.Options):
    """Options that every dataset has."""

    split: Literal["random", "temporal", "leave-last-out"] = "random"
    """``random``: 80/10/10; if few interactions are labeled, a third of them is for testing.
    ``temporal``: train on the earliest 80%, test on the latest 10%.
    ``leave-last-out``: test on each user's last interaction, validate on the one before."""
    labels: tuple[str, ...] = ()
    """Files of trusted labels (``user``, ``item``, ``wanted``), which say for some interactions
    whether they are false positives, instead of the source. The last file counts. The rows of
    a separate test table keep theirs."""

    @field_validator("labels")
    @classmethod
    def _make_labels_absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return absolute_paths(value)


@dataclass(frozen=True)
class Counts:
    """The size of a dataset, as in Table 1 of the thesis; None = unknown."""

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
        """Return "FOUND NAME instead of EXPECTED" for each known count that differs."""
        found, wanted = vars(self), vars(expected)
        return [
            f"{found[name]:,} {name.replace('_', ' ')} instead of {wanted[name]:,}"
            for name in wanted
            if wanted[name] is not None and found[name] != wanted[name]
        ]


@dataclass(frozen=True)
class SourceFile:
    """One file of a dataset."""

    path: str
    """Path as the source names it (``ml-100k/u.data``), in archives, mirrors and the raw folder."""
    urls: tuple[str, ...]
    """Addresses, tried in turn, of the file itself or of a zip archive that contains it."""
    sha256: str | None = None
    """Checksum of the file, not of the archive; None = recorded at the first download."""
    size: int | None = None
    """Size of the file in bytes; None = unknown."""
    limit: int = 1 << 30
    """Largest size accepted, in bytes."""
    required: bool = True
    """If false, the dataset can be read without the file, and is then partial."""

    archive_sha256: str | None = None
    """Checksum of the archive at ``urls``; None = unknown."""
    aliases: tuple[str, ...] = ()
    """Other names of the file in a mirror or an archive."""

    @property
    def name(self) -> str:
        """File name without folders."""
        return self.path.rpartition("/")[2]


def _unknown_counts(_options: DataOptions) -> Counts | None:
    return None


def _same_names(_options: DataOptions) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Dataset:
    """A dataset: where it comes from and how it is read."""

    name: str
    """Name in the catalog."""
    title: str
    """One line that says what was recorded."""
    license: str
    """Terms of use."""
    citation: str
    """How to cite it."""
    homepage: str
    """Where its publishers describe it."""
    files: tuple[SourceFile, ...]
    """Files to download; empty for a simulator or a log."""
    options: type[DataOptions]
    """Options of the reader, such as the rating at which an interaction counts as liked."""
    read: Callable[[Path, DataOptions], pl.LazyFrame]
    """(raw folder, options) -> one row per interaction with raw ids: ``user``, ``item``, and if
    known ``noisy`` (Boolean), ``rating``, ``time`` and further fields."""
    expected: Callable[[DataOptions], Counts | None] = _unknown_counts
    """Counts of the complete dataset under these options; None = unknown."""
    partial: Mapping[str, Counts] = field(default_factory=dict)
    """Known incomplete copies: what is missing -> the counts of that copy."""
    local_files: Callable[[DataOptions], list[Path]] | None = None
    """Files of the user that are read instead of downloaded ones."""
    read_test: Callable[[DataOptions], pl.LazyFrame | None] | None = None
    """Test table with clean labels that replaces the test split, in the columns of ``read``."""
    locate_row: Callable[[DataOptions, int], str] | None = None
    """Where a row of the user's files is, for error messages; rows are counted from 0."""
    column_names: Callable[[DataOptions], Mapping[str, str]] = _same_names
    """Names that columns have in the source, if different, for error messages."""
    read_details: Callable[[Path, DataOptions, Sequence[str]], pl.LazyFrame] | None = None
    """(raw folder, options, names) -> the named columns beside ``user`` and ``item``, or beside
    ``item`` alone: what a person who labels interactions is shown. Never the ground truth."""
    unknown_ids: bool = False
    """Ids that occur only outside the training split share one additional code per field."""
