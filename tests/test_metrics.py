"""Measures against scikit-learn and against counting pairs."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss as sk_log_loss
from sklearn.metrics import roc_auc_score

from dartcli import metrics


@pytest.mark.parametrize("seed", range(20))
def test_auc_equals_scikit_learn_with_heavy_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = int(random.integers(2, 3000))
    label = np.concatenate([[0, 1], random.integers(0, 2, size)])
    score = random.integers(0, int(random.integers(1, 50)) + 1, size + 2) / 8.0
    found = metrics.auc(torch.tensor(score, dtype=torch.float32), torch.tensor(label))
    assert found == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_auc_counts_pairs() -> None:
    random = np.random.default_rng(1)
    label, score = random.integers(0, 2, 60), random.integers(0, 9, 60)
    won = sum(
        (score[i] > score[j]) + 0.5 * (score[i] == score[j])
        for i in range(60)
        for j in range(60)
        if label[i] == 1 and label[j] == 0
    )
    pairs = label.sum() * (1 - label).sum()
    found = metrics.auc(torch.tensor(score), torch.tensor(label, dtype=torch.float32))
    assert found == pytest.approx(won / pairs, abs=1e-15)


def test_auc_takes_huge_logits_as_they_are() -> None:
    # a sigmoid in float32 would make the first three equal
    score = torch.tensor([100.0, 101.0, 102.0, 1e30, -1e30])
    assert metrics.auc(score, torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])) == 1.0


@pytest.mark.parametrize(
    ("score", "label"),
    [([], []), ([1.0, 2.0], [1.0, 1.0]), ([1.0], [0.0]), ([1.0, math.nan], [1.0, 0.0])],
)
def test_auc_is_not_a_number_where_it_is_not_defined(
    score: list[float], label: list[float]
) -> None:
    assert math.isnan(metrics.auc(torch.tensor(score), torch.tensor(label)))


def test_auc_of_equal_scores_is_one_half() -> None:
    assert metrics.auc(torch.zeros(7), torch.tensor([1.0, 0, 0, 1, 1, 0, 0])) == 0.5


def test_auc_takes_boolean_labels() -> None:
    assert metrics.auc(torch.tensor([0.1, 0.9]), torch.tensor([False, True])) == 1.0


def test_log_loss_equals_scikit_learn() -> None:
    random = np.random.default_rng(2)
    logit, label = random.normal(size=500), random.integers(0, 2, 500)
    found = metrics.log_loss(torch.tensor(logit), torch.tensor(label))
    assert found == pytest.approx(sk_log_loss(label, 1 / (1 + np.exp(-logit))), rel=1e-12)
    assert math.isnan(metrics.log_loss(torch.empty(0), torch.empty(0)))
