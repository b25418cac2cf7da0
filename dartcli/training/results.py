"""The metrics and tables of one trained seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from dartcli.settings import Options

if TYPE_CHECKING:
    from torch import Tensor


class StageMetrics(Options):
    """A training whose model identified false positives for later ones."""

    stage: int
    """Its number, from 1."""
    epochs: int
    """Epochs trained."""
    iterations: int
    """Iterations."""
    flagged_share: float | None
    """Share of the training positives that was flagged with its model; null if none are flagged
    as a whole, as with soft labels."""
    precision: float | None
    """Share of false positives among the flagged interactions that have ground truth."""
    recall: float | None
    """Share of the known false positives that were flagged."""


class SeedMetrics(Options):
    """Metrics of one training; null if a metric is not defined."""

    seed: int
    """Seed of the training."""
    split_seed: int
    """Seed of the split."""
    test_auc: float | None
    """AUC on the test split, known false positives counted as negatives."""
    test_auc_without_fp: float | None
    """AUC on the test split with the known false positives left out; null if no positive there has
    ground truth."""
    test_auc_labeled: float | None = None
    """AUC against clean labels, estimated from the test positives with ground truth as if they were
    drawn at random; null if all have it, or none has."""
    test_log_loss: float | None
    """Mean binary cross-entropy on the test split, labels as for ``test_auc``."""
    test_auc_best_epoch: float | None
    """Test AUC of the epoch with the best validation AUC."""
    test_auc_last_epoch: float | None
    """Test AUC of the last epoch."""
    test_auc_per_user: float | None = None
    """AUC within each user, averaged over the users weighted by their rows (grouped AUC)."""
    test_auc_tail_items: float | None = None
    """AUC on the rows of the least popular items, with about a fifth of the training positives."""
    test_auc_inactive_users: float | None = None
    """AUC on the rows of the least active users, with about a fifth of the training positives."""
    test_recall_at_20: float | None = None
    """Recall@20 over all items but the user's training positives, the mean over users."""
    test_ndcg_at_20: float | None = None
    """NDCG@20 of the same lists."""
    test_calibration_error: float | None = None
    """Expected calibration error on the test split, 15 equal bins, labels as for ``test_auc``."""
    valid_auc: float | None
    """Validation AUC of the reported epoch, under the protocol's labels."""
    valid_auc_recorded: float | None = None
    """Validation AUC of the reported epoch with the labels as they were recorded."""
    valid_log_loss: float | None
    """Mean binary cross-entropy on the validation split, under the protocol's labels."""
    best_epoch: int
    """Epoch with the best validation AUC."""
    reported_epoch: int
    """Epoch whose weights are kept and measured."""
    epochs: int
    """Epochs trained."""
    iterations: int
    """Iterations."""
    stopped: Literal["patience", "epochs"]
    """Why training ended: no improvement within ``patience`` epochs, or the last epoch."""
    flagged_share: float | None = None
    """Share of the positives that were flagged in the reported epoch."""
    identification_precision: float | None = None
    """Share of false positives among the interactions that were flagged in the reported epoch and
    have ground truth."""
    identification_recall: float | None = None
    """Share of the known false positives that were flagged in the reported epoch."""
    detector_log_loss: float | None = None
    """Log loss of the detector on trusted labels of users and items that were left out; null
    without trusted labels, or with a strategy of a single stage."""
    detector_prior_log_loss: float | None = None
    """Log loss of their share of false positives on the same labels."""
    detector_auc: float | None = None
    """AUC of the detector's probabilities for false positives, among the training positives with
    ground truth that were not granted; null if labels do not tell."""
    detector_precision: float | None = None
    """Share of false positives among the 4% of the same rows that the detector doubts most."""
    detector_calibration_error: float | None = None
    """Expected calibration error of its probabilities on the same rows, 10 equal bins."""
    stages: tuple[StageMetrics, ...] = ()
    """The trainings before the one that is measured, if there are several in a row."""


class Spread(Options):
    """A metric over seeds."""

    mean: float | None
    """Mean; null if the metric is not defined for every seed."""
    std: float | None
    """Sample standard deviation; null for a single seed."""


METRIC_NAMES = (
    "test_auc",
    "test_auc_without_fp",
    "test_auc_labeled",
    "test_log_loss",
    "test_calibration_error",
    "test_auc_per_user",
    "test_auc_tail_items",
    "test_auc_inactive_users",
    "test_recall_at_20",
    "test_ndcg_at_20",
    "test_auc_best_epoch",
    "test_auc_last_epoch",
    "valid_auc",
    "valid_auc_recorded",
    "valid_log_loss",
    "flagged_share",
    "identification_precision",
    "identification_recall",
)


def finite_or_none(value: float) -> float | None:
    """Return ``value``, or None if it is not finite."""
    return value if math.isfinite(value) else None


def compute_spread(values: Sequence[float | None]) -> Spread:
    """Return mean and sample standard deviation of a metric over seeds."""
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return Spread(mean=None, std=None)
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Spread(mean=statistics.fmean(numbers), std=std)


def summarize(seeds: Sequence[SeedMetrics]) -> dict[str, Spread]:
    """Return each metric over ``seeds``."""
    return {name: compute_spread([getattr(seed, name) for seed in seeds]) for name in METRIC_NAMES}


@dataclass(frozen=True)
class SeedRecord:
    """Everything that a run keeps of one trained seed."""

    metrics: SeedMetrics
    """Metrics."""
    history: pl.DataFrame
    """One row per epoch."""
    iterations: pl.DataFrame
    """One row per iteration."""
    weights: Mapping[str, Tensor]
    """The reported weights."""
    identified: Mapping[str, Tensor]
    """Weights of the model that the last stage's labels come from; empty with a single stage."""
    scores: pl.DataFrame
    """As :meth:`dartcli.experiments.run.Run.scores` returns them."""
    snapshots: Mapping[int, pl.DataFrame]
    """Iteration -> scores of the validation split."""
