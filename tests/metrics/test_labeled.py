"""The AUC estimated from labeled positives, against plain loops."""

import math
from dataclasses import replace

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
    score = np.concatenate([true + shift, false])
    return LabeledScores(score, np.arange(50) >= 30, negative, 200, np.arange(50))


def test_it_equals_a_plain_loop_over_weighted_pairs() -> None:
    one = draw(1)
    weights = np.random.default_rng(2).integers(0, 3, (4, 50)).astype(float)
    found = one.resample(weights)
    for row, weight in enumerate(weights):
        each = one.positives / weight.sum()
        won = total = 0.0
        for score, drawn in zip(one.score[:30], weight, strict=False):
            below = [(other, 1.0) for other in one.negative]
            below += zip(one.score[30:], each * weight[30:], strict=True)
            for other, much in below:
                won += drawn * much * ((score > other) + 0.5 * (score == other))
                total += drawn * much
        assert found[row] == pytest.approx(won / total, abs=1e-12)


def test_it_is_the_estimate_that_selects_epochs() -> None:
    one = draw(3)
    logit = np.concatenate([one.score, np.zeros(150), one.negative])
    kind = [TRUE_POSITIVE] * 30 + [FALSE_POSITIVE] * 20 + [TRUE_POSITIVE] * 150 + [NEGATIVE] * 70
    kinds = torch.tensor(kind, dtype=torch.int8)
    table = Interactions(
        torch.zeros(len(kind), 2, dtype=torch.long), (kinds != NEGATIVE).float(), kinds
    )
    estimate = estimate_clean_auc(torch.from_numpy(logit), table, torch.arange(50))
    assert one.estimate_auc() == estimate


def test_intervals_cover_the_difference() -> None:
    better = [(draw(seed, 1.0), draw(seed)) for seed in range(3)]
    aucs, interval = resample_differences(better, 50)
    mean = np.mean([one - other for one, other in aucs])
    assert interval is not None
    assert 0 < interval[0] < mean < interval[1]
    same, nothing = resample_differences([(draw(0), draw(0))], 50)
    assert (same[0][0], nothing) == (same[0][1], (0.0, 0.0))


def test_without_a_true_positive_there_is_no_interval() -> None:
    empty = LabeledScores(np.ones(3), np.ones(3, dtype=bool), np.zeros(5), 9, np.arange(3))
    ((auc, _),), interval = resample_differences([(empty, empty)], 3)
    assert math.isnan(auc)
    assert interval is None


def test_a_score_that_is_not_a_number_gives_none() -> None:
    one = draw(1)
    assert not math.isnan(one.estimate_auc())
    for name in ("score", "negative"):
        values = getattr(one, name).copy()
        values[3] = np.nan
        assert math.isnan(replace(one, **{name: values}).estimate_auc())
