"""AUC against clean labels from a few labeled positives, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES: Final = 1000
"""Resamples of the labeled positives."""
BLOCK: Final = 1 << 11
"""True positives whose comparisons with false positives are in memory at once."""


@dataclass(frozen=True)
class LabeledScores:
    """One test split as one model scores it: the labeled positives and the negatives."""

    true: Floats
    """Float64[T], scores of labeled true positives."""
    false: Floats
    """Float64[F], scores of labeled false positives."""
    negative: Floats
    """Float64[N], scores of the negatives."""
    positives: int
    """Number of positives, labeled or not."""
    true_code: npt.NDArray[np.int64]
    """Long[T], which labeled interaction each is; the codes are common to all splits."""
    false_code: npt.NDArray[np.int64]
    """Long[F]."""

    def resample(self, weights: Floats) -> Floats:
        """Return Float64[R], the AUC with each row of ``weights``.

        ``weights`` is Float64[R, codes]: how often a labeled interaction was drawn. A true positive
        is ranked against the negatives and against the false positives, each of which counts for as
        many positives as there are to a labeled one. NaN where no true positive was drawn.
        """
        of_true, of_false = weights[:, self.true_code], weights[:, self.false_code]
        negatives = np.sort(self.negative)
        below = np.searchsorted(negatives, self.true) + np.searchsorted(
            negatives, self.true, side="right"
        )
        won = of_true @ (below / 2)
        labeled = of_true.sum(axis=1) + of_false.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            each = self.positives / labeled
            for start in range(0, len(self.true), BLOCK):
                part = self.true[start : start + BLOCK, None]
                above = (part > self.false) + 0.5 * (part == self.false)
                beaten = (of_true[:, start : start + BLOCK] @ above) * of_false
                won = won + each * beaten.sum(axis=1)
            below_weight = len(self.negative) + each * of_false.sum(axis=1)
            return np.asarray(won / (of_true.sum(axis=1) * below_weight))


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
    whole = np.ones((1, codes))
    point = [(float(a.resample(whole)[0]), float(b.resample(whole)[0])) for a, b in pairs]
    drawn = random.multinomial(codes, np.full(codes, 1 / codes), RESAMPLES).astype(np.float64)
    found = np.stack([a.resample(drawn) - b.resample(drawn) for a, b in pairs], axis=1)
    of_split = random.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), RESAMPLES)
    with np.errstate(invalid="ignore"):
        means = np.nansum(found * of_split, axis=1) / (of_split * ~np.isnan(found)).sum(axis=1)
    means = means[np.isfinite(means)]
    if len(means) < RESAMPLES // 2:
        return point, None
    low, high = np.quantile(means, (0.025, 0.975))
    return point, (float(low), float(high))
