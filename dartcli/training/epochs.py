"""The record of an epoch, and the position of a training between two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl
from torch import Tensor

from dartcli.training.program import Engine, State


@dataclass(frozen=True)
class EpochRecord:
    """The results of one epoch."""

    epoch: int
    """Number of the epoch, from 1."""
    iteration: int
    """Iterations so far."""
    train_loss: float
    """Mean of the optimized loss over the iterations of the epoch."""
    valid_auc: float
    """AUC on the validation split, under the protocol's labels."""
    valid_log_loss: float
    """Mean binary cross-entropy on the validation split, under the protocol's labels."""
    flagged: int
    """Positives that were discarded or relabeled."""
    improved: bool
    """The validation AUC is the best so far."""
    seconds: float
    """Wall-clock time of the epoch, including validation."""
    iterations: pl.DataFrame
    """One row per iteration; see :meth:`dartcli.training.recorder.Recorder.summary`."""
    snapshots: dict[int, Tensor]
    """Iteration -> Float[W], logits of the watched rows right after it, if requested."""
    engine: Engine
    """How the last full batch was processed."""
    remark: str | None
    """Why steps are eager although something faster was requested."""
    stage: int = 1
    """The training in a row of the strategy's that the epoch belongs to, from 1."""
    stages: int = 1
    """How many the strategy has."""


@dataclass(frozen=True)
class Stage:
    """One of the trainings in a row that a strategy declares."""

    number: int = 1
    """Its number, from 1."""
    earlier: Sequence[EpochRecord] = ()
    """The epochs of the stages before."""
    weights: State = field(default_factory=dict)
    """The reported weights of the stage before; empty in the first stage."""
    memory: State = field(default_factory=dict)
    """The state of its strategy at its end. Both determine what it handed on."""


HISTORY_COLUMNS: Final[Mapping[str, type[pl.DataType]]] = {
    "epoch": pl.Int64,
    "iteration": pl.Int64,
    "train_loss": pl.Float64,
    "valid_auc": pl.Float64,
    "valid_log_loss": pl.Float64,
    "flagged": pl.Int64,
    "improved": pl.Boolean,
}
"""Columns of the history of a run."""


def epoch_table(
    records: Sequence[EpochRecord], columns: Mapping[str, type[pl.DataType]]
) -> pl.DataFrame:
    """Return the fields ``columns`` (name -> type) of ``records`` as a table, one row each."""
    values = {name: [getattr(record, name) for record in records] for name in columns}
    return pl.DataFrame(values, schema=dict(columns))


EARLIER: Final = "earlier."
"""Prefix of :attr:`Stage.weights` in :attr:`Position.tensors`."""
MEMORY: Final = "memory."
"""Prefix of :attr:`Stage.memory`."""


@dataclass(frozen=True)
class Position:
    """Everything that the rest of a training depends on, between two steps."""

    epoch: int
    """Current epoch, from 1."""
    step: int
    """Steps taken in it; 0 if it has not started."""
    tensors: State
    """Weights, optimizer, strategy, counters, best weights and their validation logits; within an
    epoch also the random state, the recorder's columns, and the snapshots."""
    finished: Sequence[EpochRecord]
    """The epochs before, including those of earlier stages."""
    stage: int = 1
    """Current stage, from 1."""

    @property
    def iteration(self) -> int:
        """Iterations so far, including those of earlier stages."""
        return iterations_in(self.finished) + self.step


def iterations_in(finished: Sequence[EpochRecord]) -> int:
    """Return the number of iterations in ``finished`` epochs, of one stage or several."""
    return sum({record.stage: record.iteration for record in finished}.values())
