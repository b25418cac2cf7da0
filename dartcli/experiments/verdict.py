"""Decide whether a method helps, harms, or cannot be told from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeVar

from dartcli.metrics.statistics import PairedDifference, holm

Key = TypeVar("Key")

Outcome = Literal["helps", "harms", "no difference", "same model", "undecided"]
"""``no difference``: none can be shown. ``undecided``: too few seeds to tell."""

MIN_SEEDS: Final = 3
"""With fewer paired seeds there is no verdict."""
LEVEL: Final = 0.05
"""Significance level, after correction for the number of tests."""


def decide_outcome(
    paired: PairedDifference, p_corrected: float | None, better_sign: int, *, same_model: bool
) -> Outcome:
    """Return the verdict on paired differences of a metric.

    Parameters
    ----------
    paired
        One method minus the other, seed by seed.
    p_corrected
        p of the paired t-test after correction; None if it was not tested.
    better_sign
        1 if a higher metric is better, else -1.
    same_model
        Whether both have equal weights for every seed.
    """
    if same_model:
        return "same model"
    if paired.n < MIN_SEEDS or p_corrected is None:
        return "undecided"
    if p_corrected >= LEVEL or paired.mean == 0:
        return "no difference"
    return "helps" if paired.mean * better_sign > 0 else "harms"


def correct_p_values(pairs: Mapping[Key, PairedDifference]) -> dict[Key, float]:
    """Return p after Holm's correction for every pair with enough seeds for a verdict."""
    tested = {
        key: pair.p for key, pair in pairs.items() if pair.p is not None and pair.n >= MIN_SEEDS
    }
    return dict(zip(tested, holm(list(tested.values())), strict=True))
