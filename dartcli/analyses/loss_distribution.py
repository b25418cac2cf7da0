"""Losses of true and false positives on validation, and how well the loss separates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from pydantic import Field
from scipy import stats

from dartcli import metrics
from dartcli.analyses._records import identify, load_positives, positive_loss
from dartcli.data.columns import LABEL, NOISY
from dartcli.errors import RunError
from dartcli.experiments.run import Run
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import (
    FALSE_POSITIVE,
    REFERENCE_LINE,
    TRUE_POSITIVE,
    Floats,
    draw_legend,
    new_panels,
    share_limits,
    wrap,
)
from dartcli.reporting.phrases import label_run, p_value
from dartcli.reporting.table import Table
from dartcli.settings import Options
from dartcli.training.results import compute_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 60


class LossDistributionOptions(Options):
    """The moment to analyze."""

    iteration: int | None = Field(None, ge=1)
    """Iteration of a snapshot; none = the last snapshot, or the reported weights without one."""


def examine(runs: Sequence[Run], options: LossDistributionOptions) -> AnalysisResult:
    """Return both distributions, Welch's test, Cohen's d, and the AUC of the loss."""
    moments = [_choose_moment(run, options.iteration) for run in runs]
    losses = [
        {seed: _losses(run, seed, moment) for seed in run.seeds}
        for run, moment in zip(runs, moments, strict=True)
    ]
    # the same bins for every run, so that heights can be compared
    top = max(float(np.quantile(np.concatenate(_pool(one)), 0.995)) for one in losses)
    edges = np.linspace(0.0, max(top, 1e-6), BINS + 1)
    numbers = [
        _numbers(run, moment, one, edges)
        for run, moment, one in zip(runs, moments, losses, strict=True)
    ]
    with new_panels(len(runs)) as (figure, axes):
        for panel, one in zip(axes, numbers, strict=True):
            _draw(panel, one)
        share_limits(axes, x=True)
        draw_legend(figure, axes)
    return AnalysisResult(
        name="loss-distribution",
        title="Losses of true and false positives on validation",
        sentences=tuple(_sentence(one) for one in numbers),
        tables=(_table(numbers),),
        numbers={"runs": numbers},
        figures={"loss-distribution": figure},
    )


def _choose_moment(run: Run, iteration: int | None) -> int | None:
    """Return the iteration of the snapshot to read; None for the reported weights."""
    if iteration is not None:
        return iteration
    return max(set.intersection(*(set(run.snapshots(seed)) for seed in run.seeds)), default=None)


def _pool(losses: dict[int, tuple[Floats, Floats]]) -> list[Floats]:
    """Return the losses of true and of false positives of all seeds."""
    return [np.concatenate(parts) for parts in zip(*losses.values(), strict=True)]


def _numbers(
    run: Run, moment: int | None, losses: dict[int, tuple[Floats, Floats]], edges: Floats
) -> dict[str, Any]:
    pooled = _pool(losses)
    shares = {
        kind: (np.histogram(np.minimum(values, edges[-1]), edges)[0] / len(values)).tolist()
        for kind, values in zip(("true_positive", "false_positive"), pooled, strict=True)
    }
    seeds = [{"seed": seed, **_compare(*parts)} for seed, parts in losses.items()]
    return {
        **identify(run),
        "iteration": moment,
        "seeds": seeds,
        "mean_over_seeds": {
            key: compute_spread([seed[key] for seed in seeds]).mean
            for key in seeds[0]
            if key != "seed"
        },
        "pooled": {"bin_edges": edges.tolist(), "share_per_bin": shares},
    }


def _losses(run: Run, seed: int, iteration: int | None) -> tuple[Floats, Floats]:
    """Return the losses of the true and of the false positives of one seed."""
    if iteration is None:
        table = load_positives(run, seed, "valid")
    else:
        table = run.snapshot(seed, iteration).filter(pl.col(LABEL) > 0)
    known = table.filter(pl.col(NOISY).is_not_null())
    loss, noisy = positive_loss(known), known[NOISY].to_numpy()
    true, false = loss[~noisy], loss[noisy]
    if min(len(true), len(false)) < 2:
        raise RunError(
            f"{run.name}, seed {seed}: the validation split has {len(true)} known true positives "
            f"and {len(false)} known false positives, but two of each are needed. Train on data "
            "with ground truth, such as movielens-100k."
        )
    return true, false


def _compare(true: Floats, false: Floats) -> dict[str, float | None]:
    """Return statistics; Welch's test and Cohen's d are None if each kind has equal losses."""
    varies = bool(np.ptp(true) or np.ptp(false))
    welch = stats.ttest_ind(false, true, equal_var=False) if varies else None
    freedom = len(true) + len(false) - 2
    spread = ((len(true) - 1) * true.var(ddof=1) + (len(false) - 1) * false.var(ddof=1)) / freedom
    label = torch.cat([torch.zeros(len(true)), torch.ones(len(false))])
    return {
        "true_positives": len(true),
        "false_positives": len(false),
        "mean_loss_true_positive": float(true.mean()),
        "mean_loss_false_positive": float(false.mean()),
        "welch_t": welch and float(welch.statistic),
        "welch_p": welch and float(welch.pvalue),
        "cohens_d": welch and float((false.mean() - true.mean()) / np.sqrt(spread)),
        "auc_of_loss": metrics.auc(torch.from_numpy(np.concatenate([true, false])), label),
    }


def _sentence(numbers: dict[str, Any]) -> str:
    mean, seeds, iteration = (numbers[key] for key in ("mean_over_seeds", "seeds", "iteration"))
    when = "with the reported weights" if iteration is None else f"after {iteration:,} iterations"
    effect = f", Cohen's d {mean['cohens_d']:.2f}" if mean["cohens_d"] is not None else ""
    if not effect:
        test = "no test, because the losses of each kind are all equal in some seed"
    elif len(seeds) == 1:
        test = p_value(seeds[0]["welch_p"], name="Welch p")
    else:
        higher = sum(
            seed["mean_loss_false_positive"] > seed["mean_loss_true_positive"] for seed in seeds
        )
        largest = p_value(max(seed["welch_p"] for seed in seeds), name="largest Welch p")
        test = f"higher for false positives in {higher} of {len(seeds)} seeds, {largest}"
    return (
        f"{numbers['run']}, {when}: the mean validation loss is "
        f"{mean['mean_loss_false_positive']:.3f} for false positives and "
        f"{mean['mean_loss_true_positive']:.3f} for true positives ({test}{effect}). Ranking by "
        f"loss has an AUC of {mean['auc_of_loss']:.3f} for false positives (0.5 is chance)."
    )


def _table(numbers: Sequence[dict[str, Any]]) -> Table:
    return Table(
        title="Validation loss per seed (d: Cohen's effect size)",
        columns=(
            "run", "seed", "iteration", "mean, true", "mean, false", "Welch t", "p",
            "d", "AUC of loss",
        ),
        rows=tuple(
            (
                one["run"],
                str(seed["seed"]),
                one["iteration"],
                seed["mean_loss_true_positive"],
                seed["mean_loss_false_positive"],
                *(
                    None if seed[key] is None else format(seed[key], digits)
                    for key, digits in (("welch_t", ".1f"), ("welch_p", ".1g"), ("cohens_d", ".2f"))
                ),
                seed["auc_of_loss"],
            )
            for one in numbers
            for seed in one["seeds"]
        ),
    )  # fmt: skip


def _draw(panel: Axes, numbers: dict[str, Any]) -> None:
    edges = np.array(numbers["pooled"]["bin_edges"])
    for kind, label, color in (
        ("true_positive", "true positives", TRUE_POSITIVE),
        ("false_positive", "false positives", FALSE_POSITIVE),
    ):
        share = 100 * np.array(numbers["pooled"]["share_per_bin"][kind])
        mean = numbers["mean_over_seeds"][f"mean_loss_{kind}"]
        panel.stairs(share, edges, color=color, fill=True, alpha=0.25)
        panel.stairs(share, edges, color=color, lw=1.2, label=f"{label} (dashed: mean)")
        panel.axvline(mean, **{**REFERENCE_LINE, "color": color, "lw": 1.2})
    iteration = numbers["iteration"]
    when = "reported weights" if iteration is None else f"iteration {iteration:,}"
    panel.set(
        title=wrap(f"{label_run(numbers['run'], numbers['strategy'])}, {when}", 40),
        xlabel="loss (binary cross-entropy, nats; last bin: all above)",
        ylabel="share of the positives of a kind (%)",
        xlim=(0, edges[-1]),
    )
    panel.set_ylim(bottom=0)


ANALYSIS = Analysis(
    question="Is the loss of false positives higher, and by how much?",
    examine=examine,
    place=40,
    thesis_figure="Fig. 3",
    options=LossDistributionOptions,
)
