"""Count what prepared data contain, and compare with what they should."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.data.dataset import Counts, DataOptions, Dataset
from dartcli.settings import Options


class DataCounts(Options):
    """What the data contain."""

    users: int
    """Distinct users."""
    items: int
    """Distinct items."""
    interactions: int
    """Recorded rows, without duplicates."""
    true_positives: int
    """Positives that the user liked."""
    false_positives: int
    """Positives that the user did not like."""
    unknown: int
    """Positives without ground truth."""
    impressions: int
    """Recorded rows with label 0."""


def count_rows(interactions: pl.DataFrame, sizes: Mapping[str, int]) -> DataCounts:
    """Count encoded ``interactions``; ``sizes`` maps each field to its number of codes."""
    positive = interactions.filter(pl.col(LABEL) > 0)[NOISY]
    false, unknown = int(positive.sum()), positive.null_count()
    return DataCounts(
        users=sizes[USER],
        items=sizes[ITEM],
        interactions=len(interactions),
        true_positives=len(positive) - false - unknown,
        false_positives=false,
        unknown=unknown,
        impressions=len(interactions) - len(positive),
    )


def compare_counts(
    dataset: Dataset, options: DataOptions, counts: DataCounts
) -> tuple[bool | None, tuple[str, ...]]:
    """Compare with the expected counts; return whether they are complete, and warnings.

    Returns
    -------
    complete : bool or None
        None if the expected counts are unknown.
    warnings : tuple of str
    """
    expected = dataset.expected(options)
    if expected is None:
        return None, ()
    found = Counts(
        counts.users,
        counts.items,
        counts.true_positives,
        counts.false_positives,
        counts.interactions,
    )
    differences = found.differences(expected)
    if not differences:
        return True, ()
    cause = "; ".join(differences)
    for what, partial in dataset.partial.items():
        if not found.differences(partial):
            return False, (f"{dataset.name} is partial: {what} ({cause}).",)
    return False, (f"{dataset.name} is partial or another version: {cause}.",)


def warn_of_swapped_columns(counts: DataCounts) -> tuple[str, ...]:
    """Return a warning if a log has so few users that its columns may be swapped."""
    users, items = counts.users, counts.items
    if users >= 50 or items < 10 * users or counts.interactions < 20 * users:
        return ()
    return (
        f"only {users:,} users, but {items:,} items in {counts.interactions:,} interactions. If "
        "the columns are swapped, exchange `--user` and `--item`.",
    )


def warn_of_missing_negatives(dataset: str, tables: Mapping[str, pl.DataFrame]) -> tuple[str, ...]:
    """Return a warning if ``tables`` contain fewer sampled negatives than positives."""
    labels = pl.concat([table[LABEL] for table in tables.values()])
    positives = int((labels > 0).sum())
    negatives = len(labels) - positives
    if negatives == positives:
        return ()
    return (
        f"{dataset} is so dense that only {negatives:,} negatives could be sampled for "
        f"{positives:,} positives ({', '.join(tables)}).",
    )
