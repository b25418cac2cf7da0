"""Tables on the training device, and the order in which an epoch visits their rows.

The randomness of an epoch is determined by two integers, the seed and the epoch number.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
import torch
from torch import Tensor

from dartcli.data.columns import LABEL, NOISY
from dartcli.data.negatives import pair_codes, sample_pairs
from dartcli.data.seeds import derived_seed

NEGATIVE: Final = 0
TRUE_POSITIVE: Final = 1
FALSE_POSITIVE: Final = 2
UNKNOWN_POSITIVE: Final = 3
"""Kinds of rows; for an unknown positive, there is no record of whether the user liked it."""

ROWS_PER_BLOCK: Final = 1 << 16
"""Rows gathered at once, in whole batches; limits the memory for an epoch's copy of the table."""


@dataclass(frozen=True)
class Interactions:
    """Interactions on a device: N rows, F fields (user and item first)."""

    fields: Tensor
    """Long[N, F]."""
    label: Tensor
    """Float[N], as recorded."""
    kind: Tensor
    """Int8[N]: negative, true, false or unknown positive. For measurement only."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.label)

    def first(self, rows: int) -> Interactions:
        """Return the first ``rows`` rows, or all if there are fewer, as views."""
        return Interactions(self.fields[:rows], self.label[:rows], self.kind[:rows])

    def to(self, device: torch.device) -> Interactions:
        """Return the same rows on ``device``."""
        return Interactions(self.fields.to(device), self.label.to(device), self.kind.to(device))

    def cpu(self) -> Interactions:
        """Return the same rows on the CPU."""
        return self.to(torch.device("cpu"))

    @property
    def clean_label(self) -> Tensor:
        """Float[N]: the label, but 0 for known false positives."""
        return self.label * (self.kind != FALSE_POSITIVE)

    @property
    def is_labeled(self) -> Tensor:
        """Bool[N]: whether the row is a positive with ground truth."""
        return (self.kind == TRUE_POSITIVE) | (self.kind == FALSE_POSITIVE)

    @property
    def positives(self) -> int:
        """Number of rows with label 1."""
        return int((self.label > 0).sum())


def to_interactions(
    frame: pl.DataFrame, fields: Sequence[str], device: torch.device
) -> Interactions:
    """Move ``frame`` (columns ``fields``, ``label``, ``noisy``) to ``device``."""
    positive, noisy = pl.col(LABEL) > 0, pl.col(NOISY)
    kind = (
        pl.when(~positive)
        .then(NEGATIVE)
        .when(noisy.is_null())
        .then(UNKNOWN_POSITIVE)
        .when(noisy)
        .then(FALSE_POSITIVE)
        .otherwise(TRUE_POSITIVE)
    )
    columns = [
        torch.from_numpy(frame[name].cast(pl.Int64).to_numpy(writable=True)) for name in fields
    ]
    return Interactions(
        fields=torch.stack(columns, dim=1).to(device),
        label=torch.from_numpy(frame[LABEL].cast(pl.Float32).to_numpy(writable=True)).to(device),
        kind=torch.from_numpy(
            frame.select(kind.cast(pl.Int8)).to_series().to_numpy(writable=True)
        ).to(device),
    )


@dataclass(frozen=True)
class Batch:
    """One mini-batch, as views of tensors on the device."""

    fields: Tensor
    """Long[B, F]; the values of a field lie next to each other."""
    label: Tensor
    """Float[B]."""
    row: Tensor
    """Long[B]: index in the table."""


@dataclass(frozen=True)
class Epoch:
    """One pass over the data, or a window of it: a table with new negatives, and its order."""

    table: Interactions
    order: Tensor | None
    """Long[N], or None for the stored order."""
    numbers: Tensor | None = None
    """Long[N], number of each row in the training table; None = its place in this one."""

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the mini-batches in order; the last may be smaller."""
        block = size * max(ROWS_PER_BLOCK // size, 1)
        for start in range(0, len(self.table), block):
            fields, label, row = self._gather(start, min(start + block, len(self.table)))
            parts = zip(fields.t().split(size), label.split(size), row.split(size), strict=True)
            yield from itertools.starmap(Batch, parts)

    def in_order(self, values: Tensor, rows: slice = slice(None)) -> Tensor:
        """Return ``values`` (one per row of the table) in the order of the epoch, or a slice."""
        return values[rows] if self.order is None else values.index_select(0, self.order[rows])

    def _gather(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return Long[F, B] fields, the labels, and the row numbers of a range of rows."""
        table = self.table
        if self.order is None:
            row = torch.arange(start, stop, device=table.label.device)
            fields, label = table.fields[start:stop].t().contiguous(), table.label[start:stop]
        else:
            row = self.order[start:stop]
            # one field at a time takes half as long as rows of several fields
            fields = torch.stack([field.index_select(0, row) for field in table.fields.unbind(1)])
            label = table.label.index_select(0, row)
        return fields, label, row if self.numbers is None else self.numbers.index_select(0, row)


class TrainingSet:
    """The training interactions, with negatives sampled for each epoch.

    Parameters
    ----------
    table
        The recorded rows, including negatives if these are sampled only once.
    users, items
        Sizes of the two id fields; negatives are uniform over users x items.
    known
        Long[K], sorted distinct pair codes that are never negatives; every epoch samples K
        negatives, whose further fields come from the recorded rows in turn. None = no sampling.
    reshuffle
        Visit the rows in a new order every epoch, rather than in the stored order.
    """

    def __init__(
        self, table: Interactions, users: int, items: int, *, known: Tensor | None, reshuffle: bool
    ) -> None:
        self.recorded = table
        self.users, self.items = users, items
        self.known = known
        self.reshuffle = reshuffle

    def replace_recorded(self, table: Interactions) -> TrainingSet:
        """Return the same training set with another record of the same rows."""
        return TrainingSet(
            table, self.users, self.items, known=self.known, reshuffle=self.reshuffle
        )

    def __len__(self) -> int:
        """Return the number of rows per epoch."""
        return len(self.recorded) + (0 if self.known is None else len(self.known))

    def epoch(self, seed: int, epoch: int) -> Epoch:
        """Return epoch number ``epoch`` (from 1), determined by it and ``seed``."""
        device = self.recorded.label.device
        generator = torch.Generator(device)
        generator.manual_seed(derived_seed(seed, 1, epoch))
        table = self.recorded
        if self.known is not None:
            table = self._sample_negatives(table, len(self.known), generator)
        order = None
        if self.reshuffle:
            order = torch.randperm(len(table), generator=generator, device=device)
        return Epoch(table, order)

    def windows(self, seed: int, epoch: int, first: int = 0) -> Iterator[Epoch]:
        """Yield the windows of an epoch from number ``first`` on; a table in memory has one."""
        yield from [self.epoch(seed, epoch)][first:]

    @property
    def window_rows(self) -> int:
        """Rows of every window but the last, negatives included."""
        return len(self)

    def count_steps(self, size: int) -> int:
        """Return the batches of ``size`` in an epoch; the last one of a window may be smaller."""
        whole, rest = divmod(len(self), self.window_rows)
        return whole * -(-self.window_rows // size) + -(-rest // size)

    def _sample_negatives(
        self, recorded: Interactions, count: int, generator: torch.Generator
    ) -> Interactions:
        """Return ``recorded`` followed by ``count`` negatives."""
        assert self.known is not None  # noqa: S101 - checked by the caller
        user, item = sample_pairs(count, self.users, self.items, self.known, generator)
        fields = torch.stack([user, item], dim=1)
        if recorded.fields.shape[1] > 2:
            source = torch.arange(len(user), device=user.device) % len(recorded)
            fields = torch.cat([fields, recorded.fields[source, 2:]], dim=1)
        return Interactions(
            fields=torch.cat([recorded.fields, fields]),
            label=torch.cat([recorded.label, recorded.label.new_zeros(len(user))]),
            kind=torch.cat([recorded.kind, recorded.kind.new_full((len(user),), NEGATIVE)]),
        )


def known_pairs(table: Interactions, items: int) -> Tensor:
    """Return the sorted distinct pair codes of the positives of ``table``."""
    positive = table.label > 0
    codes = pair_codes(table.fields[:, 0][positive], table.fields[:, 1][positive], items)
    distinct: Tensor = torch.unique(codes)
    return distinct
