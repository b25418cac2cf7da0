"""Paired comparisons over seeds: whether a difference between strategies is real.

Pure functions of numbers, in float64. Two trainings with the same seed share split, initial
weights and batches and differ in the strategy only, so differences are taken seed by seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

LEVEL: Final = 0.95
"""Confidence level of the intervals."""
RESAMPLES: Final = 10_000
"""Bootstrap samples behind an interval."""


@dataclass(frozen=True)
class PairedDifference:
    """Mean of ``n`` paired differences, and its uncertainty."""

    n: int
    """Number of pairs."""
    mean: float
    """Mean difference."""
    std: float | None
    """Sample standard deviation of the differences; None for one pair."""
    t_interval: tuple[float, float] | None
    """95% confidence interval of the mean by Student's t; None for one pair."""
    bootstrap_interval: tuple[float, float] | None
    """95% percentile interval of resampled means; None for one pair. It is too narrow with fewer
    than about ten pairs: prefer ``t_interval``."""
    p: float | None
    """Two-sided p-value of the paired t-test; None for one pair."""


def compare_paired(differences: Sequence[float]) -> PairedDifference:
    """Return the mean of paired ``differences``, its intervals, and a paired t-test.

    If all differences are equal, both intervals are that number, and p is 1 if it is zero, else 0.

    Raises
    ------
    ValueError
        If there are no differences, or one of them is not finite.
    """
    # imported here because it takes about a second
    from scipy.stats import ttest_1samp

    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("paired differences must be one or more finite numbers")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return PairedDifference(1, mean, None, None, None, None)
    if np.ptp(values) == 0:
        same = float(values[0])
        return PairedDifference(n, same, 0.0, (same, same), (same, same), float(same == 0))
    with warnings.catch_warnings():
        # scipy warns of lost precision if the differences are almost equal
        warnings.simplefilter("ignore", RuntimeWarning)
        test = ttest_1samp(values, 0.0)
        low, high = map(float, test.confidence_interval(LEVEL))
    return PairedDifference(
        n=n,
        mean=mean,
        std=float(values.std(ddof=1)),
        t_interval=(low, high),
        bootstrap_interval=compute_bootstrap_interval(values.tolist()),
        p=float(test.pvalue),
    )


def compute_bootstrap_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the percentile interval of the mean over resampled ``differences``.

    The resampling has a fixed seed: the same differences give the same interval.
    """
    values = np.asarray(differences, dtype=np.float64)
    random = np.random.default_rng(0)
    means = values[random.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def expect_maximum(count: int) -> float:
    """Return the expected highest of ``count`` independent standard normal numbers.

    So many standard errors above the truth is the best of ``count`` equally good methods. It is 0
    for one, and 2.25 for 50.
    """
    from scipy.integrate import quad
    from scipy.stats import norm

    # the density of the highest; 9 standard deviations hold all but 1e-18 of each number
    return float(quad(lambda x: x * count * norm.pdf(x) * norm.cdf(x) ** (count - 1), -9, 9)[0])


def extrapolate_size(size: int, uncertainty: float, effect: float) -> float:
    """Return the size at which an effect is as large as its uncertainty, to two digits.

    The uncertainty shrinks with the square root of the size, as a standard error does, and the
    effect is taken to stay as it is; it must not be 0. At least ``size``.
    """
    return float(f"{size * max((uncertainty / effect) ** 2, 1.0):.1e}")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple comparisons, in the order given.

    Rejecting results below 0.05 keeps the probability of any false rejection in the family below
    5%. Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = p.argsort(kind="stable")
    corrected = np.minimum(np.arange(len(p), 0, -1) * p[order], 1.0)
    result: list[float] = np.maximum.accumulate(corrected)[order.argsort()].tolist()
    return result
