"""What an epoch came to, and where a training stands between two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from torch import Tensor

from dartcli.training.program import Engine, State


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to."""

    epoch: int
    """From 1."""
    iteration: int
    """Steps taken so far."""
    train_loss: float
    """Mean of the optimized loss over the epoch's steps."""
    valid_auc: float
    """AUC on the validation split, under the protocol's labels."""
    valid_log_loss: float
    """Mean binary cross-entropy on the validation split, under the protocol's labels."""
    flagged: int
    """Positives that were discarded or relabeled."""
    improved: bool
    """The validation AUC is the best so far."""
    seconds: float
    """Wall-clock time of the epoch, validation included."""
    iterations: pl.DataFrame
    """The trace: one row an iteration."""
    snapshots: dict[int, Tensor]
    """Iteration -> Float[W], logits of the watched rows right after it, where asked for."""
    engine: Engine
    """How the steps were taken at the end of the epoch."""
    remark: str | None
    """Why they were eager where something faster was asked for."""


HISTORY_COLUMNS: Final[Mapping[str, type[pl.DataType]]] = {
    "epoch": pl.Int64,
    "iteration": pl.Int64,
    "train_loss": pl.Float64,
    "valid_auc": pl.Float64,
    "valid_log_loss": pl.Float64,
    "flagged": pl.Int64,
    "improved": pl.Boolean,
}
"""The numbers of an epoch's record: columns of the history of a run."""


def epoch_table(
    records: Sequence[EpochRecord], columns: Mapping[str, type[pl.DataType]]
) -> pl.DataFrame:
    """Return the fields ``columns`` (name -> type) of ``records`` as a table, one row each."""
    values = {name: [getattr(record, name) for record in records] for name in columns}
    return pl.DataFrame(values, schema=dict(columns))


@dataclass(frozen=True)
class Position:
    """Where a training stands between two steps: everything that the rest of it depends on."""

    epoch: int
    """Being trained, from 1."""
    step: int
    """Steps taken in it; 0 = it has not begun."""
    tensors: State
    """Weights, optimizer, strategy, counters, best weights; within an epoch also the state of the
    random generator and the epoch's trace and snapshots."""
    finished: Sequence[EpochRecord]
    """The epochs before."""

    @property
    def iteration(self) -> int:
        """Steps taken so far."""
        return _steps_in(self.finished) + self.step


def _steps_in(finished: Sequence[EpochRecord]) -> int:
    return finished[-1].iteration if finished else 0
