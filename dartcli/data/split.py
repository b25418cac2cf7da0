"""Split encoded interactions into train, valid and test.

The split seed is the only source of randomness, so a split does not depend on the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import polars as pl
import torch

from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, TIME, USER
from dartcli.data.encode import number_pairs
from dartcli.data.negatives import sample_distinct_pairs
from dartcli.data.seeds import derived_seed
from dartcli.errors import DataError

How = Literal["random", "temporal", "leave-last-out"]
"""``random``: 80/10/10; if few interactions are labeled, a third of them is for testing.
``temporal``: the first 80% of the rows by time are for training, the last 10% for testing; ties
keep the order of the source. ``leave-last-out``: the last row of each user with three or more is
for testing, the one before for validation."""

SPLITS: Final = ("train", "valid", "test")
STREAM: Final = 100
SET_ASIDE: Final = 3
"""A random split puts one of so many labeled interactions into the test split, if most others have
no ground truth. No training ever sees it, so it can judge what the other labels are worth."""


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
    """Split ``interactions`` into three tables, and sample negatives.

    Parameters
    ----------
    interactions
        Encoded rows. If any has label 0, the data contain impressions, and nothing is sampled.
    users, items
        Numbers of ids.
    negatives_first
        True (reference): every table gets as many negatives as positives; for a random split, they
        are sampled before it. False (strict): only valid and test get negatives, as many as they
        have positives.
    seed, how
        Seed and kind of the split.
    test
        A test table to use instead; valid then also gets the rows that would have been for testing.
        If no row of it has label 0, negatives are sampled for it.

    Returns
    -------
    dict
        ``train``, ``valid``, ``test``. Sampled negatives are distinct pairs and never a positive of
        any table; ``noisy`` is false, the rating null, other columns are those of a positive.

    Raises
    ------
    DataError
        If there are fewer than ten rows, every pair is a positive, or the time is missing.
    """
    if len(interactions) < 10:
        raise DataError(f"cannot split {len(interactions)} interactions: at least 10 are needed.")
    generator = torch.Generator().manual_seed(derived_seed(seed, STREAM))
    impressions = bool((interactions[LABEL] == 0).any())

    def add_negatives(*tables: pl.DataFrame) -> list[pl.DataFrame]:
        known = _known_pairs(interactions, test, items)
        return _add_negatives(tables, users, items, known, generator)

    if negatives_first and how == "random" and test is None and not impressions:
        (whole,) = add_negatives(interactions)
        return _cut_at_random(whole, generator)
    cut = _cut(interactions, how, generator)
    if test is not None:
        cut = {"train": cut["train"], "valid": pl.concat([cut["valid"], cut["test"]]), "test": test}
    if not impressions:
        sampled = [name for name in SPLITS if name != "train" or negatives_first]
        if test is not None and (test[LABEL] == 0).any():
            sampled.remove("test")
        cut |= dict(zip(sampled, add_negatives(*(cut[n] for n in sampled)), strict=True))
    return cut


def _cut(table: pl.DataFrame, how: How, generator: torch.Generator) -> dict[str, pl.DataFrame]:
    if how == "random":
        return _cut_at_random(table, generator)
    if TIME not in table.columns:
        raise DataError(
            f"the {how} split needs timestamps, but the data has none. Name the column with "
            "`--time`, or use `--split random`."
        )
    absent = table[TIME].null_count()
    if absent:
        raise DataError(
            f"the {how} split needs a timestamp in every row: {absent:,} of {len(table):,} have "
            "none. Fill in or drop these rows, or use `--split random`."
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
    order = torch.randperm(len(table), generator=generator)
    return _cut_in_order(table[_set_aside(table, order, generator).numpy()])


def _set_aside(
    table: pl.DataFrame, order: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return Long[N], ``order`` with labeled rows exchanged for others of the test split.

    Nothing is exchanged unless fewer interactions have ground truth than have none. What is
    exchanged depends on where ground truth is known, not on what it says.
    """
    positive, unknown = table[LABEL] > 0, table[NOISY].is_null()
    labeled = torch.from_numpy((positive & ~unknown).to_numpy(writable=True))[order]
    other = torch.from_numpy((positive & unknown).to_numpy(writable=True))[order]
    if not 0 < int(labeled.sum()) < int(other.sum()):
        return order
    start = len(order) - _sizes(len(order))[2]
    missing = int(labeled.sum()) // SET_ASIDE - int(labeled[start:].sum())
    inside, outside = torch.nonzero(labeled[:start])[:, 0], torch.nonzero(other[start:])[:, 0]
    count = max(min(missing, len(inside), len(outside)), 0)
    inside, outside = (
        rows[torch.randperm(len(rows), generator=generator)[:count]] for rows in (inside, outside)
    )
    exchanged = order.clone()
    exchanged[inside], exchanged[start + outside] = order[start + outside], order[inside]
    return exchanged


def _cut_in_order(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    first, second, _ = _sizes(len(table))
    return {
        "train": table[:first],
        "valid": table[first : first + second],
        "test": table[first + second :],
    }


def _sizes(rows: int) -> tuple[int, int, int]:
    """Return floor(0.8 n), floor(0.1 n) and the remaining rows, for train, valid and test."""
    first, second = rows * 8 // 10, rows // 10
    return first, second, rows - first - second


def _known_pairs(interactions: pl.DataFrame, test: pl.DataFrame | None, items: int) -> torch.Tensor:
    """Return the sorted distinct pair codes that are never a sampled negative."""
    tables = [interactions] if test is None else [interactions, test.drop_nulls([USER, ITEM])]
    in_order = pl.concat([number_pairs(table, items) for table in tables]).sort()
    distinct = in_order.filter(in_order.ne_missing(in_order.shift()))
    return torch.from_numpy(distinct.to_numpy(writable=True))


def _add_negatives(
    tables: Sequence[pl.DataFrame],
    users: int,
    items: int,
    known: torch.Tensor,
    generator: torch.Generator,
) -> list[pl.DataFrame]:
    """Return each table followed by as many negatives as it has rows.

    If there are not enough free pairs, each table gets its share of them.
    """
    wanted = [len(table) for table in tables]
    user, item = sample_distinct_pairs(sum(wanted), users, items, known, generator)
    result, start = [], 0
    for position, table in enumerate(tables):
        stop = round(len(user) * sum(wanted[: position + 1]) / max(sum(wanted), 1))
        part = slice(start, stop)
        result.append(pl.concat([table, _make_negatives(table, user[part], item[part])]))
        start = stop
    return result


def _make_negatives(
    positives: pl.DataFrame, user: torch.Tensor, item: torch.Tensor
) -> pl.DataFrame:
    result = positives[: len(user)].with_columns(
        pl.Series(USER, user.numpy()).cast(positives.schema[USER]),
        pl.Series(ITEM, item.numpy()).cast(positives.schema[ITEM]),
        pl.lit(0, positives.schema[LABEL]).alias(LABEL),
        pl.lit(value=False).alias(NOISY),
    )
    if RATING in result.columns:
        result = result.with_columns(pl.lit(None, positives.schema[RATING]).alias(RATING))
    return result
