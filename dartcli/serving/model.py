"""A trained model with the raw ids of its data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import nn

from dartcli.data.columns import ITEM, LABEL, USER
from dartcli.data.encode import CODE, RAW
from dartcli.data.features import Field
from dartcli.data.logs.scan import scan_file
from dartcli.data.manifest import Prepared
from dartcli.errors import DataError, UsageError, first_line
from dartcli.experiments.configure import configure
from dartcli.experiments.initialize import load_trained_data
from dartcli.experiments.run import Run, load_model_weights
from dartcli.experiments.run_index import find_run
from dartcli.storage.atomic import atomic_write, ensure_directory, temporary_path
from dartcli.storage.tables import READ_ERRORS, write_table
from dartcli.training import device as devices
from dartcli.training.components import build_model
from dartcli.training.configuration import Configuration

PART: Final = 1 << 18
"""Rows that are written at once."""
SPLITS: Final = ("train", "valid", "test")


@dataclass(frozen=True)
class TrainedModel:
    """The reported weights of one seed, and what they were trained on."""

    run: Run
    seed: int
    configuration: Configuration
    prepared: Prepared
    model: nn.Module
    """In evaluation mode, on ``device``."""
    device: torch.device

    @cached_property
    def columns(self) -> dict[str, str]:
        """Field -> name of its column in the source."""
        names = self.configuration.dataset.column_names(self.configuration.dataset_options)
        return {name: names.get(name, name) for name in self.prepared.fields}

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Field -> its sizes, user and item first."""
        return {field.name: field for field in self.prepared.manifest.fields}

    @cached_property
    def tables(self) -> dict[str, pl.DataFrame]:
        """Split -> its rows."""
        return {name: self.prepared.split(name) for name in SPLITS}

    @cached_property
    def known(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Field -> Bool[values], whether a code has weights of its own.

        If unknown values share a code, a value that is not in the training split is unknown.
        """
        found = {}
        for name, field in self.fields.items():
            found[name] = np.full(field.values, field.size == field.values)
            if field.size > field.values:
                found[name][self.tables["train"][name].unique().to_numpy()] = True
        return found

    @cached_property
    def ids(self) -> dict[str, pl.DataFrame]:
        """Field with raw ids -> table of ``code`` and ``raw``, of the known values."""
        return {
            name: self.prepared.ids(name).filter(pl.Series(self.known[name]))
            for name, field in self.fields.items()
            if field.edges is None
        }

    def seen(self) -> pl.DataFrame:
        """Return the distinct pairs of ``user`` and ``item`` that interacted, in any split."""
        positives = [table.filter(pl.col(LABEL) > 0) for table in self.tables.values()]
        pairs = pl.concat([table.select(USER, ITEM) for table in positives]).unique()
        users, items = (self.fields[name].values for name in (USER, ITEM))
        return pairs.filter(pl.col(USER) < users, pl.col(ITEM) < items)

    def find_codes(self, name: str, raw: pl.Series, where: str) -> pl.Series:
        """Return UInt32[N], the code of each raw value of the field ``name``; null = unknown.

        Raises
        ------
        DataError
            If the values are not of the type of the training data.
        """
        edges = self.fields[name].edges
        if edges is not None:
            if not raw.dtype.is_numeric() and raw.count():
                raise DataError(f"{where}: column `{raw.name}` is {raw.dtype}; expected numbers.")
            # as in training: float32 first, and values at an edge belong to the bin above
            number = raw.cast(pl.Float32, strict=False).cast(pl.Float64).fill_nan(None)
            place = np.searchsorted(edges, number.fill_null(0).to_numpy(), side="right")
            return pl.Series(place.astype(np.uint32)).set(number.is_null(), None)
        ids, is_text = self.ids[name], _is_text(raw.dtype)
        # a file without rows has no types
        if is_text != (ids.schema[RAW] == pl.String) and raw.count():
            raise DataError(
                f"{where}: column `{raw.name}` is {raw.dtype}, but {ids.schema[RAW]} in the "
                "training data. Give both the same type."
            )
        values = raw.cast(ids.schema[RAW], strict=False).alias(RAW).to_frame()
        return values.join(ids, on=RAW, how="left", maintain_order="left")[CODE]


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Date)


def load_model(run: Run | str, seed: int | None, device: str) -> TrainedModel:
    """Load the reported weights of a seed of a finished run; by default its first.

    Raises
    ------
    UsageError, RunError
        If there is no such run or seed, or its files cannot be read.
    """
    run = find_run(run) if isinstance(run, str) else run
    seed = run.seeds[0] if seed is None else seed
    if seed not in run.seeds:
        known = ", ".join(map(str, run.seeds))
        raise UsageError(f"run {run.name} has no seed {seed}. Its seeds are {known}.")
    target = devices.resolve(device)
    configuration = configure(run.settings)
    prepared = load_trained_data(run, configuration, seed)
    with devices.explained(target):
        model = build_model(configuration, prepared, seed, target)
        load_model_weights(model, run, seed)
    return TrainedModel(run, seed, configuration, prepared, model.eval(), target)


def open_table(path: Path, columns: list[str]) -> pl.LazyFrame:
    """Return the rows of a Parquet, CSV, or TSV file that must have ``columns``.

    Raises
    ------
    DataError
        If the file cannot be read or has no such column.
    """
    if not path.is_file():
        raise DataError(f"no file {path}. Check the path.")
    frame = scan_file(path)
    try:
        present = frame.collect_schema().names()
    except READ_ERRORS as error:
        raise DataError(f"cannot read {path}: {first_line(error)}.") from error
    for name in columns:
        if name not in present:
            raise DataError(f"no column `{name}` in {path.name}. It has {', '.join(present)}.")
    return frame


def write_blocks(blocks: Iterable[pl.DataFrame], path: Path) -> None:
    """Write one or more blocks of rows as one Parquet file, holding a few in memory at a time.

    What the blocks raise is raised; then nothing is written.
    """
    if path.suffix.lower() not in (".parquet", ".pq"):
        named = path.with_suffix(".parquet").name
        raise UsageError(f"cannot write {path}: results are Parquet. Use a name such as `{named}`.")
    with temporary_path(path.with_name(f"{path.name}.parts")) as folder:
        ensure_directory(folder)
        parts: list[Path] = []
        waiting: list[pl.DataFrame] = []
        with atomic_write(path) as temporary:
            for block in chain(blocks, [None]):
                waiting += [] if block is None else [block]
                if block is None or sum(map(len, waiting)) >= PART:
                    parts.append(folder / f"{len(parts)}.parquet")
                    write_table(pl.concat(waiting), parts[-1])
                    waiting = [waiting[0].clear()]
            try:
                pl.scan_parquet(parts, glob=False).sink_parquet(temporary)
            except READ_ERRORS as error:
                raise OSError(first_line(error)) from error
