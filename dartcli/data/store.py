"""Prepared data on disk: encoded once, split once for each protocol and seed.

::

    processed/<dataset>/<key>/
      interactions.parquet  ids/user.parquet  ids/item.parquet  manifest.json
      splits/<protocol>-<seed>/
        train.parquet  valid.parquet  test.parquet  manifest.json

The key is a hash of everything that changes the bytes: format, data set, options, source hashes.
The manifest is written last; a folder without one, or without a file that it lists, does not count
and is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl
import pydantic

from dartcli import paths
from dartcli.columns import LABEL, NOISY
from dartcli.data.dataset import Counts, DataOptions, Dataset
from dartcli.data.fetch import fetch, readable, source_hashes
from dartcli.data.fields import Field
from dartcli.errors import DataError, UsageError
from dartcli.files import (
    building,
    fault,
    locked,
    read_sealed,
    reason,
    sha256,
    write_sealed,
    write_table,
)
from dartcli.settings import Options, Protocol, parsed
from dartcli.version import __version__

FORMAT: Final = 4
"""Version of the prepared files: raise it when the same source gives other bytes."""
MANIFEST: Final = "manifest.json"
INTERACTIONS: Final = "interactions.parquet"
IDS: Final = "ids"
SPLIT_FOLDER: Final = "splits"
LAST: Final = "last.json"
TEST_CLEAN: Final = "test_clean.parquet"
HASHES: Final = "hashes.json"


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


class File(Options):
    """One file of prepared data."""

    sha256: str
    """Hash of the file."""
    size: int
    """Bytes."""


class Last(Options):
    """The data set that was prepared last."""

    dataset: str
    """Its name."""


class Manifest(Options):
    """Everything that is known of prepared data."""

    format: int
    """Version of the files."""
    program: str
    """Version of the program that wrote them."""
    dataset: str
    """Name of the data set."""
    title: str
    """What was recorded."""
    options: dict[str, Any]
    """Options of the reader."""
    sources: dict[str, str]
    """Source file -> SHA-256."""
    counts: DataCounts
    """What is in the data."""
    complete: bool | None
    """The counts are those of the complete data set; null = not known."""
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
    files: dict[str, File]
    """The files beside the manifest (``/`` between folder and name)."""


@dataclass(frozen=True)
class Prepared:
    """A split of a data set, on disk."""

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
        raise DataError(_broken(path, reason(error), manifest.dataset)) from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(_broken(path, str(error), manifest.dataset)) from error


def _whole(folder: Path, name: str, manifest: Manifest) -> Path:
    """Return the path of a file; DataError where it is not the one that was written."""
    path = folder / name
    wrong = fault(path, manifest.files[name].sha256)
    if wrong:
        words = f"it is not the file that was written: {wrong}"
        raise DataError(_broken(path, words, manifest.dataset))
    return path


def _broken(path: Path, what: str, dataset: str) -> str:
    folder = path.parent if path.suffix == ".parquet" else path
    return f"cannot read {path} ({what}); remove {folder} and run dart preprocess {dataset} again."


def prepare(
    dataset: Dataset,
    options: DataOptions,
    protocol: Protocol,
    split_seed: int,
    *,
    note: Callable[[str], None] | None = None,
) -> Prepared:
    """Return the split of ``dataset``, doing what is missing: fetch, encode, split.

    Where everything is there, only manifests are read and files looked at, not opened.

    Parameters
    ----------
    dataset, options
        What to read, and how.
    protocol
        Decides how negatives are drawn (see :func:`dartcli.data.split.split`) and names the split.
    split_seed
        The only source of randomness.
    note
        Called with a sentence for each step that is done.

    Raises
    ------
    DataError, DownloadError
        If the sources cannot be had or read.
    """
    say = note or (lambda _sentence: None)
    if dataset.local_files is not None:
        sources = local_hashes(dataset.local_files(options))
    else:
        if not readable(dataset):
            say(f"{dataset.name} is not here yet: fetching it")
            fetch(dataset, note=note)
        sources = source_hashes(dataset)
    key = _key(dataset.name, options.model_dump(mode="json"), sources)
    home = paths.processed_data(dataset.name) / key
    folder = home / SPLIT_FOLDER / f"{protocol.name}-{split_seed}"
    manifest, fresh = _manifest(folder), False
    if manifest is None:
        with locked(home.parent / f".{home.name}.lock"):
            manifest = _manifest(folder)
            if manifest is None:
                fresh = True
                whole = _manifest(home)
                if whole is None:
                    say(f"preparing {dataset.name}")
                    whole = _encode(dataset, options, sources, home)
                manifest = _split(dataset, options, whole, home, folder, protocol, split_seed)
    if last_prepared() != dataset.name:
        write_sealed(_last(), {"dataset": dataset.name})
    return Prepared(folder, manifest, fresh)


def last_prepared() -> str | None:
    """Return the name of the data set that was prepared last, or None where none was.

    Raises
    ------
    DataError
        If the note of it is not what was written.
    """
    path = _last()
    if not path.is_file():
        return None
    try:
        return parsed(Last, read_sealed(path), str(path)).dataset
    except UsageError as error:
        raise DataError(f"{str(error)[:-1]}; remove {path}.") from error


def known_complete(dataset: str) -> bool | None:
    """Return whether what was prepared of ``dataset`` last is complete; None = nobody knows."""
    manifests = list(paths.processed_data(dataset).glob(f"*/{MANIFEST}"))
    if not manifests:
        return None
    newest = max(manifests, key=lambda path: path.stat().st_mtime_ns)
    manifest = _manifest(newest.parent)
    return manifest.complete if manifest else None


def _last() -> Path:
    return paths.home() / "processed" / LAST


def check(folder: Path) -> None:
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


def believed(folder: Path) -> Manifest | None:
    """Return the manifest of ``folder``; None where it is not the one that was written there."""
    path = folder / MANIFEST
    try:
        manifest = parsed(Manifest, read_sealed(path), str(path))
    except (DataError, UsageError, TypeError, ValueError):
        return None
    return manifest if folder == _place(manifest) else None


def _key(dataset: str, options: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    document = [FORMAT, dataset, options, sorted(sources.items())]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def _manifest(folder: Path) -> Manifest | None:
    """Return the manifest of ``folder``; None where it, or a file that it lists, is not whole."""
    manifest = believed(folder)
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


def _encode(
    dataset: Dataset, options: DataOptions, sources: Mapping[str, str], home: Path
) -> Manifest:
    """Read and encode the source; write ``home``."""
    from dartcli.data.prepare import coded, encode

    encoded = encode(dataset.read(paths.raw_data(dataset.name), options), dataset.name)
    _check_sources(dataset, sources)
    sizes = {name: len(ids) for name, ids in encoded.ids.items()}
    counts = _counts(encoded.interactions, sizes)
    complete, warnings = _compared(dataset, options, counts)
    with building(home) as place:
        write_table(encoded.interactions, place / INTERACTIONS)
        (place / IDS).mkdir()
        for name, ids in encoded.ids.items():
            write_table(ids, place / IDS / f"{name}.parquet")
        test = dataset.read_test(options) if dataset.read_test else None
        if test is not None:
            write_table(coded(test, encoded.ids), place / TEST_CLEAN)
        manifest = Manifest(
            format=FORMAT,
            program=__version__,
            dataset=dataset.name,
            title=dataset.title,
            options=options.model_dump(mode="json"),
            sources=dict(sources),
            counts=counts,
            complete=complete,
            warnings=warnings,
            duplicates_dropped=encoded.duplicates_dropped,
            fields=tuple(Field(name=name, size=n, values=n) for name, n in sizes.items()),
            sampled_negatives=counts.impressions == 0,
            files=_files(place),
        )
        write_sealed(place / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _check_sources(dataset: Dataset, sources: Mapping[str, str]) -> None:
    """Raise DataError where what was read is not what the key is made of.

    Until here size and time of a file were enough; what is prepared of it is kept for long.
    """
    folder = paths.raw_data(dataset.name)
    for name, digest in sources.items():
        path = folder / name  # a user's own files have absolute names
        wrong = fault(path, digest)
        if wrong:
            again = "let nobody write it meanwhile, and run the command again"
            if dataset.local_files is None:
                again = f"remove it and run dart download {dataset.name} again"
            raise DataError(f"{path} is not the file that was looked at before ({wrong}); {again}.")


def _files(folder: Path) -> dict[str, File]:
    return {
        path.relative_to(folder).as_posix(): File(sha256=sha256(path), size=path.stat().st_size)
        for path in sorted(folder.rglob("*.parquet"))
    }


def _counts(interactions: pl.DataFrame, sizes: Mapping[str, int]) -> DataCounts:
    positive = interactions.filter(pl.col(LABEL) > 0)
    false = int(positive[NOISY].sum())
    unknown = positive[NOISY].null_count()
    return DataCounts(
        users=sizes["user"],
        items=sizes["item"],
        interactions=len(interactions),
        true_positives=len(positive) - false - unknown,
        false_positives=false,
        unknown=unknown,
        impressions=len(interactions) - len(positive),
    )


def _compared(
    dataset: Dataset, options: DataOptions, counts: DataCounts
) -> tuple[bool | None, tuple[str, ...]]:
    """Compare with what the data set should hold: complete or not, and the warnings."""
    expected = dataset.expected(options)
    if expected is None:
        return None, ()
    found = Counts(
        counts.users,
        counts.items,
        counts.true_positives,
        counts.false_positives,
        counts.interactions,
    )
    differences = found.differences(expected)
    if not differences:
        return True, ()
    for what, partial in dataset.partial.items():
        if not found.differences(partial):
            return False, (f"{dataset.name} is partial: {what} ({'; '.join(differences)}).",)
    return False, (
        f"{dataset.name} is partial, or not the data set it should be: {'; '.join(differences)}.",
    )


def _shortage(whole: Manifest, tables: Mapping[str, pl.DataFrame], protocol: Protocol) -> list[str]:
    """Return a warning where too few pairs were left to draw as many negatives as positives."""
    if not whole.sampled_negatives:
        return []
    names = ("valid", "test") if protocol.resample_negatives else tuple(tables)
    labels = pl.concat([tables[name][LABEL] for name in names])
    positives = int((labels > 0).sum())
    negatives = len(labels) - positives
    if negatives == positives:
        return []
    return [
        f"{whole.dataset} is so dense that only {negatives:,} negatives could be sampled for "
        f"{positives:,} positives ({', '.join(names)})."
    ]


def _split(
    dataset: Dataset,
    options: DataOptions,
    whole: Manifest,
    home: Path,
    folder: Path,
    protocol: Protocol,
    split_seed: int,
) -> Manifest:
    """Split the encoded interactions in ``home``; write ``folder``."""
    from dartcli.data.fields import fitted
    from dartcli.data.split import split

    tables: Mapping[str, pl.DataFrame] = split(
        _table(home, INTERACTIONS, whole),
        whole.fields[0].values,
        whole.fields[1].values,
        negatives_first=not protocol.resample_negatives,
        seed=split_seed,
        how=options.split,
        test=_table(home, TEST_CLEAN, whole) if TEST_CLEAN in whole.files else None,
    )
    fields = whole.fields
    shortage = _shortage(whole, tables, protocol)
    if dataset.unknown_ids:
        tables, fields = fitted(tables, fields, getattr(options, "bins", 10))
    with building(folder) as place:
        for name, table in tables.items():
            write_table(table, place / f"{name}.parquet")
        manifest = whole.model_copy(
            update={
                "protocol": protocol.name,
                "split_seed": split_seed,
                "fields": fields,
                "rows": {name: len(table) for name, table in tables.items()},
                "warnings": (*whole.warnings, *shortage),
                "files": _files(place),
            }
        )
        write_sealed(place / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def local_hashes(files: list[Path]) -> dict[str, str]:
    """Return path -> SHA-256 of a user's own files, hashing anew only what changed.

    Size and time of a file that was hashed before are remembered; both must be the same.
    """
    remembered = paths.home() / "own" / HASHES
    try:
        known = read_sealed(remembered)
    except DataError:
        known = {}
    result = {}
    for path in files:
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        entry = known.get(str(path))
        if not (isinstance(entry, list) and entry[:2] == stamp):
            known[str(path)] = [*stamp, sha256(path)]
        result[str(path)] = known[str(path)][2]
    write_sealed(remembered, known)
    return result
