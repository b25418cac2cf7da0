"""Precision at the top of the training positives ranked by final loss, against baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import torch

from dartcli import metrics
from dartcli.analyses._records import load_positives
from dartcli.data.columns import NOISY
from dartcli.experiments.run import Run
from dartcli.reporting.figures import (
    Floats,
    draw_baselines,
    draw_legend,
    draw_run,
    new_figure,
    run_color,
)
from dartcli.reporting.phrases import percent, relation
from dartcli.reporting.table import Cell, Table
from dartcli.training.results import finite_or_none

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES: Final = np.arange(1, 201) / 200
"""Shares of the ranking at which precision is computed: 0.5% to 100%."""
SCORES: Final = {
    "loss": "loss",
    "rarest_items": "rarest items",
    "rarest_items_active_users": "rare and active",
}
TABLE_SHARES: Final = (0.01, 0.04, 0.1, 0.25, 0.5)
HEADS: Final = ("run", "ranked by", "AUC", *(f"top {share:.0%}" for share in TABLE_SHARES))
"""Columns of a table of scores."""


def rank(run: Run) -> dict[str, Any]:
    """Return precision at every share of the training positives that have ground truth.

    They are ranked by loss under the reported weights, by item rarity, and by item rarity with
    user activity (log item count minus log user count, ascending); the last two need no model.
    Ties share their false positives evenly.
    """
    # if few interactions have ground truth, a split may have none of them
    seeds = [one for seed in run.seeds if (one := _rank_seed(run, seed)) is not None]
    return {"shares": SHARES.tolist(), "seeds": seeds}


def _rank_seed(run: Run, seed: int) -> dict[str, Any] | None:
    table = load_positives(run, seed, "train").filter(pl.col(NOISY).is_not_null())
    if table.is_empty():
        return None
    noisy = table[NOISY].to_numpy(writable=True)
    logit, items, users = (
        table[name].cast(pl.Float64).to_numpy(writable=True)
        for name in ("logit", "item_positives", "user_positives")
    )
    scores = {
        "loss": -logit,
        "rarest_items": -items,
        "rarest_items_active_users": np.log(users) - np.log(items),
    }
    return {
        "seed": seed,
        "positives": len(noisy),
        "false_positive_share": float(noisy.mean()),
        "detectors": {name: measure_score(score, noisy) for name, score in scores.items()},
    }


def measure_score(score: Floats, noisy: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the AUC of a score, and its precision at every share; ties count their mean."""
    scores, labels = torch.tensor(score), torch.tensor(noisy)
    return {
        "auc": finite_or_none(metrics.auc(scores, labels)),
        "precision": metrics.precision_at(scores, labels, SHARES.tolist()),
    }


@dataclass(frozen=True)
class Measured:
    """What :func:`measure_score` returned for one score with each seed."""

    seeds: Sequence[dict[str, Any]]

    @property
    def curves(self) -> list[Floats]:
        """The precision of each seed."""
        return [np.array(seed["precision"]) for seed in self.seeds]

    @property
    def mean_curve(self) -> Floats:
        """The mean precision over the seeds."""
        return np.asarray(np.mean(self.curves, axis=0), dtype=np.float64)

    @property
    def mean_auc(self) -> float | None:
        """The mean AUC over the seeds; None if one has only one class."""
        values = [seed["auc"] for seed in self.seeds]
        return None if None in values else float(np.mean(values))

    def precision_at(self, share: float) -> float:
        """Return the mean precision at a share."""
        return float(self.mean_curve[round(share * len(SHARES)) - 1])

    def cells(self) -> tuple[Cell, ...]:
        """Return the AUC and the precision at some shares, below ``HEADS``."""
        return self.mean_auc, *map(self.precision_at, TABLE_SHARES)


def _of(ranking: dict[str, Any], name: str) -> Measured:
    return Measured([seed["detectors"][name] for seed in ranking["seeds"]])


def _false_positive_share(ranking: dict[str, Any]) -> float:
    return float(np.mean([seed["false_positive_share"] for seed in ranking["seeds"]]))


def sentence(name: str, ranking: dict[str, Any]) -> str:
    """Return how well the loss ranks the false positives of the run ``name``."""
    by_loss, rarity = _of(ranking, "loss"), _of(ranking, "rarest_items").mean_auc
    loss = by_loss.mean_auc
    start = f"{name}: among training positives with ground truth"
    if loss is None or rarity is None:
        return f"{start} of a seed, all or none are false positives, so ranking has no AUC."
    return (
        f"{start}, {percent(by_loss.precision_at(0.04))} of the 4% with the highest final loss "
        f"are false positives ({percent(_false_positive_share(ranking))} of "
        f"all). Ranking by loss has an AUC of {loss:.3f}, {relation(loss, rarity, 3)} ranking by "
        f"item rarity ({rarity:.3f})."
    )


def table(rankings: dict[str, dict[str, Any]]) -> Table:
    """Return precision at some shares, one row per run and score."""
    return Table(
        title="Precision at the top of the ranked training positives, mean over seeds",
        columns=HEADS,
        rows=tuple(
            (name, SCORES[key], *_of(ranking, key).cells())
            for number, (name, ranking) in enumerate(rankings.items())
            # the baselines depend on the data only, so one run is enough
            for key in (SCORES if number == 0 else ["loss"])
        ),
    )


def draw(rankings: dict[str, dict[str, Any]]) -> Figure:
    """Draw precision over the share of the ranking: one curve per run, and the baselines."""
    share = 100 * SHARES
    with new_figure(6.4, 4.0) as (figure, (panel,)):
        for number, (name, ranking) in enumerate(rankings.items()):
            loss, label = _of(ranking, "loss"), f"{name}: highest loss"
            draw_run(panel, share, loss.curves, loss.mean_curve, run_color(number), label)
        name, first = next(iter(rankings.items()))
        prefix = f"{name}: " if len(rankings) > 1 else ""
        random = np.full(len(share), _false_positive_share(first))
        curves = [(SCORES[key], _of(first, key).mean_curve) for key in list(SCORES)[1:]]
        baselines = [("random", random), *curves]
        draw_baselines(panel, share, [(prefix + label, curve) for label, curve in baselines])
        panel.set(
            title="Precision over the final ranking",
            xlabel="share of the training positives (%)",
            ylabel="precision",
            ylim=(0, 1),
        )
        panel.margins(x=0.01)
        draw_legend(figure, [panel])
    return figure
