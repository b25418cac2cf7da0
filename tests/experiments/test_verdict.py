"""The verdict of a comparison, on differences whose answer is known."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy import stats

from dartcli.analyses import _compare_tables, compare, label_curve
from dartcli.errors import RunError
from dartcli.experiments.comparison import Comparison
from dartcli.experiments.configure import resolve
from dartcli.experiments.run import MODEL, Run
from dartcli.experiments.train import train_run
from dartcli.experiments.verdict import MIN_SEEDS, decide_outcome
from dartcli.metrics.statistics import compare_paired
from dartcli.reporting.analyze import run_analysis
from dartcli.reporting.build import write_report
from dartcli.reporting.verdict import list_caveats, phrase_verdict
from dartcli.training.results import METRIC_NAMES, SeedMetrics

SMALL = {"name": "synthetic", "options": {"interactions": 1500}}


def train(strategy: str, name: str, seeds: tuple[int, ...], **options: Any) -> Run:
    return train_run(
        dataset=SMALL,
        strategy={"name": strategy, "options": options},
        training={"epochs": 2, "batch_size": 256},
        seeds=seeds,
        name=name,
    )


def make_run(
    strategy: str,
    aucs: dict[int, float],
    *,
    labeled: dict[int, float] | None = None,
    split_seed: int | None = None,
    **settings: Any,
) -> Any:
    """Return a finished run of which only settings and some metrics are known."""
    seeds = tuple(
        SeedMetrics.model_construct(
            **dict.fromkeys(METRIC_NAMES)
            | {"test_auc": auc, "test_auc_labeled": (labeled or {}).get(seed), "iterations": 1}
            | {"seed": seed, "split_seed": seed if split_seed is None else split_seed}
        )
        for seed, auc in aucs.items()
    )
    complete = resolve({"strategy": {"name": strategy}, "seeds": list(aucs), **settings}).settings
    return SimpleNamespace(
        name=strategy,
        folder=Path(strategy),
        settings=complete,
        seeds=tuple(aucs),
        metrics=SimpleNamespace(
            protocol="strict", strategy=strategy, dataset=complete.dataset.name, seeds=seeds,
            interrupted=False,
        ),
        seed_files=lambda seed: {MODEL: f"{strategy} {aucs[seed]}"},
    )  # fmt: skip


def test_plain_base_is_what_all_are_compared_with() -> None:
    chosen = make_run("base", {0: 0.7, 1: 0.7}, trusted_valid=50)
    runs = [chosen, make_run("base", {0: 0.5, 1: 0.5}), make_run("dart", {0: 0.6, 1: 0.6})]
    comparison = Comparison(runs)
    assert list(comparison.contenders) == ["base (trusted_valid=50)", "base", "dart"]
    assert comparison.base.label == "base"
    means = {one.contender.label: one.paired.mean for one in comparison.differences()}
    assert means == pytest.approx({"base (trusted_valid=50)": 0.2, "dart": 0.1})
    without = Comparison([runs[2], runs[0]])
    assert without.base.label == "base (trusted_valid=50)"


def test_caveats_of_partly_labeled_data_name_what_leaves_them_out() -> None:
    full = {0: 0.5, 1: 0.5}
    runs = [make_run("base", full, labeled=full), make_run("dart", {0: 0.6, 1: 0.6}, labeled=full)]
    (sentence,) = list_caveats(Comparison(runs))
    assert "Some interactions of synthetic have no ground truth" in sentence
    assert "test split but the labeled AUC counts them as wanted" in sentence
    assert "precision and recall of what was flagged leave them out" in sentence


def test_a_table_without_labeled_auc_says_why() -> None:
    full = {0: 0.5, 1: 0.5}
    partly = [make_run(name, full, labeled=full) for name in ("base", "dart")]
    other = make_run("base", full, dataset={"name": "movielens-100k"})
    sentence = "Test AUC is compared, because the labeled AUC is not defined for every training"
    for runs in ([*partly, other], [partly[0], make_run("dart", full, labeled={0: 0.5})]):
        comparison = Comparison(runs)
        assert comparison.metric == "test_auc"
        assert any(words.startswith(sentence) for words in list_caveats(comparison))
    silent = [Comparison(partly), Comparison([*partly, other], "test_auc"), Comparison([other])]
    assert [one.metric for one in silent] == ["test_auc_labeled", "test_auc", "test_auc"]
    assert not any(sentence in words for one in silent for words in list_caveats(one))


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_the_titles_say_if_lower_is_better(metric: str) -> None:
    runs = [make_run("base", {0: 0.5, 1: 0.4}), make_run("dart", {0: 0.6, 1: 0.5})]
    for run in runs:
        run.metrics.seeds = [
            one.model_copy(update={metric: one.test_auc}) for one in run.metrics.seeds
        ]
    comparison = Comparison(runs, metric)
    means, differences, *_ = _compare_tables.build(comparison, comparison.differences())
    lower = metric in {"test_log_loss", "valid_log_loss", "test_calibration_error"}
    delta = means.rows[1][-1].value  # type: ignore[union-attr]
    assert delta == pytest.approx(100 * 0.1 / 0.45)
    for table in (means, differences):
        assert ("lower is better" in table.title) == lower


@pytest.mark.parametrize("what", [compare, label_curve])
def test_interrupted_runs_are_named_with_every_comparison(what: Any) -> None:
    runs = [
        make_run("base", {0: 0.5, 1: 0.5, 2: 0.6}),
        make_run("trusted", {0: 0.6, 1: 0.7}, trusted=50),
    ]
    options = [what.CompareOptions()] if what is compare else []
    sentence = "trusted was interrupted: it has 2 of 5 seeds."
    assert sentence not in what.examine(runs, *options).sentences
    runs[1].metrics.interrupted = True
    runs[1].settings = runs[1].settings.model_copy(update={"seeds": (0, 1, 2, 3, 4)})
    assert what.examine(runs, *options).sentences.count(sentence) == 1


def test_the_gap_is_closed_over_the_seeds_that_all_three_share() -> None:
    base = make_run("base", {0: 0.5, 1: 0.5, 2: 0.5, 3: 0.5})
    clean = make_run("clean", {0: 0.6, 1: 0.6, 5: 0.9})
    # on the seeds of clean it closes half of the gap, on the others it is far beyond
    dart = make_run("dart", {0: 0.55, 1: 0.55, 2: 0.9, 3: 0.9})
    closed = {one.contender.label: one.gap_closed for one in Comparison([base, clean, dart])
              .differences()}  # fmt: skip
    assert closed == {"clean": pytest.approx(1), "dart": pytest.approx(0.5)}
    apart = [base, make_run("clean", {0: 0.6}), make_run("dart", {1: 0.55, 2: 0.9})]
    assert [one.gap_closed for one in Comparison(apart).differences()] == [pytest.approx(1), None]
    # clean on another split than base has no gap
    apart = [base, make_run("clean", {0: 0.6}, split_seed=7), dart]
    assert [one.gap_closed for one in Comparison(apart).differences()] == [None]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shift", [-0.01, 0.0, 0.01])
def test_the_verdict_is_that_of_a_t_test(sign: int, shift: float) -> None:
    draw = random.Random(4)
    differences = [shift + draw.gauss(0, 0.002) for _ in range(8)]
    p = stats.ttest_1samp(differences, 0).pvalue
    better = "helps" if shift * sign > 0 else "harms"
    expected = better if p < 0.05 else "no difference"
    assert (p < 0.05) == (shift != 0)
    paired = compare_paired(differences)
    assert decide_outcome(paired, p, sign, same_model=False) == expected


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_have_no_verdict(seeds: int) -> None:
    paired = compare_paired([0.5 + 1e-9 * number for number in range(seeds)])
    assert paired.p is None or paired.p < 0.001
    assert decide_outcome(paired, paired.p, 1, same_model=False) == "undecided"
    assert "no verdict is possible" in phrase_verdict(
        "dart", "base", "undecided", paired, "test_auc", None
    )


def test_a_tie_of_different_models_is_no_difference() -> None:
    paired = compare_paired([0.0] * MIN_SEEDS)
    assert decide_outcome(paired, 1.0, 1, same_model=False) == "no difference"
    assert decide_outcome(paired, 1.0, 1, same_model=True) == "same model"


def test_the_sentence_has_amount_interval_seeds_and_correction() -> None:
    paired = compare_paired([-0.011, -0.010, -0.009])
    interval = stats.ttest_1samp([-0.011, -0.010, -0.009], 0).confidence_interval()
    bounds = f"95% CI {interval.low:+.4f} to {interval.high:+.4f}"
    assert phrase_verdict("dart", "base", "harms", paired, "test_auc", 0.0033, 2) == (
        f"dart harms: test AUC is 0.0100 lower than with base ({bounds}, 3 seeds, p = 0.003 after "
        "correction for 2 tests)."
    )
    assert phrase_verdict("a", "b", "helps", paired, "test_log_loss", 0.0033) == (
        f"a is better than b: test log loss is 0.0100 lower ({bounds}, 3 seeds, p = 0.003)."
    )
    tiny = compare_paired([2e-6, 2e-6, 2.1e-6])
    assert "+2.0e-06" in phrase_verdict("dart", "base", "no difference", tiny, "test_auc", 0.5)


def test_equal_weights_are_the_same_model_in_every_output(home: Path) -> None:
    train("base", "plain", (0, 1))
    train("dart", "idle", (0, 1), t_i=100_000)
    result = run_analysis("compare", ["plain", "idle"])
    (found,) = (cell["against_base"] for cell in result.numbers["cells"] if cell["against_base"])
    sentence = "dart (t_i=100000) is the same model as base (equal weights, 2 seeds)."
    assert (found["verdict"], found["sentence"]) == ("same model", sentence)
    assert result.sentences[0] == sentence
    assert result.tables[1].rows[0][1] == "same model"
    page = write_report(["plain", "idle"])
    assert page.summary[0] == sentence
    assert not any("ahead" in words for words in page.summary)


def test_two_seeds_name_the_commands_that_give_a_verdict(home: Path) -> None:
    runs = [train("base", "plain", (0, 1)), train("dart", "worse", (0, 1), t_m=1, tau_m=0.5)]
    result = run_analysis("compare", runs)
    assert "no verdict is possible with 2 seeds" in result.sentences[0]
    for run in runs:
        assert f"{run.folder}/settings.json --seeds 0-4`" in result.sentences[1]
    # a star would be a verdict
    assert all("*" not in str(row) for row in result.tables[0].rows)
    assert not any(getattr(cell, "worse", False) for row in result.tables[0].rows for cell in row)


def test_runs_that_share_too_few_seeds_name_the_command_that_trains_them(home: Path) -> None:
    train("base", "plain", (0, 1, 2, 3, 4))
    other = train("dart", "other", (4, 5, 6), t_m=1, tau_m=0.5)
    first, second, *_ = run_analysis("compare", ["plain", "other"]).sentences
    assert "no verdict is possible with 1 seed" in first
    assert second == (
        f"For a verdict, train more seeds: `dart train --config {other.folder}/settings.json "
        "--seeds 0-4`. Then compare the new runs."
    )
    settings = other.settings
    train_run(settings, strategy="dart", seeds=(0, 1, 2, 3, 4), split_seed=9, name="elsewhere")
    # only the split of one seed could be the same, and it is not
    with pytest.raises(RunError, match="nothing to compare"):
        run_analysis("compare", ["plain", "elsewhere"])


def test_seeds_on_different_splits_are_not_paired(home: Path) -> None:
    settings = train("base", "plain", (0, 1)).settings
    train_run(settings, strategy="dart", split_seed=1, name="other")
    (difference,) = Comparison(
        [Run(home / "runs" / name) for name in ("plain", "other")]
    ).differences()
    assert difference.paired.n == 1


def test_other_settings_that_differ_are_named(home: Path) -> None:
    settings = train("base", "plain", (0, 1)).settings.model_dump()
    settings["training"]["learning_rate"] = 0.01
    train_run(settings, strategy="dart", name="other")
    sentences = run_analysis("compare", ["plain", "other"]).sentences
    assert any("also differ in training.learning_rate" in sentence for sentence in sentences)
