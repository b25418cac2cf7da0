"""Precision of each signal and of the detector, and the calibration of its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import torch

from dartcli import metrics
from dartcli.analyses._ranking import HEADS, SHARES, Measured, measure_score
from dartcli.analyses._records import identify
from dartcli.data.columns import NOISY
from dartcli.errors import RunError
from dartcli.experiments.identification import PROBABILITY, TRUSTED, identify_run
from dartcli.experiments.run import Run
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import (
    REFERENCE_LINE,
    Floats,
    draw_legend,
    draw_run,
    new_figure,
    none_to_nan,
    run_color,
    wrap,
)
from dartcli.reporting.phrases import percent, relation
from dartcli.reporting.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS: Final = 10
"""Equal bins of the reliability diagram."""
DETECTOR: Final = "detector"


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
    scores = {name: rows[key].cast(pl.Float64).to_numpy() for name, key in columns.items()}
    detection = found.detection
    return {
        "seed": seed,
        "trusted": int(found.table[TRUSTED].sum()),
        "positives": len(noisy),
        "false_positive_share": float(noisy.mean()),
        "ranked_by": {name: measure_score(score, noisy) for name, score in scores.items()},
        "calibration": _calibrate(scores[DETECTOR], noisy) if found.has_probabilities else None,
        "detector": detection
        and {
            "log_loss": detection.log_loss,
            "prior_log_loss": detection.prior_log_loss,
            "standard_error": detection.error,
            "clipped": detection.clipped,
        },
    }


def _calibrate(probability: Floats, noisy: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the expected calibration error and the bins of the reliability diagram."""
    place = (probability * BINS).astype(np.int64).clip(max=BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    sums = (np.bincount(place, weights=one, minlength=BINS) for one in (probability, noisy))
    expected, observed = (
        [float(one / count) if count else None for one, count in zip(total, rows, strict=True)]
        for total in sums
    )
    logit = torch.from_numpy(probability.copy()).logit()
    return {
        "error": metrics.calibration_error(logit, torch.from_numpy(noisy), BINS),
        "rows": rows.tolist(),
        "expected": expected,
        "observed": observed,
    }


def _names(one: dict[str, Any]) -> list[str]:
    """Return what ranks the rows of every seed of a run."""
    return [
        n for n in one["seeds"][0]["ranked_by"] if all(n in s["ranked_by"] for s in one["seeds"])
    ]


def _of(one: dict[str, Any], name: str) -> Measured:
    return Measured([seed["ranked_by"][name] for seed in one["seeds"]])


def _describe(one: dict[str, Any]) -> list[str]:
    aucs = {name: auc for name in _names(one) if (auc := _of(one, name).mean_auc) is not None}
    start = f"{one['run']}: among training positives whose label was not granted"
    if not aucs:
        return [f"{start}, all are false positives in a seed, so ranking has no AUC."]
    signals = {name: auc for name, auc in aucs.items() if name != DETECTOR}
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
    top = _of(one, DETECTOR).precision_at(0.04)
    share = np.mean([seed["false_positive_share"] for seed in one["seeds"]])
    error = np.mean([seed["calibration"]["error"] for seed in one["seeds"]])
    return [
        f"{start}, {percent(top)} of the 4% that the detector doubts most are false "
        f"positives ({percent(float(share))} of all). Its AUC is {aucs[DETECTOR]:.3f}, "
        f"{relation(aucs[DETECTOR], signals[best], 3)} that of the best signal, {best} "
        f"({signals[best]:.3f}). The expected calibration error of its probabilities is "
        f"{error:.3f}."
    ]


def _tabulate(numbers: Sequence[dict[str, Any]]) -> Table:
    return Table(
        title="Precision at the top of the training positives, mean over seeds",
        columns=HEADS,
        rows=tuple(
            (one["run"], name.replace("_", " "), *_of(one, name).cells())
            for one in numbers
            for name in _names(one)
        ),
    )


def _draw_precision(numbers: Sequence[dict[str, Any]]) -> Figure:
    """Draw a panel per run with precision over the share of the ranking."""
    with new_figure(6.4, 3.8 * len(numbers), rows=len(numbers)) as (figure, axes):
        for panel, one in zip(axes, numbers, strict=True):
            for number, name in enumerate(_names(one)):
                found, label = _of(one, name), name.replace("_", " ")
                draw_run(
                    panel, 100 * SHARES, found.curves, found.mean_curve, run_color(number), label
                )
            share = np.mean([seed["false_positive_share"] for seed in one["seeds"]])
            panel.axhline(float(share), label="random", **REFERENCE_LINE)
            panel.set(
                title=wrap(f"{one['run']}: precision over the ranking", 48),
                xlabel="share of the training positives (%)",
                ylabel="precision",
                ylim=(0, 1),
            )
            panel.margins(x=0.01)
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
