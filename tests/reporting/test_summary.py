"""The sentences about the main result, for runs whose metrics are given."""

from types import SimpleNamespace
from typing import Any

import pytest
from scipy import stats

from dartcli.experiments.run import MODEL
from dartcli.reporting import summary
from dartcli.reporting.phrases import join_words, name_epochs, p_value, relation
from dartcli.reporting.summary import summarize_runs
from dartcli.training.results import compute_spread


@pytest.fixture(autouse=True)
def _only_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """These runs have no files, and no base to be compared with."""

    def refuse(runs: object) -> None:
        raise summary.RunError("no base")

    monkeypatch.setattr(summary, "Comparison", refuse)
    monkeypatch.setattr(summary, "explain_unflagged", lambda _run: None)
    monkeypatch.setattr(summary, "suggest_seeds", lambda _runs: "Train more seeds.")


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
    return SimpleNamespace(
        name=name,
        metrics=metrics,
        settings=settings,
        seeds=tuple(aucs),
        # models are equal if their metrics are
        seed_files=lambda seed: {MODEL: str(aucs[seed])},
    )


def test_every_run_has_a_verdict_against_the_first_paired_by_seed() -> None:
    aucs = {
        "a": [0.70, 0.80, 0.75, 0.72],
        "b": [0.71, 0.812, 0.759, 0.731],
        "c": [0.69, 0.81, 0.75, 0.72],
    }
    runs = [make_run(name, dict(enumerate(values))) for name, values in aucs.items()]
    better, unclear = summarize_runs(runs)
    gains = [late - early for early, late in zip(aucs["a"], aucs["b"], strict=True)]
    interval = stats.ttest_1samp(gains, 0).confidence_interval()
    assert better.startswith(
        f"b (dart) is better than a (dart): test AUC is {sum(gains) / 4:.4f} higher (95% CI "
        f"{interval.low:+.4f} to {interval.high:+.4f}, 4 seeds, p ="
    )
    assert "after correction for 2 tests" in better
    assert unclear.startswith("c (dart): no difference from a (dart) can be shown")


def test_equal_runs_are_the_same_model() -> None:
    aucs: dict[int, float | None] = {0: 0.7, 1: 0.8}
    sentences = summarize_runs([make_run(name, aucs) for name in "abc"])
    assert sentences == (
        "b (dart) is the same model as a (dart) (equal weights, 2 seeds).",
        "c (dart) is the same model as a (dart) (equal weights, 2 seeds).",
    )


def test_one_shared_seed_gives_no_verdict() -> None:
    runs = [make_run("a", {0: 0.7, 1: 0.9}), make_run("b", {1: 0.95})]
    assert summarize_runs(runs) == (
        "b (dart) against a (dart): no verdict is possible with 1 seed (test AUC +0.0500); at "
        "least 3 are needed.",
        "Train more seeds.",
    )


def test_runs_without_a_shared_seed_are_not_paired() -> None:
    runs = [make_run("a", {0: 0.7}), make_run("b", {1: 0.95})]
    assert "share no seed" in summarize_runs(runs)[0]


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
    assert name_epochs([2, 2]) == "epoch 2"
    assert name_epochs([2, 5, 3]) == "epochs 2, 5 and 3"
