"""Prepared data on disk: encoded once, split once for each protocol and seed.

::

    processed/<dataset>/<key>/
      interactions.parquet  user.parquet  item.parquet  manifest.json
      splits/<protocol>-<seed>/
        train.parquet  valid.parquet  test.parquet  manifest.json

The key is a hash of everything that changes the bytes: format, data set, options, source hashes.
The manifest is written last; a folder without one does not count.
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

import dartcli
from dartcli import paths
from dartcli.columns import LABEL, NOISY
from dartcli.data.dataset import Counts, Dataset
from dartcli.data.fetch import fetch, source_hashes
from dartcli.errors import DataError
from dartcli.files import building, locked, read_json, sha256, write_json
from dartcli.settings import Options, Protocol, parsed

FORMAT: Final = 1
"""Version of the prepared files: raise it when the same source gives other bytes."""
MANIFEST: Final = "manifest.json"
INTERACTIONS: Final = "interactions.parquet"
LAST: Final = "last.json"


class Field(Options):
    """One categorical field of the models."""

    name: str
    """Column name."""
    size: int
    """Number of codes."""


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
    files: dict[str, str]
    """File -> SHA-256."""


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
    def users(self) -> int:
        """Number of user codes."""
        return self.field_sizes[0]

    @property
    def items(self) -> int:
        """Number of item codes."""
        return self.field_sizes[1]

    def split(self, name: Literal["train", "valid", "test"]) -> pl.DataFrame:
        """Return one split.

        Raises
        ------
        DataError
            If its file is missing or broken.
        """
        path = self.folder / f"{name}.parquet"
        try:
            table = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(_broken(path, str(error), self.manifest.dataset)) from error
        if len(table) != self.manifest.rows[name]:
            found = f"{len(table):,} rows instead of {self.manifest.rows[name]:,}"
            raise DataError(_broken(path, found, self.manifest.dataset))
        return table


def _broken(path: Path, what: str, dataset: str) -> str:
    return (
        f"cannot read {path} ({what}); remove {path.parent} and run "
        f"dart preprocess {dataset} again."
    )


def prepare(
    dataset: Dataset,
    options: Options,
    protocol: Protocol,
    split_seed: int,
    *,
    note: Callable[[str], None] | None = None,
) -> Prepared:
    """Return the split of ``dataset``, doing what is missing: fetch, encode, split.

    Raises
    ------
    DataError, DownloadError
        If the sources cannot be had or read.
    """
    say = note or (lambda _sentence: None)
    raw = paths.raw_data(dataset.name)
    if dataset.files:
        raw = fetch(dataset, note=note)
    sources = source_hashes(dataset)
    home = paths.processed_data(dataset.name) / _key(dataset, options, sources)
    folder = home / "splits" / f"{protocol.name}-{split_seed}"
    manifest = _manifest(folder)
    fresh = manifest is None
    if manifest is None:
        with locked(home.parent / f".{home.name}.lock"):
            manifest = _manifest(folder)
            if manifest is None:
                whole = _manifest(home)
                if whole is None:
                    say(f"preparing {dataset.name}")
                    whole = _encode(dataset, options, raw, sources, home)
                manifest = _split(whole, home, folder, protocol, split_seed)
    write_json(paths.home() / "processed" / LAST, {"dataset": dataset.name})
    return Prepared(folder, manifest, fresh)


def last_prepared() -> str | None:
    """Return the name of the data set that was prepared last, or None."""
    path = paths.home() / "processed" / LAST
    if not path.is_file():
        return None
    name = read_json(path).get("dataset")
    return name if isinstance(name, str) else None


def _key(dataset: Dataset, options: Options, sources: Mapping[str, str]) -> str:
    document = [FORMAT, dataset.name, options.model_dump(mode="json"), sorted(sources.items())]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def _manifest(folder: Path) -> Manifest | None:
    path = folder / MANIFEST
    return parsed(Manifest, read_json(path), str(path)) if path.is_file() else None


def _encode(
    dataset: Dataset, options: Options, raw: Path, sources: Mapping[str, str], home: Path
) -> Manifest:
    from dartcli.data.prepare import encode

    encoded = encode(dataset.read(raw, options), dataset.name)
    counts = _counts(encoded.interactions, {name: len(ids) for name, ids in encoded.ids.items()})
    complete, warnings = _compared(dataset, options, counts)
    with building(home) as place:
        encoded.interactions.write_parquet(place / INTERACTIONS)
        for name, ids in encoded.ids.items():
            ids.write_parquet(place / f"{name}.parquet")
        manifest = Manifest(
            format=FORMAT,
            program=dartcli.__version__,
            dataset=dataset.name,
            title=dataset.title,
            options=options.model_dump(mode="json"),
            sources=dict(sources),
            counts=counts,
            complete=complete,
            warnings=warnings,
            duplicates_dropped=encoded.duplicates_dropped,
            fields=tuple(Field(name=name, size=len(ids)) for name, ids in encoded.ids.items()),
            sampled_negatives=counts.impressions == 0,
            files={path.name: sha256(path) for path in sorted(place.glob("*.parquet"))},
        )
        write_json(place / MANIFEST, manifest.model_dump())
    return manifest


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
    dataset: Dataset, options: Options, counts: DataCounts
) -> tuple[bool | None, tuple[str, ...]]:
    """Compare with what the data set should hold: complete or not, and the warnings."""
    expected = dataset.expected(options)
    if expected is None:
        return None, ()
    found = Counts(counts.users, counts.items, counts.true_positives, counts.false_positives)
    if found == expected:
        return True, ()
    for what, partial in dataset.partial.items():
        if found == partial:
            return False, (f"{dataset.name} is partial: {what}.",)
    differences = ", ".join(
        f"{getattr(found, name):,} {name.replace('_', ' ')} instead of {getattr(expected, name):,}"
        for name in Counts.__dataclass_fields__
        if getattr(found, name) != getattr(expected, name)
    )
    return False, (f"{dataset.name} is not the complete data set: {differences}.",)


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
    whole: Manifest, home: Path, folder: Path, protocol: Protocol, split_seed: int
) -> Manifest:
    from dartcli.data.split import split

    path = home / INTERACTIONS
    try:
        interactions = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(_broken(path, str(error), whole.dataset)) from error
    tables = split(
        interactions,
        whole.fields[0].size,
        whole.fields[1].size,
        [field.name for field in whole.fields],
        negatives_first=not protocol.resample_negatives,
        seed=split_seed,
    )
    with building(folder) as place:
        for name, table in tables.items():
            table.write_parquet(place / f"{name}.parquet")
        manifest = whole.model_copy(
            update={
                "protocol": protocol.name,
                "split_seed": split_seed,
                "rows": {name: len(table) for name, table in tables.items()},
                "warnings": (*whole.warnings, *_shortage(whole, tables, protocol)),
                "files": {path.name: sha256(path) for path in sorted(place.glob("*.parquet"))},
            }
        )
        write_json(place / MANIFEST, manifest.model_dump())
    return manifest
