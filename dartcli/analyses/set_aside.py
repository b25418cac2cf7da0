"""The verdict on a log of one's own: labeled test interactions judge each run against base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from dartcli.analyses._records import find_shared_seeds, identify
from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.errors import RunError
from dartcli.experiments.configure import load_run_data, load_run_interactions
from dartcli.experiments.run import MODEL, Run
from dartcli.metrics.labeled import LabeledScores, resample_differences
from dartcli.metrics.statistics import extrapolate_size
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.phrases import confidence_interval, interval_cell, join_words, signed
from dartcli.reporting.table import Table, difference_cell
from dartcli.reporting.verdict import list_other_differences
from dartcli.training.results import compute_spread, finite_or_none

MIN_LABELS: Final = 20
"""With fewer labeled test interactions there is no verdict."""


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return the difference of every run to ``base`` on labeled test interactions.

    Raises
    ------
    RunError
        If there is no run of ``base``, or no labeled test interaction.
    """
    plain = [run for run in runs if run.metrics.strategy == "base"]
    # labels may have selected its epoch
    base = min(plain, key=lambda run: bool(run.settings.trusted_valid), default=None)
    if base is None or len(runs) < 2:
        raise RunError(
            "the verdict compares runs with `base`. Name a run of `base` and at least one other."
        )
    numbers = [_compare(run, base) for run in runs if run is not base]
    return AnalysisResult(
        name="set-aside",
        title="Labeled interactions that were set aside",
        sentences=(
            *map(_describe, numbers),
            *(
                f"{one['run']} and {base.name} also differ in "
                f"{join_words(one['other_differences'])}, which may explain a difference."
                for one in numbers
                if one["other_differences"]
            ),
            f"This holds for interactions of {base.metrics.dataset} like the labeled ones, if "
            "those were drawn at random.",
        ),
        tables=(_tabulate(numbers, base.name),),
        numbers={"base": identify(base), "runs": numbers},
    )


def _compare(run: Run, base: Run) -> dict[str, Any]:
    for one in (run, base):
        # a run from before the last labels has another test split
        load_run_data(one, one.seeds[0])
    seeds = find_shared_seeds(run, base)
    if not seeds:
        raise RunError(
            f"{run.name} and {base.name} share no seed and split. Train both with the same."
        )
    codes: dict[tuple[int, int], int] = {}
    pairs = [(_read(run, seed, codes), _read(base, seed, codes)) for seed in seeds]
    if not codes:
        raise RunError(
            f"no test interaction of {run.metrics.dataset} is labeled. Label some with `dart label "
            f"{run.metrics.dataset} -o ask.csv`, add the answers, and train both runs again."
        )
    aucs, interval = resample_differences(pairs, len(codes))
    mean = float(np.mean([one - other for one, other in aucs]))
    same = all(run.seed_files(seed)[MODEL] == base.seed_files(seed)[MODEL] for seed in seeds)
    is_enough = len(codes) >= MIN_LABELS and np.isfinite(mean)
    return {
        **identify(run),
        "seeds": seeds,
        "labeled_test_interactions": len(codes),
        "labels": len(load_run_interactions(run).filter(pl.col(LABEL) > 0).drop_nulls(NOISY)),
        "auc": [finite_or_none(one) for one, _ in aucs],
        "auc_base": [finite_or_none(other) for _, other in aucs],
        "minus_base": mean if np.isfinite(mean) else None,
        "bootstrap_interval": interval,
        "verdict": _decide(interval if is_enough else None, same=same),
        "other_differences": list_other_differences([run, base]),
    }


def _read(run: Run, seed: int, codes: dict[tuple[int, int], int]) -> LabeledScores:
    """Return the test scores of a seed; number its labeled interactions in ``codes``."""
    test = run.scores(seed).filter(pl.col("split") == "test")
    positives, negatives = test.filter(pl.col(LABEL) > 0), test.filter(pl.col(LABEL) == 0)
    labeled = positives.drop_nulls(NOISY).sort(NOISY, maintain_order=True)
    # users unseen in training share a code, so their interactions are resampled together
    numbers = [codes.setdefault(pair, len(codes)) for pair in labeled.select(USER, ITEM).rows()]
    return LabeledScores(
        score=labeled["logit"].cast(pl.Float64).to_numpy(),
        is_false=labeled[NOISY].to_numpy(),
        negative=negatives["logit"].cast(pl.Float64).to_numpy(),
        positives=len(positives),
        code=np.array(numbers, dtype=np.int64),
    )


def _decide(interval: tuple[float, float] | None, *, same: bool) -> str:
    if same:
        return "same model"
    if interval is None:
        return "undecided"
    if interval[0] > 0:
        return "helps"
    return "harms" if interval[1] < 0 else "no difference"


def _describe(one: dict[str, Any]) -> str:
    name, verdict, labels = one["run"], one["verdict"], one["labeled_test_interactions"]
    if verdict == "same model":
        return f"{name} is the same model as base (equal weights)."
    if verdict == "undecided":
        return (
            f"{name}: no verdict is possible with {labels:,} labeled test interactions; at least "
            f"{MIN_LABELS} are needed, wanted ones among them. Label more with `dart label "
            f"{one['dataset']} -o ask.csv`."
        )
    amount = f"{signed(one['minus_base'])}, {confidence_interval(one['bootstrap_interval'])}"
    start = f"{name} {verdict}" if verdict in ("helps", "harms") else f"{name}: no difference"
    shown = "" if verdict in ("helps", "harms") else " can be shown"
    sentence = (
        f"{start}{shown}: AUC against clean labels minus that of base is {amount}, estimated from "
        f"{labels:,} labeled test interactions."
    )
    if verdict == "no difference":
        sentence += f" {_suggest(one)}"
    return sentence


def _suggest(one: dict[str, Any]) -> str:
    """Return how many labels would probably show a difference of the size that was found."""
    low, high = one["bootstrap_interval"]
    if not one["minus_base"]:
        return "No number of labels can be suggested, because the estimate is 0."
    needed = extrapolate_size(one["labels"], (high - low) / 2, one["minus_base"])
    if needed <= one["labels"]:
        return "If the difference is as large as estimated, a few more labels would show it."
    return (
        f"If the difference is as large as estimated, about {needed:,.0f} labels in all (now "
        f"{one['labels']:,}) would probably show it."
    )


def _tabulate(numbers: Sequence[dict[str, Any]], base: str) -> Table:
    return Table(
        title=f"AUC against clean labels, estimated from labeled test interactions; minus {base} "
        "in units of 1e-4, paired bootstrap",
        columns=("run", "verdict", "labels", "base", "AUC", "minus base", "95% CI"),
        rows=tuple(
            (
                one["run"],
                one["verdict"],
                one["labeled_test_interactions"],
                compute_spread(one["auc_base"]).mean,
                compute_spread(one["auc"]).mean,
                difference_cell(
                    one["minus_base"], unclear=one["verdict"] not in ("helps", "harms")
                ),
                interval_cell(one["bootstrap_interval"]),
            )
            for one in numbers
        ),
    )


ANALYSIS = Analysis(
    question="Is a run better than base on the labeled interactions that no training has seen?",
    examine=examine,
    place=5,
)
