"""Splits, checked by set algebra."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as checking
from hypothesis import strategies as st

from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, USER
from dartcli.data.split import split
from dartcli.errors import DataError

USERS, ITEMS = 30, 25
Pairs = set[tuple[int, int]]


def interactions(count: int, seed: int = 0, *, impressions: bool = False) -> pl.DataFrame:
    import random

    chance = random.Random(seed)
    pairs = chance.sample([(u, i) for u in range(USERS) for i in range(ITEMS)], count)
    noisy = [chance.random() < 0.3 for _ in pairs]
    label = [int(chance.random() < 0.5) if impressions else 1 for _ in pairs]
    return pl.DataFrame(
        {
            USER: [u for u, _ in pairs],
            ITEM: [i for _, i in pairs],
            "device": [u % 3 for u, _ in pairs],
            LABEL: label,
            NOISY: noisy,
            RATING: [1.0 if n else 5.0 for n in noisy],
        },
        schema_overrides={
            USER: pl.UInt32, ITEM: pl.UInt32, "device": pl.UInt32, LABEL: pl.UInt8,
            RATING: pl.Float32,
        },
    )  # fmt: skip


def pairs(table: pl.DataFrame, label: int | None = None) -> Pairs:
    chosen = table if label is None else table.filter(pl.col(LABEL) == label)
    found = list(chosen.select(USER, ITEM).iter_rows())
    assert len(set(found)) == len(found), "a pair occurs twice"
    return set(found)


def made(table: pl.DataFrame, *, reference: bool, seed: int = 0) -> dict[str, pl.DataFrame]:
    return split(table, USERS, ITEMS, negatives_first=reference, seed=seed)


@checking(max_examples=60, deadline=None)
@given(st.integers(10, 375), st.integers(0, 10**9), st.booleans())
def test_positives_are_partitioned_and_no_negative_is_a_positive(
    count: int, seed: int, reference: bool
) -> None:
    table = interactions(count, seed)
    parts = made(table, reference=reference, seed=seed)
    positives = [pairs(part, 1) for part in parts.values()]
    assert set.union(*positives) == pairs(table)
    assert sum(len(part) for part in positives) == count
    negatives = [pairs(part, 0) for part in parts.values()]
    assert not set.union(*negatives) & pairs(table)
    assert sum(len(part) for part in negatives) == len(set.union(*negatives))
    total = 2 * count if reference else count
    assert (
        sum(len(part) for part in parts.values())
        - (0 if reference else sum(len(part) for part in negatives))
        == total
    )
    for part in parts.values():
        assert part.columns == table.columns
        assert part.schema == table.schema


def test_the_reference_protocol_splits_positives_and_negatives_together() -> None:
    parts = made(interactions(101), reference=True)
    assert [len(part) for part in parts.values()] == [161, 20, 21]
    assert sum(len(pairs(part, 0)) for part in parts.values()) == 101


def test_the_strict_protocol_samples_negatives_for_valid_and_test_only() -> None:
    parts = made(interactions(101), reference=False)
    assert [len(pairs(part, 1)) for part in parts.values()] == [80, 10, 11]
    assert [len(pairs(part, 0)) for part in parts.values()] == [0, 10, 11]


@pytest.mark.parametrize("reference", [True, False])
def test_negatives_are_not_noisy_and_copy_only_further_fields(
    reference: bool,
) -> None:
    for part in made(interactions(200), reference=reference).values():
        negatives = part.filter(pl.col(LABEL) == 0)
        assert not negatives[NOISY].any()
        assert negatives[NOISY].null_count() == 0
        assert negatives[RATING].null_count() == len(negatives)
        assert set(negatives["device"]) <= {0, 1, 2}


@pytest.mark.parametrize("reference", [True, False])
def test_the_seed_determines_the_split(reference: bool) -> None:
    table = interactions(150)
    first, same, other = (made(table, reference=reference, seed=seed) for seed in (1, 1, 2))
    for name in first:
        assert first[name].equals(same[name])
        assert not first[name].equals(other[name])


@pytest.mark.parametrize("reference", [True, False])
def test_impressions_are_split_without_sampling(reference: bool) -> None:
    table = interactions(100, impressions=True)
    parts = made(table, reference=reference)
    assert pl.concat(parts.values()).sort(USER, ITEM).equals(table.sort(USER, ITEM))
    assert [len(part) for part in parts.values()] == [80, 10, 10]


def test_dense_data_get_all_free_pairs_as_negatives() -> None:
    table = interactions(USERS * ITEMS - 30)
    parts = made(table, reference=False)
    negatives = set.union(*(pairs(part, 0) for part in parts.values()))
    assert len(negatives) == 30
    assert min(len(pairs(parts[name], 0)) for name in ("valid", "test")) >= 14


def test_too_few_interactions_are_refused() -> None:
    with pytest.raises(DataError, match=r"9 interactions.* 10"):
        made(interactions(9), reference=True)


@pytest.mark.parametrize("reference", [False, True])
def test_a_third_of_few_labels_is_set_aside_for_the_test(reference: bool) -> None:
    table = interactions(370, 3)
    label = [place % 5 == 0 for place in range(len(table))]
    partly = table.with_columns(
        pl.when(pl.Series(label)).then(pl.col(NOISY)).otherwise(None).alias(NOISY)
    )
    parts = made(partly, reference=reference, seed=3)
    before = made(table, reference=reference, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {
        name: len(part) for name, part in before.items()
    }
    labeled = {
        name: pairs(part.filter((pl.col(LABEL) > 0) & pl.col(NOISY).is_not_null()))
        for name, part in parts.items()
    }
    assert sum(map(len, labeled.values())) == sum(label)
    assert len(labeled["test"]) == sum(label) // 3
    assert set.union(*(pairs(part, 1) for part in parts.values())) == pairs(table)
    # where truth is known decides, not what it says
    opposite = made(partly.with_columns(~pl.col(NOISY)), reference=reference, seed=3)
    for name, part in parts.items():
        assert pairs(part, 1) == pairs(opposite[name], 1)


def test_nothing_is_set_aside_if_most_interactions_are_labeled() -> None:
    table = interactions(300, 5)
    mostly = table.with_columns(
        pl.when(pl.int_range(pl.len()) > 140).then(pl.col(NOISY)).otherwise(None).alias(NOISY)
    )
    parts, before = (made(one, reference=False, seed=5) for one in (mostly, table))
    for name, part in parts.items():
        assert pairs(part) == pairs(before[name])
