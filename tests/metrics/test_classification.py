"""Metrics against scikit-learn and against counting pairs."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sk_log_loss
from sklearn.metrics import roc_auc_score

from dartcli import metrics


def test_auc_equals_scikit_learn_with_heavy_ties() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        size = int(random.integers(2, 3000))
        label = np.concatenate([[0, 1], random.integers(0, 2, size)])
        score = random.integers(0, int(random.integers(1, 50)) + 1, size + 2) / 8.0
        found = metrics.auc(torch.tensor(score, dtype=torch.float32), torch.tensor(label))
        assert found == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_auc_ranks_huge_logits() -> None:
    # a sigmoid in float32 would make the first three equal
    score = torch.tensor([100.0, 101.0, 102.0, 1e30, -1e30])
    assert metrics.auc(score, torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])) == 1.0


@pytest.mark.parametrize(
    ("score", "label"),
    [
        ([], []),
        ([1.0], [0.0]),
        ([1.0, math.nan], [1.0, 0.0]),
        *[
            (score, label)
            for label in ([0.0, 0.0], [1.0, 1.0])
            for score in ([1.0, 2.0], [1.0, 1.0], [math.inf, -math.inf])
        ],
    ],
)
def test_auc_is_nan_if_undefined(score: list[float], label: list[float]) -> None:
    assert math.isnan(metrics.auc(torch.tensor(score), torch.tensor(label)))


def test_auc_of_equal_scores_is_one_half() -> None:
    assert metrics.auc(torch.zeros(7), torch.tensor([1.0, 0, 0, 1, 1, 0, 0])) == 0.5


def test_auc_accepts_boolean_labels() -> None:
    assert metrics.auc(torch.tensor([0.1, 0.9]), torch.tensor([False, True])) == 1.0


def test_log_loss_equals_scikit_learn() -> None:
    random = np.random.default_rng(2)
    logit, label = random.normal(size=500), random.integers(0, 2, 500)
    found = metrics.log_loss(torch.tensor(logit), torch.tensor(label))
    assert found == pytest.approx(sk_log_loss(label, 1 / (1 + np.exp(-logit))), rel=1e-12)
    assert math.isnan(metrics.log_loss(torch.empty(0), torch.empty(0)))


def count_pairs(scores: list[float] | list[int], labels: list[int]) -> float:
    """Count 1 for a positive above a negative, one half for a tie; round once."""
    won, pairs = Fraction(0), 0
    for score, label in zip(scores, labels, strict=True):
        for other, other_label in zip(scores, labels, strict=True):
            if label == 1 and other_label == 0:
                pairs += 1
                won += Fraction(1, 2) if score == other else Fraction(int(score > other))
    return float(won / pairs) if pairs else math.nan


few_values = st.sampled_from([-math.inf, -1e30, -1.0, -0.0, 0.0, 1e-45, 0.5, 1e30, math.inf])
rows = st.lists(st.tuples(few_values, st.integers(0, 1)), max_size=25)


@given(rows)
def test_auc_is_the_share_of_won_pairs_to_the_last_bit(pairs: list[tuple[float, int]]) -> None:
    scores, labels = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = metrics.auc(torch.tensor(scores), torch.tensor(labels, dtype=torch.float32))
    expected = count_pairs(scores, labels)
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_auc_of_continuous_scores_equals_scikit_learn() -> None:
    random = np.random.default_rng(0)
    score = random.normal(size=5000) * 10.0 ** random.integers(-30, 31, 5000)
    label = random.random(5000) < 0.2
    found = metrics.auc(torch.tensor(score), torch.tensor(label))
    assert found == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_auc_distinguishes_neighboring_large_integers() -> None:
    # as float64 these would be one number
    score = torch.tensor([2**60, 2**60 + 1, 2**60 + 2])
    assert metrics.auc(score, torch.tensor([0, 1, 1])) == 1.0
    assert metrics.auc(score, torch.tensor([1, 0, 0])) == 0.0


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.float16, torch.float64])
def test_auc_accepts_scores_of_any_number_type(kind: torch.dtype) -> None:
    score, label = [3, 1, 2, 2, 5, 1, 0], [1, 0, 1, 0, 0, 1, 0]
    found = metrics.auc(torch.tensor(score, dtype=kind), torch.tensor(label))
    assert found == count_pairs(score, label)


def test_auc_depends_only_on_the_order_of_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(0, 20, (300,), generator=generator).double()
    label = torch.randint(0, 2, (300,), generator=generator)
    found = metrics.auc(score, label)
    order = torch.randperm(300, generator=generator)
    assert 0 < found < 1
    assert metrics.auc(score[order], label[order]) == found
    assert metrics.auc(score**3 + 7, label) == found
    assert metrics.auc(-score, label) == pytest.approx(1 - found, abs=1e-15)
    assert metrics.auc(score, 1 - label) == pytest.approx(1 - found, abs=1e-15)


def test_auc_does_not_modify_its_arguments() -> None:
    score, label = torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 0.0, 0.0])
    metrics.auc(score, label)
    assert score.tolist() == [2.0, 1.0, 3.0]
    assert label.tolist() == [1.0, 0.0, 0.0]


@given(
    st.lists(
        st.tuples(st.floats(-(2.0**100), 2.0**100, width=32), st.floats(0, 1, width=32)),
        min_size=1,
        max_size=30,
    )
)
def test_log_loss_is_the_mean_of_the_formula(pairs: list[tuple[float, float]]) -> None:
    # log(1 + exp(x)) - y x, which is Eq. 2 in the logit x
    total = sum(max(x, 0.0) + math.log1p(math.exp(-abs(x))) - y * x for x, y in pairs)
    logit, label = (torch.tensor(values) for values in zip(*pairs, strict=True))
    # the terms may cancel, so the error is relative to their size
    size = 1 + max(abs(x) for x, _ in pairs)
    found = metrics.log_loss(logit, label)
    assert found == pytest.approx(total / len(pairs), rel=1e-12, abs=1e-14 * size)


def test_log_loss_is_computed_in_double_precision() -> None:
    logit = torch.full((3,), 20.0)
    found = metrics.log_loss(logit, torch.ones(3))
    assert found == pytest.approx(math.log1p(math.exp(-20.0)), rel=1e-12)


def test_auc_by_group_equals_scikit_learn_in_each_group() -> None:
    random = np.random.default_rng(3)
    size, groups = 4000, 60
    group = random.integers(0, groups - 1, size)  # the last group stays empty
    label = random.integers(0, 2, size)
    label[group == 7] = 1
    score = random.integers(0, 12, size) / 4.0
    found = metrics.auc_by_group(
        torch.tensor(score), torch.tensor(label), torch.tensor(group), groups
    )
    for number in range(groups):
        mine = group == number
        if len(set(label[mine])) < 2:
            assert math.isnan(found[number])
        else:
            expected = roc_auc_score(label[mine], score[mine])
            assert float(found[number]) == pytest.approx(expected, abs=1e-12)
    known = ~found.isnan().numpy()
    rows = np.bincount(group, minlength=groups)
    expected = np.average(found.numpy()[known], weights=rows[known])
    total = metrics.grouped_auc(
        torch.tensor(score), torch.tensor(label), torch.tensor(group), groups
    )
    assert total == pytest.approx(expected, abs=1e-12)


def test_auc_by_group_is_nan_for_groups_without_an_auc() -> None:
    score = torch.tensor([1.0, 2.0, math.nan, 1.0])
    label, group = torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 1])
    found = metrics.auc_by_group(score, label, group, 3)
    assert float(found[0]) == 1.0
    assert bool(found[1:].isnan().all())
    nothing = torch.empty(0)
    assert bool(metrics.auc_by_group(nothing, nothing, nothing.long(), 2).isnan().all())
    assert math.isnan(metrics.grouped_auc(nothing, nothing, nothing.long(), 2))


def test_calibration_error_is_the_weighted_gap_of_fifteen_bins() -> None:
    random = np.random.default_rng(4)
    logit, label = random.normal(0, 3, 5000), random.integers(0, 2, 5000)
    probability = 1 / (1 + np.exp(-logit))
    expected = 0.0
    for low in range(15):
        mine = (probability >= low / 15) & (probability < (low + 1) / 15)
        if mine.any():
            gap = abs(probability[mine].mean() - label[mine].mean())
            expected += mine.mean() * gap
    found = metrics.calibration_error(torch.tensor(logit), torch.tensor(label))
    assert found == pytest.approx(expected, abs=1e-12)
    perfect = torch.tensor([math.inf, -math.inf])
    assert metrics.calibration_error(perfect, torch.tensor([1.0, 0.0])) == 0.0
    assert math.isnan(metrics.calibration_error(torch.empty(0), torch.empty(0)))


@given(st.lists(st.integers(0, 40), max_size=80), st.integers(1, 6))
def test_equal_groups_share_positives_equally_in_order_of_activity(
    counts: list[int], groups: int
) -> None:
    found = metrics.equal_groups(torch.tensor(counts, dtype=torch.int64), groups).tolist()
    assert len(found) == len(counts)
    assert all(0 <= group < groups for group in found)
    pairs = sorted(zip(counts, found, strict=True))
    assert [group for _, group in pairs] == sorted(found)
    share, largest = sum(counts) / groups, max(counts, default=0)
    for group in range(groups):
        held = sum(count for count, mine in zip(counts, found, strict=True) if mine == group)
        assert abs(held - share) <= largest


def test_precision_at_counts_ties_by_their_mean() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        size = int(random.integers(1, 200))
        score = random.integers(0, 10, size) / 4.0
        label = random.integers(0, 2, size)
        shares = [1 / size, *random.uniform(0.01, 1, 5), 1.0]
        found = metrics.precision_at(torch.tensor(score), torch.tensor(label), shares)
        for share, precision in zip(shares, found, strict=True):
            left, hits = share * size, 0.0
            for value in sorted(set(score), reverse=True):
                tied = label[score == value]
                taken = min(left, len(tied))
                hits += taken * tied.mean()
                left -= taken
            assert precision == pytest.approx(hits / (share * size), abs=1e-12)
    assert math.isnan(metrics.precision_at(torch.tensor([]), torch.tensor([]), [0.5])[0])
