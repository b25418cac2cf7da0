"""Prepared data on disk: the manifest of a folder, and reading its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl
import pydantic

from dartcli.data.counts import DataCounts
from dartcli.data.encode import RAW
from dartcli.data.features import Field
from dartcli.data.logs.labels import LabelCounts
from dartcli.errors import DataError, UsageError
from dartcli.settings import Options, validate
from dartcli.storage import paths
from dartcli.storage.checksums import find_mismatch, read_document
from dartcli.storage.tables import read_table

FORMAT: Final = 5
"""Version of prepared files; increase it if the same source gives other bytes."""
MANIFEST: Final = "manifest.json"
INTERACTIONS: Final = "interactions.parquet"
IDS: Final = "ids"
SPLIT_FOLDER: Final = "splits"
COLUMNS: Final = "columns"
TEST_CLEAN: Final = "test_clean.parquet"

SplitName = Literal["train", "valid", "test"]


class FileRecord(Options):
    """One file of prepared data."""

    sha256: str
    """Checksum of the file."""
    size: int
    """Size in bytes."""


class Manifest(Options):
    """The metadata of prepared data."""

    format: int
    """Version of the files."""
    program: str
    """Version of the program that wrote them."""
    dataset: str
    """Name of the dataset."""
    title: str
    """What was recorded."""
    options: dict[str, Any]
    """Options of the reader."""
    sources: dict[str, str]
    """Source file -> SHA-256."""
    counts: DataCounts
    """What the data contain."""
    complete: bool | None
    """Whether the counts are those of the complete dataset; null = unknown."""
    warnings: tuple[str, ...]
    """What to know before relying on the data."""
    labels: dict[str, LabelCounts] = pydantic.Field(default_factory=dict)
    """File of labels -> what it contains."""
    duplicates_dropped: int
    """Interactions replaced by a later one of the same user and item."""
    fields: tuple[Field, ...]
    """The fields, user and item first."""
    sampled_negatives: bool
    """Whether negatives are sampled; false if the data contain impressions."""
    protocol: str | None = None
    """Protocol of the split; null for encoded data before splitting."""
    split_seed: int | None = None
    """Seed of the split."""
    rows: dict[str, int] = pydantic.Field(default_factory=dict)
    """Split -> number of rows."""
    files: dict[str, FileRecord]
    """The other files in the folder, with ``/`` between folder and name."""


@dataclass(frozen=True)
class Prepared:
    """A split of a dataset, on disk."""

    folder: Path
    manifest: Manifest
    fresh: bool
    """Whether this call prepared it, rather than found it."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, user and item first."""
        return tuple(known.name for known in self.manifest.fields)

    @property
    def field_sizes(self) -> tuple[int, ...]:
        """Number of codes of each field."""
        return tuple(known.size for known in self.manifest.fields)

    @property
    def digest(self) -> str:
        """Checksum of all three splits."""
        hashes = sorted((name, file.sha256) for name, file in self.manifest.files.items())
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    @property
    def users(self) -> int:
        """Number of known users, whose codes are below it."""
        return self.manifest.fields[0].values

    @property
    def items(self) -> int:
        """Number of known items, whose codes are below it."""
        return self.manifest.fields[1].values

    def split(self, name: SplitName) -> pl.DataFrame:
        """Return one split; its file is opened and verified at each call.

        Raises
        ------
        DataError
            If its file is missing or corrupt.
        """
        return _read_table(self.folder, f"{name}.parquet", self.manifest)

    def ids(self, field: str) -> pl.DataFrame:
        """Return the table of ``code`` and ``raw`` id of ``field``, ordered by code.

        Raises
        ------
        DataError
            If there is no such field, or its file is missing or corrupt.
        """
        if field not in self.fields:
            raise DataError(
                f"{self.manifest.dataset} has no field {field!r}. "
                f"Its fields are {', '.join(self.fields)}."
            )
        home = self.folder.parent.parent
        manifest = load_manifest(home)
        if manifest is None:
            raise _corrupt_error(f"cannot read {home}: files are missing.", self.manifest.dataset)
        return _read_table(home, f"{IDS}/{field}.parquet", manifest)

    def decode(self, field: str, codes: pl.Series) -> pl.Series:
        """Return the raw ids of ``codes`` of ``field``, under the same name."""
        return self.ids(field)[RAW].gather(codes).alias(codes.name)


def find_columns(prepared: Prepared, split: SplitName) -> dict[str, Path]:
    """Return the file of each column of a split; DataError if one is missing or corrupt."""
    found = {}
    for name, file in prepared.manifest.files.items():
        if name.startswith(f"{COLUMNS}/{split}/"):
            path = prepared.folder / name
            mismatch = find_mismatch(path, file.sha256)
            if mismatch:
                cause = f"cannot read {path}: {mismatch}."
                raise _corrupt_error(cause, prepared.manifest.dataset)
            found[path.stem] = path
    return found


def _read_table(folder: Path, name: str, manifest: Manifest) -> pl.DataFrame:
    try:
        return read_table(folder / name, manifest.files[name].sha256)
    except DataError as error:
        raise _corrupt_error(str(error), manifest.dataset) from error


def _corrupt_error(cause: str, dataset: str) -> DataError:
    return DataError(f"{cause} Run `dart doctor --repair` to prepare {dataset} again.")


def read_encoded(folder: Path, manifest: Manifest) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Return the interactions before splitting, and the clean test table, if any.

    Raises
    ------
    DataError
        If a file is missing or corrupt.
    """
    has_test = TEST_CLEAN in manifest.files
    return (
        _read_table(folder, INTERACTIONS, manifest),
        _read_table(folder, TEST_CLEAN, manifest) if has_test else None,
    )


def is_complete(dataset: str) -> bool | None:
    """Return whether ``dataset``, as last prepared, is complete; None = unknown."""
    manifests = list(paths.processed_data(dataset).glob(f"*/{MANIFEST}"))
    if not manifests:
        return None
    newest = max(manifests, key=lambda path: path.stat().st_mtime_ns)
    manifest = load_manifest(newest.parent)
    return manifest.complete if manifest else None


def check_files(folder: Path) -> None:
    """Verify the checksum of every file of encoded data, or of a split.

    Raises
    ------
    DataError
        If a file is missing or corrupt.
    """
    dataset = folder.relative_to(paths.home() / "processed").parts[0]
    manifest = load_manifest(folder)
    if manifest is None:
        cause = f"cannot read {folder}: its manifest, or a file in it, is missing or corrupt."
        raise _corrupt_error(cause, dataset)
    for name, file in manifest.files.items():
        mismatch = find_mismatch(folder / name, file.sha256)
        if mismatch:
            raise _corrupt_error(f"cannot read {folder / name}: {mismatch}.", dataset)


def load_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of ``folder`` if all its files are there with their sizes, else None."""
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    try:
        sizes = {name: (folder / name).stat().st_size for name in manifest.files}
    except OSError:
        return None
    has_all = all(sizes[name] == file.size for name, file in manifest.files.items())
    return manifest if has_all else None


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of ``folder``, or None if missing, corrupt, or of another folder."""
    path = folder / MANIFEST
    try:
        manifest = validate(Manifest, read_document(path), str(path))
    except (DataError, UsageError, TypeError, ValueError):
        return None
    home = encoded_folder(manifest.dataset, manifest.options, manifest.sources)
    if manifest.protocol is None:
        return manifest if folder == home else None
    expected = split_folder(home, manifest.protocol, manifest.split_seed or 0)
    return manifest if folder == expected else None


def encoded_folder(dataset: str, options: Mapping[str, Any], sources: Mapping[str, str]) -> Path:
    """Return the folder of encoded data, named by a hash of all that determines its content."""
    document = [FORMAT, dataset, options, sorted(sources.items())]
    key = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
    return paths.processed_data(dataset) / key


def split_folder(home: Path, protocol: str, split_seed: int) -> Path:
    """Return the folder of a split of the encoded data in ``home``."""
    return home / SPLIT_FOLDER / f"{protocol}-{split_seed}"
