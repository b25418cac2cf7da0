"""The losses of true and false positives on validation, while the model learns (Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from pydantic import Field
from scipy import stats

from dartcli import metrics
from dartcli.data.columns import LABEL, NOISY
from dartcli.errors import RunError
from dartcli.experiments.run import Run
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import FALSE_POSITIVE, TRUE_POSITIVE, Floats, new_figure
from dartcli.reporting.table import Table
from dartcli.settings import Options

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 60


class Chosen(Options):
    """Which moment is looked at."""

    iteration: int | None = Field(None, ge=1)
    """Iteration of a snapshot; none = the last one that was kept, else the reported weights."""


def examine(runs: Sequence[Run], chosen: Chosen) -> AnalysisResult:
    """Return both distributions, Welch's test, Cohen's d, and the loss as a detector."""
    found = {run.name: _of_run(run, chosen.iteration) for run in runs}
    numbers = [_numbers(run, *found[run.name]) for run in runs]
    with new_figure(3.6 * len(runs) + 1.0, 3.2, columns=len(runs)) as (drawing, axes):
        for panel, run, one in zip(axes, runs, numbers, strict=True):
            _draw(panel, run, one)
    return AnalysisResult(
        name="loss-distribution",
        title="Losses of true and false positives on validation",
        sentences=tuple(_sentence(one) for one in numbers),
        tables=(_table(numbers),),
        numbers={"runs": numbers},
        figures={"loss-distribution": drawing},
    )


def _of_run(run: Run, iteration: int | None) -> tuple[int | None, dict[int, tuple[Floats, Floats]]]:
    """Return the iteration and, for each seed, the losses of true and of false positives."""
    kept = set.intersection(*(set(run.snapshots(seed)) for seed in run.seeds))
    moment = iteration if iteration is not None else max(kept, default=None)
    losses = {}
    for seed in run.seeds:
        if moment is None:
            table = run.scores(seed).filter(pl.col("split") == "valid")
        else:
            table = run.snapshot(seed, moment)
        positive = table.filter((pl.col(LABEL) > 0) & pl.col(NOISY).is_not_null())
        # the loss of a positive: -log(sigmoid(logit))
        loss = np.logaddexp(0.0, -positive["logit"].cast(pl.Float64).to_numpy())
        noisy = positive[NOISY].to_numpy()
        losses[seed] = (loss[~noisy], loss[noisy])
        if min(map(len, losses[seed])) < 2:
            raise RunError(
                f"the validation split of {run.name} (seed {seed}) has "
                f"{len(losses[seed][0])} positives known to be true and {len(losses[seed][1])} "
                "known to be false; two of each are needed: train on data with explicit feedback."
            )
    return moment, losses


def _numbers(
    run: Run, moment: int | None, losses: dict[int, tuple[Floats, Floats]]
) -> dict[str, Any]:
    pooled = [np.concatenate(parts) for parts in zip(*losses.values(), strict=True)]
    top = float(np.quantile(np.concatenate(pooled), 0.995))
    edges = np.linspace(0.0, max(top, 1e-6), BINS + 1)
    density = {
        kind: (np.histogram(np.minimum(values, edges[-1]), edges)[0] / len(values)).tolist()
        for kind, values in zip(("true_positive", "false_positive"), pooled, strict=True)
    }
    seeds = [{"seed": seed, **_tested(*parts)} for seed, parts in losses.items()]
    return {
        "run": run.name,
        "strategy": run.metrics.strategy,
        "model": run.metrics.model,
        "dataset": run.metrics.dataset,
        "iteration": moment,
        "seeds": seeds,
        "mean_over_seeds": {
            key: float(np.mean([seed[key] for seed in seeds])) for key in seeds[0] if key != "seed"
        },
        "pooled": {"bin_edges": edges.tolist(), "share_per_bin": density},
    }


def _tested(true: Floats, false: Floats) -> dict[str, float]:
    welch = stats.ttest_ind(false, true, equal_var=False)
    freedom = len(true) + len(false) - 2
    spread = ((len(true) - 1) * true.var(ddof=1) + (len(false) - 1) * false.var(ddof=1)) / freedom
    label = torch.cat([torch.zeros(len(true)), torch.ones(len(false))])
    return {
        "true_positives": len(true),
        "false_positives": len(false),
        "mean_loss_true_positive": float(true.mean()),
        "mean_loss_false_positive": float(false.mean()),
        "welch_t": float(welch.statistic),
        "welch_p": float(welch.pvalue),
        "cohens_d": float((false.mean() - true.mean()) / np.sqrt(spread)) if spread > 0 else 0.0,
        "auc_of_loss": metrics.auc(torch.from_numpy(np.concatenate([true, false])), label),
    }


def _moment(numbers: dict[str, Any]) -> str:
    if numbers["iteration"] is None:
        return "with the reported weights (no snapshot was kept: dart train --snapshot 2000)"
    return f"after {numbers['iteration']:,} iterations"


def _sentence(numbers: dict[str, Any]) -> str:
    mean = numbers["mean_over_seeds"]
    higher = sum(
        seed["mean_loss_false_positive"] > seed["mean_loss_true_positive"]
        for seed in numbers["seeds"]
    )
    worst = max(seed["welch_p"] for seed in numbers["seeds"])
    return (
        f"{numbers['run']}, {_moment(numbers)}: the mean loss of false positives on validation is "
        f"{mean['mean_loss_false_positive']:.3f}, that of true positives "
        f"{mean['mean_loss_true_positive']:.3f} (higher for {higher} of {len(numbers['seeds'])} "
        f"seeds, Welch p {_p(worst)}, Cohen's d {mean['cohens_d']:.2f}); as a detector the loss "
        f"has an AUC of {mean['auc_of_loss']:.3f}, where .5 is chance."
    )


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"up to {value:.3f}"


def _table(numbers: Sequence[dict[str, Any]]) -> Table:
    return Table(
        title="Loss on validation, seed by seed (d: Cohen's effect size)",
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
                f"{seed['welch_t']:.1f}",
                f"{seed['welch_p']:.1g}",
                f"{seed['cohens_d']:.2f}",
                seed["auc_of_loss"],
            )
            for one in numbers
            for seed in one["seeds"]
        ),
    )  # fmt: skip


def _draw(panel: Axes, run: Run, numbers: dict[str, Any]) -> None:
    edges = np.array(numbers["pooled"]["bin_edges"])
    for kind, label, color in (
        ("true_positive", "true positives", TRUE_POSITIVE),
        ("false_positive", "false positives", FALSE_POSITIVE),
    ):
        share = 100 * np.array(numbers["pooled"]["share_per_bin"][kind])
        mean = numbers["mean_over_seeds"][f"mean_loss_{kind}"]
        panel.stairs(share, edges, color=color, fill=True, alpha=0.25)
        panel.stairs(share, edges, color=color, lw=1.2, label=f"{label}, mean {mean:.3f}")
        panel.axvline(mean, color=color, lw=1.2, ls=(0, (4, 2)))
    moment = numbers["iteration"]
    when = "reported weights" if moment is None else f"iteration {moment:,}"
    panel.set_title(f"{run.name}: {run.metrics.strategy} on {run.metrics.dataset}, {when}")
    panel.set_xlabel("loss (binary cross-entropy, nats; last bin: and above)")
    panel.set_ylabel("share of the kind per bin (%)")
    panel.set_xlim(0, edges[-1])
    panel.set_ylim(bottom=0)
    panel.legend(loc="upper right")


ANALYSIS = Analysis(
    title="Losses of true and false positives on validation (Fig. 3)",
    question="Is the loss of false positives higher, and by how much?",
    examine=examine,
    options=Chosen,
)
