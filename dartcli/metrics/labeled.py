"""AUC against clean labels from a few labeled positives, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

RESAMPLES: Final = 1000
"""Resamples of the labeled positives."""


@dataclass(frozen=True)
class LabeledScores:
    """A split as one model scores it: L labeled positives and N negatives."""

    score: Floats
    """Float64[L], scores of the labeled positives."""
    is_false: npt.NDArray[np.bool_]
    """Bool[L], whether each is a false positive."""
    negative: Floats
    """Float64[N], scores of the negatives."""
    positives: int
    """Number of positives, labeled or not."""
    code: Rows
    """Long[L], which labeled interaction each is; the codes are common to all splits."""

    def estimate_auc(self) -> float:
        """Return the AUC if the labeled positives were drawn at random from all of them.

        If all are labeled, it is the AUC against the clean labels. NaN if none is a true positive,
        nothing is to be ranked below one, or a score is NaN.
        """
        return float(self.resample(np.ones((1, len(self.score))))[0])

    def resample(self, weights: Floats) -> Floats:
        """Return Float64[R], the AUC with each row of ``weights``.

        ``weights`` is Float64[R, L]: how often a labeled positive was drawn. A true positive is
        ranked against the negatives and against the false positives, each of which counts for as
        many positives as there are to a labeled one. NaN where :meth:`estimate_auc` is.
        """
        if np.isnan(self.score).any() or np.isnan(self.negative).any():
            return np.full(len(weights), np.nan)
        of_true, of_false = weights[:, ~self.is_false], weights[:, self.is_false]
        true, false = self.score[~self.is_false], self.score[self.is_false]
        below, below_or_tied = _count_below(true, np.sort(self.negative))
        won = of_true @ ((below + below_or_tied) / 2)
        order = false.argsort()
        passed = np.pad(of_false[:, order].cumsum(axis=1), ((0, 0), (1, 0)))
        below, below_or_tied = _count_below(true, false[order])
        beaten = (of_true * (passed[:, below] + passed[:, below_or_tied])).sum(axis=1) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            each = self.positives / weights.sum(axis=1)
            below_weight = len(self.negative) + each * of_false.sum(axis=1)
            return np.asarray((won + each * beaten) / (of_true.sum(axis=1) * below_weight))


def _count_below(values: Floats, ordered: Floats) -> tuple[Rows, Rows]:
    """Return Long[V], how many of ``ordered`` are below each value, and how many below or equal."""
    return np.searchsorted(ordered, values), np.searchsorted(ordered, values, side="right")


def resample_differences(
    pairs: list[tuple[LabeledScores, LabeledScores]], codes: int
) -> tuple[list[tuple[float, float]], tuple[float, float] | None]:
    """Return the AUC of both models for each split, and an interval of their mean difference.

    The interval is a 95% percentile interval over resampled labeled interactions, the same for both
    models and all splits, and over resampled splits if there are several. The resampling has a
    fixed seed. None if it is not defined.

    Parameters
    ----------
    pairs
        One split after the other: scores of the one model, and of the other.
    codes
        Number of labeled interactions.
    """
    random = np.random.default_rng(0)
    point = [(a.estimate_auc(), b.estimate_auc()) for a, b in pairs]
    drawn = random.multinomial(codes, np.full(codes, 1 / codes), RESAMPLES).astype(np.float64)
    found = np.stack(
        [a.resample(drawn[:, a.code]) - b.resample(drawn[:, b.code]) for a, b in pairs], axis=1
    )
    of_split = random.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), RESAMPLES)
    with np.errstate(invalid="ignore"):
        means = np.nansum(found * of_split, axis=1) / (of_split * ~np.isnan(found)).sum(axis=1)
    means = means[np.isfinite(means)]
    if len(means) < RESAMPLES // 2:
        return point, None
    low, high = np.quantile(means, (0.025, 0.975))
    return point, (float(low), float(high))
