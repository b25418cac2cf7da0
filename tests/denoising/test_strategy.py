"""Defaults of the contract, and statistics of the training table."""

import random
from collections import Counter

import polars as pl
import pytest
import torch

from dartcli import settings
from dartcli.denoising import Context, Strategy, TrainingTable, observe


def test_by_default_a_strategy_changes_nothing_but_must_decide() -> None:
    strategy = Strategy(settings.Options(), Context())
    logit = torch.tensor([-1e30, 0.0, 3.0])
    assert torch.equal(strategy.link(logit), logit)
    table = pl.DataFrame({"label": [1, 0]})
    assert strategy.prepare(table) is table
    now = torch.tensor(1)
    observed = observe(logit, torch.ones(3), row=torch.arange(3), iteration=now, epoch=now)
    with pytest.raises(NotImplementedError):
        strategy.exchange([observed])


def test_table_statistics_count_positives_only() -> None:
    chance = random.Random(2)
    users = [chance.randrange(6) for _ in range(40)]
    items = [chance.randrange(4) for _ in range(40)]
    labels = [chance.randrange(2) for _ in range(40)]
    table = TrainingTable(
        user=torch.tensor(users),
        item=torch.tensor(items),
        label=torch.tensor(labels, dtype=torch.float32),
        users=8,
        items=5,
        rows=40,
    )
    of_users = Counter(user for user, label in zip(users, labels, strict=True) if label)
    of_items = Counter(item for item, label in zip(items, labels, strict=True) if label)
    assert table.user_counts.tolist() == [of_users[user] for user in range(8)]
    assert table.item_counts.tolist() == [of_items[item] for item in range(5)]
