"""The two ways to split: a pure function from encoded interactions to three tables.

Randomness comes from the split seed alone, so a split does not depend on the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl
import torch

from dartcli.columns import ITEM, LABEL, NOISY, USER
from dartcli.data.negatives import pair_codes, sample_distinct_pairs
from dartcli.data.seeds import derived_seed
from dartcli.errors import DataError

SPLITS: Final = ("train", "valid", "test")
STREAM: Final = 100


def split(
    interactions: pl.DataFrame,
    users: int,
    items: int,
    fields: Sequence[str],
    *,
    negatives_first: bool,
    seed: int,
) -> Mapping[str, pl.DataFrame]:
    """Cut ``interactions`` 8 : 1 : 1 at random, with sampled negatives.

    Parameters
    ----------
    interactions
        Encoded rows. If any has label 0 the data hold real impressions: nothing is sampled, and
        all rows are permuted and cut.
    users, items
        Sizes of the two id fields.
    fields
        Names of all fields, user and item first.
    negatives_first
        True (reference protocol): as many negatives as positives are drawn before the cut and cut
        with them. False (strict): positives are cut; validation and test get as many negatives
        as they have positives, the training table gets none.
    seed
        The split seed.

    Returns
    -------
    Mapping
        ``train``, ``valid``, ``test``: tables with the columns of ``interactions``. Every negative
        is a different pair, and no known positive of any split. Negatives have ``noisy`` false and
        take fields beyond user and item from the positive they are drawn for.

    Raises
    ------
    DataError
        If there are fewer than ten rows, or no pair is left to be a negative.
    """
    if len(interactions) < 10:
        raise DataError(
            f"there are only {len(interactions)} interactions; a split needs at least 10."
        )
    generator = torch.Generator().manual_seed(derived_seed(seed, STREAM))
    impressions = bool((interactions[LABEL] == 0).any())
    if impressions or not negatives_first:
        cut = _cut(_permuted(interactions, generator))
        if impressions:
            return cut
        held_out = pl.concat([cut["valid"], cut["test"]])
        negatives = _negatives(held_out, interactions, users, items, fields, generator)
        share = round(len(negatives) * len(cut["valid"]) / len(held_out))
        return {
            "train": cut["train"],
            "valid": pl.concat([cut["valid"], negatives[:share]]),
            "test": pl.concat([cut["test"], negatives[share:]]),
        }
    negatives = _negatives(interactions, interactions, users, items, fields, generator)
    return _cut(_permuted(pl.concat([interactions, negatives]), generator))


def _permuted(table: pl.DataFrame, generator: torch.Generator) -> pl.DataFrame:
    return table[torch.randperm(len(table), generator=generator).numpy()]


def _cut(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Cut into int(0.8 n), int(0.1 n) and the remaining rows."""
    first, second = len(table) * 8 // 10, len(table) // 10
    return {
        "train": table[:first],
        "valid": table[first : first + second],
        "test": table[first + second :],
    }


def _negatives(
    positives: pl.DataFrame,
    known: pl.DataFrame,
    users: int,
    items: int,
    fields: Sequence[str],
    generator: torch.Generator,
) -> pl.DataFrame:
    """Return as many negatives as ``positives`` has rows (fewer where the pairs run out)."""
    codes = pair_codes(_tensor(known[USER]), _tensor(known[ITEM]), items)
    user, item = sample_distinct_pairs(len(positives), users, items, torch.unique(codes), generator)
    result = positives[: len(user)].with_columns(
        pl.Series(USER, user.numpy()).cast(positives.schema[USER]),
        pl.Series(ITEM, item.numpy()).cast(positives.schema[ITEM]),
        pl.lit(0, positives.schema[LABEL]).alias(LABEL),
        pl.lit(value=False).alias(NOISY),
    )
    feedback = [name for name in result.columns if name not in {*fields, LABEL, NOISY}]
    return result.with_columns(
        pl.lit(None, positives.schema[name]).alias(name) for name in feedback
    )


def _tensor(ids: pl.Series) -> torch.Tensor:
    return torch.from_numpy(ids.cast(pl.Int64).to_numpy(writable=True))
