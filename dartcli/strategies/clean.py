"""Train with the false positives known: reference strategies, not methods.

``clean`` trains and validates without them (the thesis's "Clean"); ``clean-relabel`` turns them
into negatives. Both need explicit feedback, and show what perfect denoising would gain.
"""

from __future__ import annotations

from typing import ClassVar

import polars as pl

from dartcli.data.columns import LABEL, NOISY
from dartcli.errors import TrainingError
from dartcli.strategies.base import Base


def find_false_positives(interactions: pl.DataFrame) -> pl.Expr:
    """Return a Boolean expression that is true for the known false positives.

    Raises
    ------
    TrainingError
        If any positive has no ground truth.
    """
    unknown = interactions.filter(pl.col(LABEL) > 0)[NOISY].null_count()
    if unknown:
        raise TrainingError(
            "cannot train `clean` or `clean-relabel`: "
            f"{unknown:,} positives have no ground truth. Use a dataset with explicit feedback."
        )
    return pl.col(NOISY).fill_null(value=False)


class Clean(Base):
    """Train and validate without the known false positives."""

    reads_noisy: ClassVar[bool] = True

    @classmethod
    def prepare(cls, interactions: pl.DataFrame) -> pl.DataFrame:
        """Return ``interactions`` without the known false positives."""
        return interactions.filter(~find_false_positives(interactions))


class CleanRelabel(Base):
    """Train and validate with the known false positives as negatives."""

    reads_noisy: ClassVar[bool] = True

    @classmethod
    def prepare(cls, interactions: pl.DataFrame) -> pl.DataFrame:
        """Return ``interactions`` with label 0 for the known false positives."""
        label = pl.when(find_false_positives(interactions)).then(0).otherwise(pl.col(LABEL))
        return interactions.with_columns(label.cast(interactions.schema[LABEL]).alias(LABEL))


STRATEGY = {"clean": Clean, "clean-relabel": CleanRelabel}
