"""Precision of each signal and of the detector, and the calibration of its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import torch

from dartcli import metrics
from dartcli.analyses._ranking import (
    SHARES,
    Ranked,
    draw_ranked,
    mean_auc,
    mean_precision,
    mean_share,
    measure,
    name_axes,
    tabulate,
)
from dartcli.analyses._records import identify
from dartcli.data.columns import ITEM, NOISY, USER
from dartcli.errors import RunError
from dartcli.experiments.identification import PROBABILITY, TRUSTED, identify_run
from dartcli.experiments.run import Run
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import (
    REFERENCE_LINE,
    Floats,
    draw_baselines,
    draw_legend,
    new_figure,
    none_to_nan,
    run_color,
    wrap,
)
from dartcli.reporting.phrases import percent, relation
from dartcli.reporting.table import Table
from dartcli.signals._detector import rate_entities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS: Final = 10
"""Equal bins of the reliability diagram."""
DETECTOR: Final = "detector"
ORACLE: Final = "oracle"
"""The false-positive rates of user and item among all other labels: a bound for such rates."""


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return how well each signal and the detector rank training positives without granted label.

    Raises
    ------
    RunError
        If no false positive is known, or a run cannot be scored.
    """
    numbers: list[dict[str, Any]] = [
        {**identify(run), "seeds": [_examine_seed(run, seed) for seed in run.seeds]} for run in runs
    ]
    calibrated = [one for one in numbers if all(seed["calibration"] for seed in one["seeds"])]
    return AnalysisResult(
        name="identification",
        title="Signals and the detector",
        sentences=tuple(sentence for one in numbers for sentence in _describe(one)),
        tables=(_tabulate(numbers),),
        figures={
            "precision": _draw_precision(numbers),
            **({"reliability": _draw_reliability(calibrated)} if calibrated else {}),
        },
        numbers={"shares": SHARES.tolist(), "runs": numbers},
    )


def _examine_seed(run: Run, seed: int) -> dict[str, Any]:
    found = identify_run(run, seed)
    rows = found.table.filter(~pl.col(TRUSTED) & pl.col(NOISY).is_not_null())
    noisy = rows[NOISY].to_numpy(writable=True)
    if not noisy.any():
        raise RunError(
            f"{run.name}: the training data ({run.metrics.dataset}) has no known false positive "
            "whose label was not granted, so identification cannot be measured. Analyze a run on "
            "data with ground truth, such as `dart train movielens-100k`."
        )
    columns = {name: name for name in found.signals}
    if found.has_probabilities:
        columns[DETECTOR] = PROBABILITY
    scores = {
        name: rows[key].cast(pl.Float64).to_numpy(writable=True) for name, key in columns.items()
    }
    if (known := found.table.filter(pl.col(NOISY).is_not_null())).height > 1:
        scores[ORACLE] = _score_oracle(known)[~known[TRUSTED].to_numpy()]
    detection = found.detection
    return {
        "seed": seed,
        "trusted": int(found.table[TRUSTED].sum()),
        "positives": len(noisy),
        "false_positive_share": float(noisy.mean()),
        "ranked_by": measure(scores, noisy),
        "calibration": _calibrate(scores[DETECTOR], noisy) if found.has_probabilities else None,
        "detector": detection
        and {
            "log_loss": detection.log_loss,
            "prior_log_loss": detection.prior_log_loss,
            "standard_error": detection.error,
            "auc": detection.auc,
            "auc_standard_error": detection.auc_error,
            "clipped": detection.clipped,
        },
    }


def _score_oracle(known: pl.DataFrame) -> Floats:
    """Return the sum of the logits of the user's and the item's rate among all other labels."""
    rows, false = np.arange(len(known)), known[NOISY].cast(pl.Float64).to_numpy()
    user, item = (known[name].cast(pl.Int64).to_numpy() for name in (USER, ITEM))
    return rate_entities(user, rows, false, rows) + rate_entities(item, rows, false, rows)


def _name(ranked_by: str) -> str:
    return "oracle (all labels)" if ranked_by == ORACLE else ranked_by.replace("_", " ")


def _calibrate(probability: Floats, noisy: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the expected calibration error and the bins of the reliability diagram."""
    place = (probability * BINS).astype(np.int64).clip(max=BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    sums = (np.bincount(place, weights=one, minlength=BINS) for one in (probability, noisy))
    expected, observed = (
        [float(one / count) if count else None for one, count in zip(total, rows, strict=True)]
        for total in sums
    )
    logit = torch.from_numpy(probability).logit()
    return {
        "error": metrics.calibration_error(logit, torch.from_numpy(noisy), BINS),
        "rows": rows.tolist(),
        "expected": expected,
        "observed": observed,
    }


def _rankings(one: dict[str, Any]) -> dict[str, list[Ranked]]:
    """Return what ranks the rows of every seed of a run -> how well, for each seed."""
    seeds = [seed["ranked_by"] for seed in one["seeds"]]
    return {
        name: [seed[name] for seed in seeds]
        for name in seeds[0]
        if all(name in seed for seed in seeds)
    }


def _describe(one: dict[str, Any]) -> list[str]:
    rankings = _rankings(one)
    aucs = {name: auc for name, of in rankings.items() if (auc := mean_auc(of)) is not None}
    start = f"{one['run']}: among training positives whose label was not granted"
    if not aucs:
        return [f"{start}, all are false positives in a seed, so ranking has no AUC."]
    signals = {name: auc for name, auc in aucs.items() if name not in (DETECTOR, ORACLE)}
    best = max(signals, key=lambda name: signals[name])
    if DETECTOR not in aucs:
        reason = (
            "No trusted labels were granted"
            if not any(seed["trusted"] for seed in one["seeds"])
            else "In at least one seed, the trusted labels do not tell false positives from others"
        )
        return [
            f"{start}, the best signal is {best}, with an AUC of {signals[best]:.3f}. {reason}, so "
            "there are no probabilities to examine."
        ]
    top = mean_precision(rankings[DETECTOR], 0.04)
    error = np.mean([seed["calibration"]["error"] for seed in one["seeds"]])
    return [
        f"{start}, {percent(top)} of the 4% that the detector doubts most are false positives "
        f"({percent(mean_share(one['seeds']))} of all). Its AUC is {aucs[DETECTOR]:.3f}, "
        f"{relation(aucs[DETECTOR], signals[best], 3)} that of the best signal, {best} "
        f"({signals[best]:.3f}). The expected calibration error of its probabilities is "
        f"{error:.3f}."
    ]


def _tabulate(numbers: Sequence[dict[str, Any]]) -> Table:
    found = [
        (one["run"], _name(name), seeds)
        for one in numbers
        for name, seeds in _rankings(one).items()
    ]
    return tabulate("Precision at the top of the training positives", found)


def _draw_precision(numbers: Sequence[dict[str, Any]]) -> Figure:
    """Draw a panel per run with precision over the share of the ranking."""
    with new_figure(6.4, 3.8 * len(numbers), rows=len(numbers)) as (figure, axes):
        for panel, one in zip(axes, numbers, strict=True):
            rankings = _rankings(one)
            if oracle := rankings.pop(ORACLE, None):
                curve = np.mean([seed["precision"] for seed in oracle], axis=0)
                draw_baselines(panel, 100 * SHARES, [(_name(ORACLE), curve)])
            for number, (name, seeds) in enumerate(rankings.items()):
                draw_ranked(panel, seeds, number, _name(name))
            panel.axhline(mean_share(one["seeds"]), label="random", **REFERENCE_LINE)
            name_axes(panel, wrap(f"{one['run']}: precision over the ranking", 48))
        draw_legend(figure, axes)
    return figure


def _draw_reliability(numbers: Sequence[dict[str, Any]]) -> Figure:
    with new_figure(4.8, 4.4) as (figure, (panel,)):
        panel.plot([0, 1], [0, 1], label="calibrated", **REFERENCE_LINE)
        for number, one in enumerate(numbers):
            for place, seed in enumerate(one["seeds"]):
                expected, observed = (
                    none_to_nan(seed["calibration"][key]) for key in ("expected", "observed")
                )
                drawn = ~np.isnan(expected)
                label = None if place else one["run"]
                panel.plot(
                    expected[drawn],
                    observed[drawn],
                    color=run_color(number),
                    marker="o",
                    ms=3,
                    lw=1,
                    label=label,
                )
        panel.set(
            title="Reliability of the detector",
            xlabel="mean probability of a bin",
            ylabel="share of false positives",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        draw_legend(figure, [panel])
    return figure


ANALYSIS = Analysis(
    question="How precise are the signals and the detector, and are its probabilities calibrated?",
    examine=examine,
    place=15,
)
