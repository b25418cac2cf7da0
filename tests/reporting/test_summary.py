"""The sentences about the main result, for runs whose metrics are given."""

from types import SimpleNamespace
from typing import Any

from dartcli.reporting.phrases import join_words, p_value, relation
from dartcli.reporting.summary import summarize_runs
from dartcli.training.results import compute_spread


def make_run(name: str, aucs: dict[int, float | None], *, seeds: int | None = None) -> Any:
    spread = compute_spread(list(aucs.values()))
    metrics = SimpleNamespace(
        strategy="dart",
        summary={"test_auc": spread, "test_auc_without_fp": spread},
        seeds=[
            SimpleNamespace(seed=seed, split_seed=seed, test_auc=auc) for seed, auc in aucs.items()
        ],
        interrupted=seeds is not None,
    )
    settings = SimpleNamespace(
        protocol="strict",
        dataset=SimpleNamespace(name="synthetic", options={}),
        seeds=tuple(range(seeds or len(aucs))),
    )
    return SimpleNamespace(name=name, metrics=metrics, settings=settings, seeds=tuple(aucs))


def test_the_difference_to_the_second_is_paired_by_seed() -> None:
    runs = [make_run("a", {0: 0.7, 1: 0.8}), make_run("b", {0: 0.71, 1: 0.83})]
    first, second = summarize_runs(runs)
    assert first == (
        "b (dart) has the highest test AUC, 0.7700 ± 0.0849, followed by a (dart) with 0.7500 ± "
        "0.0707."
    )
    assert second == (
        "b minus a, paired by seed: +0.0200 test AUC (95% CI -0.1071 to +0.1471); b is ahead on "
        "2 of 2 seeds."
    )


def test_equal_runs_have_no_winner() -> None:
    aucs: dict[int, float | None] = {0: 0.7, 1: 0.8}
    first, second = summarize_runs([make_run(name, aucs) for name in "abc"])
    assert first == "a (dart), b (dart) and c (dart) have the same highest test AUC, 0.7500."
    assert "0 of 2 seeds" in second


def test_one_shared_seed_cannot_rule_out_chance() -> None:
    runs = [make_run("a", {0: 0.7, 1: 0.9}), make_run("b", {1: 0.95})]
    assert "-0.0500" not in summarize_runs(runs)[1]
    assert "+0.0500 test AUC on one shared seed" in summarize_runs(runs)[1]


def test_runs_without_a_shared_seed_are_not_paired() -> None:
    runs = [make_run("a", {0: 0.7}), make_run("b", {1: 0.95})]
    assert "no seed" in summarize_runs(runs)[1]


def test_undefined_metrics_and_interrupted_runs_are_named() -> None:
    runs = [make_run("a", {0: None}), make_run("b", {0: 0.7}, seeds=3)]
    first, second = summarize_runs(runs)
    assert "no test AUC" in first
    assert second == "b was interrupted: it has 1 of 3 seeds."


def test_numbers_are_compared_at_the_digits_that_are_shown() -> None:
    assert relation(0.50004, 0.50001, 4) == "equal to"
    assert relation(0.5002, 0.5, 4) == "higher than"
    assert relation(0.4, 0.5, 1) == "lower than"


def test_p_values_and_lists_of_words() -> None:
    assert p_value(0.0004) == "p < 0.001"
    assert p_value(0.0234, name="Welch p") == "Welch p = 0.023"
    assert join_words(["a", "b", "a", "c"]) == "a, b and c"
