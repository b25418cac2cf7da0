"""Training with the false positives known: the reference that no implicit feedback offers.

``clean`` trains and validates without them (the thesis's "Clean"); ``clean-relabel`` turns them
into negatives. Both need explicit feedback and exist to measure what denoising could gain.
"""

from __future__ import annotations

from typing import ClassVar

import polars as pl

from dartcli.data.columns import LABEL, NOISY
from dartcli.errors import TrainingError
from dartcli.strategies.base import Base


def _known(interactions: pl.DataFrame) -> pl.Expr:
    unknown = interactions.filter(pl.col(LABEL) > 0)[NOISY].null_count()
    if unknown:
        raise TrainingError(
            f"the strategies clean and clean-relabel need to know which positives are false, but "
            f"{unknown:,} positives have no such mark; use a dataset with explicit feedback."
        )
    return pl.col(NOISY).fill_null(value=False)


class Clean(Base):
    """Leaves the known false positives out of training and validation."""

    reads_noisy: ClassVar[bool] = True

    @classmethod
    def prepare(cls, interactions: pl.DataFrame) -> pl.DataFrame:
        """Return ``interactions`` without the known false positives."""
        return interactions.filter(~_known(interactions))


class CleanRelabel(Base):
    """Trains and validates with the known false positives as negatives."""

    reads_noisy: ClassVar[bool] = True

    @classmethod
    def prepare(cls, interactions: pl.DataFrame) -> pl.DataFrame:
        """Return ``interactions`` with label 0 on the known false positives."""
        label = pl.when(_known(interactions)).then(0).otherwise(pl.col(LABEL))
        return interactions.with_columns(label.cast(interactions.schema[LABEL]).alias(LABEL))


STRATEGY = {"clean": Clean, "clean-relabel": CleanRelabel}
