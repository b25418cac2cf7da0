"""The ways to split: a pure function from encoded interactions to three tables.

Randomness comes from the split seed alone, so a split does not depend on the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import polars as pl
import torch

from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, TIME, USER
from dartcli.data.negatives import pair_codes, sample_distinct_pairs
from dartcli.data.seeds import derived_seed
from dartcli.errors import DataError

How = Literal["random", "temporal", "leave-last-out"]

SPLITS: Final = ("train", "valid", "test")
STREAM: Final = 100


def split(
    interactions: pl.DataFrame,
    users: int,
    items: int,
    *,
    negatives_first: bool,
    seed: int,
    how: How = "random",
    test: pl.DataFrame | None = None,
) -> dict[str, pl.DataFrame]:
    """Cut ``interactions`` into three tables, with sampled negatives.

    Parameters
    ----------
    interactions
        Encoded rows. If any has label 0 the data hold real impressions: nothing is sampled.
    users, items
        Sizes of the two id spaces.
    negatives_first
        True (reference protocol): every split has as many negatives as positives; in a random
        split they are drawn before the cut and cut with the positives. False (strict): positives
        are cut; validation and test get as many negatives as they have positives, the training
        table gets none.
    seed
        The split seed.
    how
        ``random``: 8 : 1 : 1. ``temporal``: the first 80 % of the rows by time are trained on, the
        last 10 % test; rows of one time stand in the order of the source. ``leave-last-out``: of
        each user with three rows or more the last tests and the one before validates.
    test
        A test table that replaces the one cut: then rows are cut 9 : 1 into train and valid. If
        it has no row with label 0, negatives are sampled for it.

    Returns
    -------
    dict
        ``train``, ``valid``, ``test``: tables with the columns of ``interactions``. Every sampled
        negative is a different pair, and no known positive of any split. Negatives have ``noisy``
        false, no rating, and everything else from the positive they are drawn for.

    Raises
    ------
    DataError
        If there are fewer than ten rows, no pair is left to be a negative, or the time is missing.
    """
    if len(interactions) < 10:
        raise DataError(
            f"there are only {len(interactions)} interactions; a split needs at least 10."
        )
    generator = torch.Generator().manual_seed(derived_seed(seed, STREAM))
    impressions = bool((interactions[LABEL] == 0).any())
    known = _known(interactions, test, items)

    def with_negatives(*tables: pl.DataFrame) -> list[pl.DataFrame]:
        return _with_negatives(tables, users, items, known, generator)

    if negatives_first and how == "random" and test is None and not impressions:
        (whole,) = with_negatives(interactions)
        return _cut_at_random(whole, generator)
    cut = _cut(interactions, how, generator)
    if test is not None:
        cut = {"train": cut["train"], "valid": pl.concat([cut["valid"], cut["test"]]), "test": test}
    if not impressions:
        sampled = [name for name in SPLITS if name != "train" or negatives_first]
        if test is not None and (test[LABEL] == 0).any():
            sampled.remove("test")
        cut |= dict(zip(sampled, with_negatives(*(cut[n] for n in sampled)), strict=True))
    return cut


def _cut(table: pl.DataFrame, how: How, generator: torch.Generator) -> dict[str, pl.DataFrame]:
    if how == "random":
        return _cut_at_random(table, generator)
    if TIME not in table.columns:
        raise DataError(
            f"the split {how} needs to know when an interaction happened, but there is no time; "
            "name its column with --time, or split at random."
        )
    absent = table[TIME].null_count()
    if absent:
        raise DataError(
            f"the time is missing in {absent:,} of {len(table):,} rows; the split {how} needs it "
            "in all of them."
        )
    ordered = table.sort(TIME, maintain_order=True)
    if how == "temporal":
        return _cut_in_order(ordered)
    from_last = pl.int_range(pl.len()).reverse().over(USER)
    enough = pl.len().over(USER) >= 3
    place = pl.when(enough).then(from_last.clip(upper_bound=2)).otherwise(2).alias("place")
    places = ordered.select(place).to_series()
    return {
        name: ordered.filter(places == number)
        for name, number in (("train", 2), ("valid", 1), ("test", 0))
    }


def _cut_at_random(table: pl.DataFrame, generator: torch.Generator) -> dict[str, pl.DataFrame]:
    return _cut_in_order(table[torch.randperm(len(table), generator=generator).numpy()])


def _cut_in_order(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Cut into int(0.8 n), int(0.1 n) and the remaining rows."""
    first, second = len(table) * 8 // 10, len(table) // 10
    return {
        "train": table[:first],
        "valid": table[first : first + second],
        "test": table[first + second :],
    }


def _known(interactions: pl.DataFrame, test: pl.DataFrame | None, items: int) -> torch.Tensor:
    """Return the sorted pair codes that are never a sampled negative."""
    tables = [interactions] if test is None else [interactions, test.drop_nulls([USER, ITEM])]
    codes = [pair_codes(_tensor(t[USER]), _tensor(t[ITEM]), items) for t in tables]
    distinct: torch.Tensor = torch.unique(torch.cat(codes))
    return distinct


def _with_negatives(
    tables: Sequence[pl.DataFrame],
    users: int,
    items: int,
    known: torch.Tensor,
    generator: torch.Generator,
) -> list[pl.DataFrame]:
    """Return each table followed by as many negatives as it has rows.

    Where the free pairs run out, each table gets its share of them.
    """
    wanted = [len(table) for table in tables]
    user, item = sample_distinct_pairs(sum(wanted), users, items, known, generator)
    result, start = [], 0
    for position, table in enumerate(tables):
        stop = round(len(user) * sum(wanted[: position + 1]) / max(sum(wanted), 1))
        part = slice(start, stop)
        result.append(pl.concat([table, _negatives(table, user[part], item[part])]))
        start = stop
    return result


def _negatives(positives: pl.DataFrame, user: torch.Tensor, item: torch.Tensor) -> pl.DataFrame:
    result = positives[: len(user)].with_columns(
        pl.Series(USER, user.numpy()).cast(positives.schema[USER]),
        pl.Series(ITEM, item.numpy()).cast(positives.schema[ITEM]),
        pl.lit(0, positives.schema[LABEL]).alias(LABEL),
        pl.lit(value=False).alias(NOISY),
    )
    if RATING in result.columns:
        result = result.with_columns(pl.lit(None, positives.schema[RATING]).alias(RATING))
    return result


def _tensor(ids: pl.Series) -> torch.Tensor:
    return torch.from_numpy(ids.cast(pl.Int64).to_numpy(writable=True))
