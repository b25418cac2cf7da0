"""Training loss of true positives, false positives, and sampled negatives over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dartcli.analyses._records import epoch_length, identify, require_false_positives
from dartcli.experiments.run import Run
from dartcli.reporting.analysis import Analysis, AnalysisResult, nan_to_none
from dartcli.reporting.figures import (
    FALSE_POSITIVE,
    NEGATIVE,
    TRUE_POSITIVE,
    Floats,
    draw_legend,
    new_panels,
    pool_windows,
    share_limits,
    smooth,
    thin,
    window_ends,
    wrap,
)
from dartcli.reporting.phrases import label_run
from dartcli.reporting.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = {
    "false_positive": ("false positives", FALSE_POSITIVE),
    "true_positive": ("true positives", TRUE_POSITIVE),
    "negative": ("sampled negatives", NEGATIVE),
}
Means = dict[str, dict[str, float | None]]
"""``first_epoch`` or ``last_epoch`` -> kind of row -> mean loss."""


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return the mean loss of each kind of row per iteration, one panel per run."""
    for run in runs:
        require_false_positives(run)
    losses = {run.name: {seed: _losses(run.iterations(seed)) for seed in run.seeds} for run in runs}
    means = {name: _means(seeds) for name, seeds in losses.items()}
    with new_panels(len(runs)) as (figure, axes):
        for panel, run in zip(axes, runs, strict=True):
            _draw(panel, run, losses[run.name])
        share_limits(axes)
        for panel in axes:
            panel.set_ylim(bottom=0)
        draw_legend(figure, axes)
    return AnalysisResult(
        name="memorization",
        title="Memorization of true and false positives",
        sentences=tuple(_sentence(name, one) for name, one in means.items()),
        tables=(_table(means),),
        figures={"memorization": figure},
        numbers={"runs": [_numbers(run, losses[run.name], means[run.name]) for run in runs]},
    )


def _losses(iterations: pl.DataFrame) -> dict[str, Any]:
    losses: dict[str, Any] = {
        kind: iterations[f"loss_{kind}"].fill_null(float("nan")).to_numpy() for kind in KINDS
    }
    return losses | {name: iterations[name].to_numpy() for name in ("epoch", "iteration")}


def _means(seeds: dict[int, dict[str, Any]]) -> Means:
    """Return the mean loss of each kind in the first and the last epoch, over all seeds."""

    def mean(kind: str, *, last: bool) -> float | None:
        parts = [
            losses[kind][losses["epoch"] == (losses["epoch"].max() if last else 1)]
            for losses in seeds.values()
        ]
        joined = np.concatenate(parts)
        return None if np.isnan(joined).all() else float(np.nanmean(joined))

    return {
        "first_epoch": {kind: mean(kind, last=False) for kind in KINDS},
        "last_epoch": {kind: mean(kind, last=True) for kind in KINDS},
    }


def _numbers(run: Run, seeds: dict[int, dict[str, Any]], means: Means) -> dict[str, Any]:
    return {
        **identify(run),
        **means,
        "seeds": [
            {
                "seed": seed,
                "iteration": losses["iteration"][window_ends(len(losses["iteration"]))].tolist(),
                **{f"loss_{kind}": nan_to_none(_pool(losses[kind])) for kind in KINDS},
            }
            for seed, losses in seeds.items()
        ],
    }


def _pool(values: Floats) -> Floats:
    """Return the mean of each window; NaN if it has no such row."""
    with np.errstate(invalid="ignore"):
        return pool_windows(values) / pool_windows((~np.isnan(values)).astype(np.float64))


def _sentence(name: str, means: Means) -> str:
    true, false = (means["last_epoch"][kind] for kind in ("true_positive", "false_positive"))
    if true is None or false is None:
        missing = "true" if true is None else "false"
        return f"{name}: no positive of the last epoch is known to be {missing}."
    return (
        f"{name}: in the last epoch, the mean training loss is {false:.3f} for false positives and "
        f"{true:.3f} for true positives (ratio {false / true:.2f})."
    )


def _table(means: dict[str, Means]) -> Table:
    return Table(
        title="Mean training loss over all seeds",
        columns=("run", "epoch", *(label for label, _ in KINDS.values())),
        rows=tuple(
            (name, when.removesuffix("_epoch"), *(one[when][kind] for kind in KINDS))
            for name, one in means.items()
            for when in ("first_epoch", "last_epoch")
        ),
    )


def _draw(panel: Axes, run: Run, seeds: dict[int, dict[str, Any]]) -> None:
    length = min(len(losses["iteration"]) for losses in seeds.values())
    first = next(iter(seeds.values()))
    iteration = first["iteration"][:length]
    window = epoch_length(first["epoch"])
    for kind, (label, color) in KINDS.items():
        curves = np.stack([losses[kind][:length] for losses in seeds.values()])
        if len(seeds) > 1:
            low, high = (
                smooth(bound, np.ones(length), window)
                for bound in (curves.min(axis=0), curves.max(axis=0))
            )
            place, low, high = thin(iteration, low, high)
            panel.fill_between(place, low, high, color=color, alpha=0.18, lw=0)
        mean = smooth(curves.mean(axis=0), np.ones(length), window)
        panel.plot(*thin(iteration, mean), color=color, label=label)
    panel.set(
        title=wrap(f"{label_run(run.name, run.metrics.strategy)} on {run.metrics.dataset}", 40),
        xlabel="iteration",
        ylabel="mean loss (binary cross-entropy, nats)",
    )
    panel.margins(x=0.01)


ANALYSIS = Analysis(
    question="How do the losses of true and false positives develop during training?",
    examine=examine,
    place=60,
    thesis_figure="Fig. 2",
)
