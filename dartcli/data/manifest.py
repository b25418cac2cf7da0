"""Prepared data on disk: manifests, files and their checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl
import pydantic

from dartcli.data.features import Field
from dartcli.errors import DataError, UsageError
from dartcli.settings import Options, validate
from dartcli.storage import paths
from dartcli.storage.atomic import os_reason
from dartcli.storage.checksums import find_mismatch, read_document

FORMAT: Final = 4
"""Version of the prepared files: raise it when the same source gives other bytes."""
MANIFEST: Final = "manifest.json"
INTERACTIONS: Final = "interactions.parquet"
IDS: Final = "ids"
SPLIT_FOLDER: Final = "splits"
TEST_CLEAN: Final = "test_clean.parquet"


class DataCounts(Options):
    """What is in the data."""

    users: int
    """Distinct users."""
    items: int
    """Distinct items."""
    interactions: int
    """Recorded rows, duplicates dropped."""
    true_positives: int
    """Positives that the user liked."""
    false_positives: int
    """Positives that the user did not like."""
    unknown: int
    """Positives of which nobody knows."""
    impressions: int
    """Recorded rows with label 0."""


class FileRecord(Options):
    """One file of prepared data."""

    sha256: str
    """Hash of the file."""
    size: int
    """Bytes."""


class Manifest(Options):
    """Everything that is known of prepared data."""

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
    """What is in the data."""
    complete: bool | None
    """The counts are those of the complete dataset; null = not known."""
    warnings: tuple[str, ...]
    """What a user should know before trusting the data."""
    duplicates_dropped: int
    """Interactions that a later one of the same user and item replaced."""
    fields: tuple[Field, ...]
    """The fields, user and item first."""
    sampled_negatives: bool
    """Negatives are sampled; false where the data hold impressions."""
    protocol: str | None = None
    """Protocol of the split; null for the encoded data before splitting."""
    split_seed: int | None = None
    """Seed of the split."""
    rows: dict[str, int] = pydantic.Field(default_factory=dict)
    """Split -> rows."""
    files: dict[str, FileRecord]
    """The files beside the manifest (``/`` between folder and name)."""


@dataclass(frozen=True)
class Prepared:
    """A split of a dataset, on disk."""

    folder: Path
    manifest: Manifest
    fresh: bool
    """True if this call did the work, False if it was there."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, user and item first."""
        return tuple(field.name for field in self.manifest.fields)

    @property
    def field_sizes(self) -> tuple[int, ...]:
        """Number of codes of each field."""
        return tuple(field.size for field in self.manifest.fields)

    @property
    def digest(self) -> str:
        """A hash of all three splits."""
        hashes = sorted((name, file.sha256) for name, file in self.manifest.files.items())
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    @property
    def users(self) -> int:
        """Number of known users: their codes are below it."""
        return self.manifest.fields[0].values

    @property
    def items(self) -> int:
        """Number of known items: their codes are below it."""
        return self.manifest.fields[1].values

    def split(self, name: Literal["train", "valid", "test"]) -> pl.DataFrame:
        """Return one split.

        Raises
        ------
        DataError
            If its file is missing or broken.
        """
        return _table(self.folder, f"{name}.parquet", self.manifest)

    def ids(self, field: str) -> pl.DataFrame:
        """Return the table of ``code`` and ``raw`` id of ``field``, in the order of the codes.

        Raises
        ------
        DataError
            If there is no such field, or its file is missing or broken.
        """
        if field not in self.fields:
            raise DataError(
                f"{self.manifest.dataset} has no field {field!r}; it has {', '.join(self.fields)}."
            )
        home = self.folder.parent.parent
        manifest = _manifest(home)
        if manifest is None:
            raise DataError(_broken(home, "files are missing", self.manifest.dataset))
        return _table(home, f"{IDS}/{field}.parquet", manifest)


def _table(folder: Path, name: str, manifest: Manifest) -> pl.DataFrame:
    """Read one Parquet file; refuse it where it is not the file that was written."""
    path = _whole(folder, name, manifest)
    try:
        return pl.read_parquet(path, glob=False)
    except OSError as error:
        raise DataError(_broken(path, os_reason(error), manifest.dataset)) from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(_broken(path, str(error), manifest.dataset)) from error


def _whole(folder: Path, name: str, manifest: Manifest) -> Path:
    """Return the path of a file; DataError where it is not the one that was written."""
    path = folder / name
    wrong = find_mismatch(path, manifest.files[name].sha256)
    if wrong:
        words = f"it is not the file that was written: {wrong}"
        raise DataError(_broken(path, words, manifest.dataset))
    return path


def _broken(path: Path, what: str, dataset: str) -> str:
    folder = path.parent if path.suffix == ".parquet" else path
    return f"cannot read {path} ({what}); remove {folder} and run dart preprocess {dataset} again."


def is_complete(dataset: str) -> bool | None:
    """Return whether what was prepared of ``dataset`` last is complete; None = nobody knows."""
    manifests = list(paths.processed_data(dataset).glob(f"*/{MANIFEST}"))
    if not manifests:
        return None
    newest = max(manifests, key=lambda path: path.stat().st_mtime_ns)
    manifest = _manifest(newest.parent)
    return manifest.complete if manifest else None


def check_files(folder: Path) -> None:
    """Compare every file of prepared data, or of a split, with what was written.

    Raises
    ------
    DataError
        If one is missing or another.
    """
    name = folder.relative_to(paths.home() / "processed").parts[0]
    manifest = _manifest(folder)
    if manifest is None:
        words = "its manifest, or a file that it lists, is missing or not what was written"
        raise DataError(_broken(folder, words, name))
    for file in manifest.files:
        _whole(folder, file, manifest)


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of ``folder``; None where it is not the one that was written there."""
    path = folder / MANIFEST
    try:
        manifest = validate(Manifest, read_document(path), str(path))
    except (DataError, UsageError, TypeError, ValueError):
        return None
    return manifest if folder == _place(manifest) else None


def _key(dataset: str, options: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    document = [FORMAT, dataset, options, sorted(sources.items())]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def _manifest(folder: Path) -> Manifest | None:
    """Return the manifest of ``folder``; None where it, or a file that it lists, is not whole."""
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    try:
        sizes = {name: (folder / name).stat().st_size for name in manifest.files}
    except OSError:
        return None
    whole = all(sizes[name] == file.size for name, file in manifest.files.items())
    return manifest if whole else None


def _place(manifest: Manifest) -> Path:
    """Return the folder of which ``manifest`` speaks."""
    key = _key(manifest.dataset, manifest.options, manifest.sources)
    home = paths.processed_data(manifest.dataset) / key
    if manifest.protocol is None:
        return home
    return home / SPLIT_FOLDER / f"{manifest.protocol}-{manifest.split_seed}"
