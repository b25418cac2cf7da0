"""The AUC estimated from labeled positives, against plain loops."""

import math

import numpy as np
import pytest
import torch

from dartcli.data.tensors import FALSE_POSITIVE, NEGATIVE, TRUE_POSITIVE, Interactions
from dartcli.metrics.labeled import LabeledScores, resample_differences
from dartcli.training.grants import estimate_clean_auc


def draw(seed: int, shift: float = 0.0) -> LabeledScores:
    """Draw scores with ties; a true positive scores ``shift`` higher than the others."""
    random = np.random.default_rng(seed)
    true, false, negative = (random.integers(0, 8, size) / 2.0 for size in (30, 20, 70))
    return LabeledScores(true + shift, false, negative, 200, np.arange(30), np.arange(30, 50))


def test_it_equals_a_plain_loop_over_weighted_pairs() -> None:
    one = draw(1)
    weights = np.random.default_rng(2).integers(0, 3, (4, 50)).astype(float)
    found = one.resample(weights)
    for row, weight in enumerate(weights):
        each = one.positives / weight.sum()
        won = total = 0.0
        for code, score in zip(one.true_code, one.true, strict=True):
            below = [(other, 1.0) for other in one.negative]
            below += [
                (other, each * weight[place])
                for place, other in zip(one.false_code, one.false, strict=True)
            ]
            for other, much in below:
                won += weight[code] * much * ((score > other) + 0.5 * (score == other))
                total += weight[code] * much
        assert found[row] == pytest.approx(won / total, abs=1e-12)


def test_it_is_the_estimate_that_selects_epochs() -> None:
    one = draw(3)
    logit = np.concatenate([one.true, one.false, np.zeros(150), one.negative])
    kind = [TRUE_POSITIVE] * 30 + [FALSE_POSITIVE] * 20 + [TRUE_POSITIVE] * 150 + [NEGATIVE] * 70
    kinds = torch.tensor(kind, dtype=torch.int8)
    table = Interactions(
        torch.zeros(len(kind), 2, dtype=torch.long), (kinds != NEGATIVE).float(), kinds
    )
    estimate = estimate_clean_auc(torch.from_numpy(logit), table, torch.arange(50))
    assert one.resample(np.ones((1, 50)))[0] == pytest.approx(estimate, abs=1e-12)


def test_intervals_cover_the_difference() -> None:
    better = [(draw(seed, 1.0), draw(seed)) for seed in range(3)]
    aucs, interval = resample_differences(better, 50)
    mean = np.mean([one - other for one, other in aucs])
    assert interval is not None
    assert 0 < interval[0] < mean < interval[1]
    same, nothing = resample_differences([(draw(0), draw(0))], 50)
    assert (same[0][0], nothing) == (same[0][1], (0.0, 0.0))


def test_without_a_true_positive_there_is_no_interval() -> None:
    empty = LabeledScores(
        np.empty(0), np.ones(3), np.zeros(5), 9, np.empty(0, dtype=np.int64), np.arange(3)
    )
    ((auc, _),), interval = resample_differences([(empty, empty)], 3)
    assert math.isnan(auc)
    assert interval is None
