"""Decide whether a method helps, harms, or cannot be told from another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from dartcli.metrics.statistics import PairedDifference, holm

Outcome = Literal["helps", "harms", "no difference", "same model", "undecided"]
"""``no difference``: none can be shown. ``undecided``: too few seeds to tell."""

MIN_SEEDS: Final = 3
"""With fewer paired seeds there is no verdict."""
LEVEL: Final = 0.05
"""Significance level, after correction for the number of tests."""


def correct_p(pairs: Sequence[PairedDifference | None]) -> list[float | None]:
    """Return p of each paired t-test after Holm's correction; None for too few seeds."""
    tested = {
        place: pair.p
        for place, pair in enumerate(pairs)
        if pair is not None and pair.p is not None and pair.n >= MIN_SEEDS
    }
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [corrected.get(place) for place in range(len(pairs))]


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
