"""Paired statistics against scipy, and against simulations whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dartcli.metrics.statistics import bootstrap, compare_paired, holm


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
def test_t_interval_and_p_equal_scipy(n: int) -> None:
    random = np.random.default_rng(n)
    base, other = random.normal(0.8, 0.01, n), random.normal(0.803, 0.01, n)
    found = compare_paired((other - base).tolist())
    expected = stats.ttest_rel(other, base)
    interval = expected.confidence_interval(0.95)
    assert found.n == n
    assert found.mean == pytest.approx((other - base).mean(), abs=1e-15)
    assert found.std == pytest.approx((other - base).std(ddof=1), abs=1e-15)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert found.t_interval == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_the_bootstrap_interval_equals_scipy_within_its_chance() -> None:
    differences = np.random.default_rng(1).gamma(2, 0.01, 30)
    found = bootstrap(differences.tolist())
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=200_000, method="percentile", rng=2
    ).confidence_interval
    # the standard error of a percentile from 10,000 resamples is below a fiftieth of the width
    tolerance = 0.04 * (expected.high - expected.low)
    assert found == pytest.approx((expected.low, expected.high), abs=tolerance)
    assert found == bootstrap(differences.tolist())


def test_one_pair_and_equal_pairs_say_what_they_can() -> None:
    one = compare_paired([0.25])
    assert (one.n, one.mean) == (1, 0.25)
    assert (one.std, one.t_interval, one.bootstrap_interval, one.p) == (None,) * 4
    same = compare_paired([0.0] * 5)
    assert (same.p, same.t_interval, same.bootstrap_interval) == (1.0, (0.0, 0.0), (0.0, 0.0))
    shifted = compare_paired([0.5] * 5)
    assert (shifted.p, shifted.t_interval) == (0.0, (0.5, 0.5))


@pytest.mark.parametrize("values", [[], [math.nan], [0.1, math.inf]])
def test_what_is_no_number_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        compare_paired(values)


def test_two_identical_strategies_raise_a_false_alarm_in_five_of_a_hundred_sweeps() -> None:
    random = np.random.default_rng(7)
    sweeps, seeds = 1000, 10
    # the split moves both alike; what is left of each is chance
    split = random.normal(0.82, 0.004, (sweeps, seeds))
    one, other = (split + random.normal(0, 0.0005, (sweeps, seeds)) for _ in range(2))
    found = [compare_paired(differences.tolist()) for differences in other - one]
    alarms = sum(comparison.p < 0.05 for comparison in found if comparison.p is not None)
    error = math.sqrt(0.05 * 0.95 / sweeps)
    assert abs(alarms / sweeps - 0.05) < 3 * error
    covered = sum(low <= 0 <= high for low, high in (f.t_interval or (1, 0) for f in found))
    assert alarms == sweeps - covered


def test_holm_keeps_the_chance_of_any_false_alarm_in_a_table_at_five_in_a_hundred() -> None:
    random = np.random.default_rng(8)
    tables, comparisons = 1000, 22
    differences = random.normal(0, 1, (tables, comparisons, 10))
    any_alarm = sum(
        min(holm([float(p) for p in stats.ttest_1samp(table, 0, axis=1).pvalue])) < 0.05
        for table in differences
    )
    error = math.sqrt(0.05 * 0.95 / tables)
    assert abs(any_alarm / tables - 0.05) < 3 * error


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_step_down_rule(p_values: list[float]) -> None:
    found = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected: set[int] = set()
        order = sorted(range(len(p_values)), key=lambda index: p_values[index])
        for rank, index in enumerate(order):
            if p_values[index] * (len(p_values) - rank) >= level:
                break
            rejected.add(index)
        assert {index for index, p in enumerate(found) if p < level} == rejected
