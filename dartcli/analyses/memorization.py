"""How true positives, false positives and sampled negatives are memorized (Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dartcli.experiments.run import Run
from dartcli.reporting import analysis, figures
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import FALSE_POSITIVE, NEGATIVE, TRUE_POSITIVE, new_figure
from dartcli.reporting.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = {
    "false_positive": ("false positives", FALSE_POSITIVE),
    "true_positive": ("true positives", TRUE_POSITIVE),
    "negative": ("sampled negatives", NEGATIVE),
}


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return the mean loss of each kind of row per iteration, one panel a run."""
    for run in runs:
        analysis.needs_known_false_positives(run)
    found = {run.name: {seed: _of_seed(run.iterations(seed)) for seed in run.seeds} for run in runs}
    summaries = {name: _summary(seeds) for name, seeds in found.items()}
    with new_figure(3.6 * max(len(runs), 1) + 1.2, 3.2, columns=len(runs)) as (drawing, axes):
        for panel, run in zip(axes, runs, strict=True):
            _draw(panel, run, found[run.name])
        top = max(panel.get_ylim()[1] for panel in axes)
        for panel in axes:
            panel.set_ylim(0, top)
    return AnalysisResult(
        name="memorization",
        title="Memorization of true and false positives",
        sentences=tuple(_sentence(name, summary) for name, summary in summaries.items()),
        tables=(_table(summaries),),
        figures={"memorization": drawing},
        numbers={
            "runs": [
                {
                    "run": run.name,
                    "strategy": run.metrics.strategy,
                    "dataset": run.metrics.dataset,
                    **summaries[run.name],
                    "seeds": [
                        {
                            "seed": seed,
                            "iteration": [int(number) for number in values["iteration"]],
                            **{
                                f"loss_{kind}": analysis.json_floats(values[kind]) for kind in KINDS
                            },
                        }
                        for seed, values in found[run.name].items()
                    ],
                }
                for run in runs
            ]
        },
    )


def _of_seed(table: pl.DataFrame) -> dict[str, Any]:
    values: dict[str, Any] = {
        kind: table[f"loss_{kind}"].fill_null(float("nan")).to_numpy() for kind in KINDS
    }
    return values | {name: table[name].to_numpy() for name in ("epoch", "iteration")}


def _summary(seeds: dict[int, dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return each kind's mean loss in the first and the last epoch, over all seeds."""

    def mean(kind: str, *, last: bool) -> float | None:
        parts = [
            values[kind][values["epoch"] == (values["epoch"].max() if last else 1)]
            for values in seeds.values()
        ]
        joined = np.concatenate(parts)
        return None if np.isnan(joined).all() else float(np.nanmean(joined))

    return {
        "first_epoch": {kind: mean(kind, last=False) for kind in KINDS},
        "last_epoch": {kind: mean(kind, last=True) for kind in KINDS},
    }


def _sentence(name: str, summary: dict[str, dict[str, float | None]]) -> str:
    true, false = (summary["last_epoch"][kind] for kind in ("true_positive", "false_positive"))
    if true is None or false is None:
        return f"{name}: the last epoch has no true or no false positives."
    relation = "harder" if false > true else "no harder"
    return (
        f"{name}: in the last epoch false positives had a mean loss of {false:.3f}, true positives "
        f"of {true:.3f}: they are {relation} to memorize (ratio {false / true:.2f})."
    )


def _table(summaries: dict[str, dict[str, dict[str, float | None]]]) -> Table:
    return Table(
        title="Mean loss, all seeds together",
        columns=("run", "epoch", *(label for label, _ in KINDS.values())),
        rows=tuple(
            (name, when.removesuffix("_epoch"), *(summary[when][kind] for kind in KINDS))
            for name, summary in summaries.items()
            for when in ("first_epoch", "last_epoch")
        ),
    )


def _draw(panel: Axes, run: Run, seeds: dict[int, dict[str, Any]]) -> None:
    length = min(len(values["iteration"]) for values in seeds.values())
    first = next(iter(seeds.values()))
    iteration = first["iteration"][:length]
    window = int(np.bincount(first["epoch"]).max())
    for kind, (label, color) in KINDS.items():
        every = np.stack([values[kind][:length] for values in seeds.values()])
        mean = every.mean(axis=0)
        panel.fill_between(
            iteration, every.min(axis=0), every.max(axis=0), color=color, alpha=0.18, lw=0
        )
        if len(seeds) == 1:
            panel.plot(iteration, mean, color=color, lw=0.4, alpha=0.3)
        panel.plot(
            iteration, figures.smooth(mean, np.ones(length), window), color=color, label=label
        )
    panel.set_title(f"{run.name}: {run.metrics.strategy} on {run.metrics.dataset}")
    panel.set_xlabel("iteration")
    panel.set_ylabel("mean loss (binary cross-entropy, nats)")
    panel.margins(x=0.01)
    panel.legend(loc="best")


ANALYSIS = Analysis(
    title="Memorization of true and false positives (Fig. 2)",
    question="How does the loss of true and false positives develop while the model learns?",
    examine=examine,
)
