"""Paired comparisons over seeds, which say whether a difference is real.

Pure functions of numbers, in float64. Two trainings with the same seed share split, initial
weights and batches; what they differ in is the strategy, so differences are taken seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import stdtr, stdtrit

RESAMPLES: Final = 10_000
"""Bootstrap samples behind an interval."""


@dataclass(frozen=True)
class PairedDifference:
    """What ``n`` paired differences say about their mean."""

    n: int
    """Number of pairs."""
    mean: float
    """Mean difference."""
    std: float | None
    """Sample standard deviation of the differences; None for one pair."""
    t_interval: tuple[float, float] | None
    """95 % interval of the mean by Student's t; None for one pair."""
    bootstrap_interval: tuple[float, float] | None
    """95 % percentile interval of resampled means; None for one pair. With fewer than about ten
    pairs it is too narrow: trust the other one."""
    p: float | None
    """Two-sided p value of the paired t test; None for one pair."""


def compare_paired(differences: Sequence[float], level: float = 0.95) -> PairedDifference:
    """Return what paired ``differences`` say about their mean.

    Where all differences are equal the interval is that number, and p is 0, or 1 where they are
    all zero.

    Raises
    ------
    ValueError
        If there is no difference, or one is not a finite number.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("paired differences must be finite numbers, at least one")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return PairedDifference(1, mean, None, None, None, None)
    std = float(values.std(ddof=1))
    error = std / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * error
    p = float(mean == 0)
    if error > 0:
        p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return PairedDifference(
        n, mean, std, (mean - half, mean + half), bootstrap(values.tolist(), level), p
    )


def bootstrap(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of the mean over resampled ``differences``.

    The same numbers give the same interval: the resampling has a fixed seed.
    """
    values = np.asarray(differences, dtype=np.float64)
    random = np.random.default_rng(0)
    means = values[random.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the order given (Holm, 1979).

    Rejecting where the result is below 5 % keeps the chance of any false alarm in the whole
    family below 5 %.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    result, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        result[index] = highest
    return result
