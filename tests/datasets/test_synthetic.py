"""The simulator keeps what it promises."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dartcli.data.columns import ITEM, NOISY, RATING, USER
from dartcli.datasets.synthetic import Options, read
from dartcli.errors import UsageError


def made(**options: object) -> pl.DataFrame:
    small = {"users": 200, "items": 150, "interactions": 5000}
    return read(Path(), Options(**(small | options))).collect()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("interactions", [10, 999, 5000, 7500])
def test_size_and_false_positive_rate_are_met_exactly(rate: float, interactions: int) -> None:
    table = made(interactions=interactions, false_positive_rate=rate, users=250, items=120)
    assert len(table) == interactions
    assert int(table[NOISY].sum()) == round(rate * interactions)


def test_no_pair_comes_twice() -> None:
    table = made()
    assert table.select(USER, ITEM).is_duplicated().sum() == 0


def test_liked_items_are_rated_seven_to_ten_and_disliked_ones_one_to_six() -> None:
    table = made()
    false, true = table.filter(NOISY), table.filter(~pl.col(NOISY))
    assert set(false[RATING]) == {1, 2, 3, 4, 5, 6}
    assert set(true[RATING]) == {7, 8, 9, 10}


def test_everything_comes_from_one_seed() -> None:
    assert made(seed=4).equals(made(seed=4))
    assert not made(seed=4).equals(made(seed=5))


def test_blocks_of_users_bound_the_memory_without_losing_a_click(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dartcli.datasets.synthetic.BLOCK", 1000)
    table = made()
    assert len(table) == 5000
    assert table.select(USER, ITEM).is_duplicated().sum() == 0


def test_activity_and_popularity_have_long_tails() -> None:
    table = made(users=1000, items=500, interactions=30_000)
    for column in (USER, ITEM):
        counts = np.sort(table[column].value_counts()["count"].to_numpy())[::-1]
        top = counts[: len(counts) // 10].sum() / counts.sum()
        assert top > 0.25  # a tenth of them has more than a quarter of the clicks


def test_the_pull_of_the_caption_drives_false_positives() -> None:
    def concentration(pull: float) -> float:
        false = made(pull=pull, interactions=6000).filter(NOISY)
        counts = false[ITEM].value_counts()["count"].to_numpy()
        return float(np.sort(counts)[::-1][:15].sum() / counts.sum())

    assert concentration(2.0) > concentration(0.0) + 0.1


def test_too_many_interactions_are_refused() -> None:
    with pytest.raises(UsageError, match=r"dataset\.interactions is 5,000, .* 25\."):
        made(users=10, items=10, interactions=5000)


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("taste", [0.0, 20.0])
def test_users_who_like_too_little_click_no_pair_twice(rate: float, taste: float) -> None:
    table = made(users=200, items=8, interactions=400, false_positive_rate=rate, taste=taste)
    assert table.select(USER, ITEM).n_unique() == len(table) == 400
    assert int(table[NOISY].sum()) == round(rate * 400)
