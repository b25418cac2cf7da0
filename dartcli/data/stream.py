"""Tables in files: fixed-width columns that are mapped into memory, and read window by window.

The rows of an epoch are divided into windows, which are held in memory one after the other while a
thread reads the next. Which rows a window has, and their order in it, are a function of the seed,
the epoch, and the number of the window. With a single window, it is the order of a table in memory.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dartcli.data.columns import RATING
from dartcli.data.manifest import Prepared, SplitName, find_columns
from dartcli.data.seeds import derived_seed
from dartcli.data.tensors import Epoch, Interactions, TrainingSet, known_pairs, to_interactions

BLOCK: Final = 1 << 16
"""Rows at least that lie next to each other in the file and come into one window together."""
MEASURED: Final = 1 << 18
"""Rows of a split that are scored at least if the data are streamed."""
RESIDENT, WINDOW = 0.6, 0.25
"""Shares of the available memory: up to which a table is held in memory, and for two windows."""
STREAM: Final = 7
"""Stream of randomness that deals blocks to windows."""


def write_columns(
    frame: pl.DataFrame, fields: Sequence[str], items: int | None, folder: Path
) -> None:
    """Write a split as fixed-width columns, each in a NumPy file.

    With ``items``, their number, one of them is ``pairs``: Int64[K], the positives' sorted codes.
    """
    table = to_interactions(frame, fields, torch.device("cpu"))
    columns = {
        "fields": table.fields.t().to(torch.int32).contiguous().numpy(),
        "label": table.label.numpy(),
        "kind": table.kind.numpy(),
    }
    if RATING in frame.columns:
        columns["rating"] = frame[RATING].cast(pl.Float32).fill_null(math.nan).to_numpy()
    if items is not None:
        columns["pairs"] = known_pairs(table, items).numpy()
    folder.mkdir(parents=True)
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column, allow_pickle=False)


def map_columns(prepared: Prepared, split: SplitName) -> dict[str, Tensor]:
    """Return the columns of a split, which stay in their files; DataError if one is corrupt."""
    with warnings.catch_warnings():
        # PyTorch warns that nothing keeps us from writing to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {
            name: torch.from_numpy(np.lib.format.open_memmap(path, mode="r"))
            for name, path in find_columns(prepared, split).items()
        }


def load_measured(
    prepared: Prepared, split: SplitName, window: int, device: torch.device
) -> tuple[Interactions, pl.Series | None]:
    """Return all rows of a split, or two windows of evenly spaced ones, to score; and ratings."""
    columns = map_columns(prepared, split)
    number = len(columns["label"])
    wanted = min(number, max(2 * window, MEASURED))
    chosen = torch.arange(wanted) * number // max(wanted, 1)
    fields, label, kind = (columns[name][..., chosen] for name in ("fields", "label", "kind"))
    table = Interactions(fields.t().to(torch.int64).contiguous(), label, kind).to(device)
    rating = columns["rating"][chosen].numpy() if "rating" in columns else None
    return table, None if rating is None else pl.Series(RATING, rating, nan_to_null=True)


def resident_bytes(prepared: Prepared) -> int:
    """Return about how many bytes training takes if it holds the whole table in memory."""
    rows, fields = prepared.manifest.rows["train"], len(prepared.fields)
    return rows * _bytes_per_row(fields)


def choose_window(prepared: Prepared, available: int) -> int | None:
    """Return the rows of a window if training does not fit in ``available`` bytes, else None."""
    if not available or resident_bytes(prepared) <= RESIDENT * available:
        return None
    # the next window is read meanwhile
    most = WINDOW * available / (2 * _bytes_per_row(len(prepared.fields)))
    return max(BLOCK, 1 << math.floor(math.log2(max(most, 1))))


def _bytes_per_row(fields: int) -> int:
    # a table and its copy in the order of the epoch, the order, the record, and what is temporary;
    # the same for a negative of each row
    return 2 * (2 * (8 * fields + 5) + 8 + 12 + 32)


class _Reading(Thread):
    # waiting for it ends even if it dies for lack of memory
    def __init__(self, source: StreamedSet, *which: int) -> None:
        super().__init__(daemon=True)
        self.source, self.which = source, which
        self.found: Epoch | BaseException = MemoryError("the thread that reads ahead ended")
        self.start()

    def run(self) -> None:
        try:
            self.found = self.source.read(*self.which)
        except BaseException as error:
            self.found = error

    def wait(self) -> Epoch:
        self.join()
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


class StreamedSet(TrainingSet):
    """A training set whose table is in a file, for batches of ``size`` rows on ``device``.

    ``window`` is the number of recorded rows in memory, rounded up to blocks, which have whole
    batches.
    """

    def __init__(self, whole: TrainingSet, window: int, size: int, device: torch.device) -> None:
        known, reshuffle = whole.known, whole.reshuffle
        super().__init__(whole.recorded, whole.users, whole.items, known=known, reshuffle=reshuffle)
        self.device = device
        self.block = size * -(-BLOCK // size)
        self.window = self.block * -(-window // self.block)

    def windows(self, seed: int, epoch: int, first: int = 0) -> Iterator[Epoch]:
        """Yield the windows of an epoch from number ``first`` on; a thread reads ahead."""
        last = max(-(-len(self.recorded) // self.window), 1) - 1
        following = _Reading(self, seed, epoch, first)
        for number in range(first, last + 1):
            window = following.wait()
            if number < last:
                following = _Reading(self, seed, epoch, number + 1)
            yield window

    def __len__(self) -> int:
        """Return the number of rows per epoch; each row has a negative, if there are windows."""
        return len(self.recorded) + self._negatives(len(self.recorded))

    @property
    def window_rows(self) -> int:
        """Rows of every window but the last, negatives included."""
        recorded = min(self.window, len(self.recorded))
        return recorded + self._negatives(recorded)

    def read(self, seed: int, epoch: int, number: int) -> Epoch:
        """Return window ``number``, from 0, of an epoch."""
        rows = self._rows(seed, epoch, number)
        generator = torch.Generator(self.device)
        purpose = (1, epoch, number) if number else (1, epoch)
        generator.manual_seed(derived_seed(seed, *purpose))
        fields, label, kind = (
            torch.cat([column[part] for part in rows])
            for column in (self.recorded.fields, self.recorded.label, self.recorded.kind)
        )
        numbers = torch.cat([torch.arange(part.start, part.stop) for part in rows])
        table = Interactions(fields.to(torch.int64), label, kind).to(self.device)
        if self.known is not None:
            count, first = self._negatives(len(numbers)), len(self.recorded) + number * self.window
            table = self._sample_negatives(table, count, generator)
            numbers = torch.cat([numbers, torch.arange(first, first + count)])
        order = None
        if self.reshuffle:
            order = torch.randperm(len(table), generator=generator, device=self.device)
        return Epoch(table, order, numbers.to(self.device))

    def _rows(self, seed: int, epoch: int, number: int) -> list[slice]:
        """Return the ranges of recorded rows in a window, ascending."""
        rows = len(self.recorded)
        # the last block, which may be shorter, comes last
        full = rows // self.block
        order = np.arange(-(-rows // self.block))
        if self.reshuffle:
            random = np.random.default_rng(derived_seed(seed, STREAM, epoch))
            order[:full] = random.permutation(full)
        each = self.window // self.block
        first = np.sort(order[number * each : (number + 1) * each]) * self.block
        return [slice(int(one), min(int(one) + self.block, rows)) for one in first]

    def _negatives(self, recorded: int) -> int:
        """Return how many negatives the first ``recorded`` rows of an epoch come with."""
        if self.known is None:
            return 0
        # a few positives can be of one pair, if it has ids that are not in training
        return recorded if len(self.recorded) > self.window else len(self.known)
