"""Paired statistics against textbook formulas, and against simulations with a known truth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dartcli.metrics import statistics
from dartcli.metrics.statistics import compare_paired, compute_bootstrap_interval, holm


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("scale", [1e-6, 0.01, 1e3])
def test_interval_and_p_value_are_those_of_students_t(n: int, scale: float) -> None:
    differences = scale * np.random.default_rng(n).normal(0.3, 1, n)
    found = compare_paired(differences.tolist())
    assert (found.n, found.mean) == (n, pytest.approx(differences.mean()))
    assert found.std == pytest.approx(differences.std(ddof=1))
    error = differences.std(ddof=1) / math.sqrt(n)
    half = stats.t.ppf(0.975, n - 1) * error
    expected = (differences.mean() - half, differences.mean() + half)
    assert found.t_interval == pytest.approx(expected, rel=1e-9, abs=1e-9 * half)
    p = 2 * stats.t.sf(abs(differences.mean()) / error, n - 1)
    assert found.p == pytest.approx(p, rel=1e-10)


def test_the_bootstrap_interval_equals_that_of_scipy_up_to_chance() -> None:
    differences = np.random.default_rng(1).gamma(2, 0.01, 30)
    found = compute_bootstrap_interval(differences.tolist())
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=100_000, method="percentile", rng=2
    ).confidence_interval
    # the standard error of a percentile from 10,000 resamples is below a fiftieth of the width
    tolerance = 0.04 * (expected.high - expected.low)
    assert found == pytest.approx((expected.low, expected.high), abs=tolerance)
    assert found == compute_bootstrap_interval(differences.tolist())


def test_one_pair_has_no_interval() -> None:
    one = compare_paired([0.25])
    assert (one.n, one.mean) == (1, 0.25)
    assert (one.std, one.t_interval, one.bootstrap_interval, one.p) == (None,) * 4


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.5, 0.0), (0.1, 0.0)])
def test_equal_differences_have_an_interval_of_no_width(value: float, p: float) -> None:
    found = compare_paired([value] * 3)
    assert (found.n, found.mean, found.std, found.p) == (3, value, 0.0, p)
    assert found.t_interval == found.bootstrap_interval == (value, value)


def test_almost_equal_differences_raise_no_warning() -> None:
    found = compare_paired([0.1, math.nextafter(0.1, 1), 0.1])
    assert found.p is not None
    assert found.p < 1e-30


@pytest.mark.parametrize("values", [[], [math.nan], [0.1, math.inf]])
def test_differences_that_are_not_finite_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        compare_paired(values)


def test_identical_strategies_differ_significantly_in_five_percent_of_sweeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1)  # only Student's t is tested here
    random = np.random.default_rng(7)
    sweeps, seeds = 1000, 10
    # the split affects both strategies alike; the rest is independent
    split = random.normal(0.82, 0.004, (sweeps, seeds))
    one, other = (split + random.normal(0, 0.0005, (sweeps, seeds)) for _ in range(2))
    found = [compare_paired(differences.tolist()) for differences in other - one]
    alarms = sum(comparison.p < 0.05 for comparison in found if comparison.p is not None)
    error = math.sqrt(0.05 * 0.95 / sweeps)
    assert abs(alarms / sweeps - 0.05) < 3 * error
    covered = sum(low <= 0 <= high for low, high in (f.t_interval or (1, 0) for f in found))
    assert alarms == sweeps - covered


def test_holm_keeps_the_chance_of_any_false_rejection_in_a_table_at_five_percent() -> None:
    random = np.random.default_rng(8)
    tables, comparisons = 1000, 22
    differences = random.normal(0, 1, (tables, comparisons, 10))
    p_values = stats.ttest_1samp(differences, 0, axis=2).pvalue
    any_alarm = sum(min(holm(row)) < 0.05 for row in p_values.tolist())
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
