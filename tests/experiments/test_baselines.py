"""Recommenders without gradients, against plain loops."""

import math

import pytest
import torch

from dartcli.experiments.baselines import BASELINES

USERS, ITEMS = 12, 9


@pytest.fixture
def pairs() -> list[tuple[int, int]]:
    generator = torch.Generator().manual_seed(5)
    table = torch.rand(USERS, ITEMS, generator=generator) < 0.4
    table[:, 8] = False  # an item that nobody has
    return [(user, item) for user, item in table.nonzero().tolist()]


def score(name: str, pairs: list[tuple[int, int]]) -> torch.Tensor:
    user, item = torch.tensor(pairs).unbind(1)
    return BASELINES[name](user, item, USERS, ITEMS).score(torch.arange(USERS))


def test_popularity_counts_the_positives_of_an_item(pairs: list[tuple[int, int]]) -> None:
    expected = [sum(item == one for _, one in pairs) for item in range(ITEMS)]
    assert score("popularity", pairs).tolist() == [expected] * USERS


def test_itemknn_sums_cosine_similarities(pairs: list[tuple[int, int]]) -> None:
    fans = [{user for user, one in pairs if one == item} for item in range(ITEMS)]
    found = score("itemknn", [*pairs, pairs[0]])  # a repeated pair counts once
    for user in range(USERS):
        for item in range(ITEMS):
            expected = sum(
                len(fans[item] & fans[own]) / math.sqrt(len(fans[item]) * len(fans[own]))
                for own in range(ITEMS)
                if own != item and user in fans[own] and fans[item]
            )
            assert found[user, item].item() == pytest.approx(expected, abs=1e-12)


def test_only_the_most_similar_items_vote(
    pairs: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score("itemknn", pairs)
    monkeypatch.setattr("dartcli.experiments.baselines.NEIGHBORS", 1)
    monkeypatch.setattr("dartcli.experiments.baselines.ROWS", 4)
    nearest = score("itemknn", pairs)
    assert bool((nearest <= whole + 1e-12).all())
    assert float(nearest.sum()) < float(whole.sum())
