"""Precision at the top of the training positives ranked by final loss, against baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from dartcli.reporting.table import Table
from dartcli.training.results import compute_spread, finite_or_none

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARES: Final = np.arange(1, 201) / 200
"""Shares of the ranking at which precision is computed: 0.5% to 100%."""
SCORES: Final = {
    "loss": "loss",
    "rarest_items": "rarest items",
    "rarest_items_active_users": "rare and active",
}
TABLE_SHARES: Final = (0.01, 0.04, 0.1, 0.25, 0.5)

Ranked = dict[str, Any]
"""How one score ranks the training positives of one seed, as :func:`measure` returns it."""


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
        "detectors": measure(scores, noisy),
    }


def measure(scores: Mapping[str, Floats], noisy: np.ndarray[Any, Any]) -> dict[str, Ranked]:
    """Return, for each score, its AUC for false positives and its precision at every share.

    The AUC is None if all or none are false positives. Tied rows count their mean precision.
    """
    label = torch.from_numpy(noisy)
    return {
        name: {
            "auc": finite_or_none(metrics.auc(torch.from_numpy(score), label)),
            "precision": metrics.precision_at(torch.from_numpy(score), label, SHARES.tolist()),
        }
        for name, score in scores.items()
    }


def mean_auc(found: Sequence[Ranked]) -> float | None:
    """Return the mean AUC over seeds; None if one has only one class."""
    return compute_spread([seed["auc"] for seed in found]).mean


def mean_precision(found: Sequence[Ranked], share: float) -> float:
    """Return the mean over seeds of the precision at one of ``SHARES``."""
    return float(_mean_curve(found)[round(share * len(SHARES)) - 1])


def mean_share(seeds: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean over seeds of the share of false positives."""
    return float(np.mean([seed["false_positive_share"] for seed in seeds]))


def tabulate(title: str, found: Sequence[tuple[str, str, Sequence[Ranked]]]) -> Table:
    """Return precision at some shares, one row per run, score, and what was measured."""
    return Table(
        title=f"{title}, mean over seeds",
        columns=("run", "ranked by", "AUC", *(f"top {share:.0%}" for share in TABLE_SHARES)),
        rows=tuple(
            (run, score, mean_auc(seeds), *(mean_precision(seeds, s) for s in TABLE_SHARES))
            for run, score, seeds in found
        ),
    )


def draw_ranked(panel: Axes, found: Sequence[Ranked], number: int, label: str) -> None:
    """Draw precision over the share of the ranking in the color of position ``number``."""
    curves = [np.array(seed["precision"]) for seed in found]
    draw_run(panel, 100 * SHARES, curves, _mean_curve(found), run_color(number), label)


def name_axes(panel: Axes, title: str) -> None:
    """Write what a panel of precision over the ranking shows."""
    panel.set(
        title=title,
        xlabel="share of the training positives (%)",
        ylabel="precision",
        ylim=(0, 1),
    )
    panel.margins(x=0.01)


def _mean_curve(found: Sequence[Ranked]) -> Floats:
    return np.asarray(np.mean([seed["precision"] for seed in found], axis=0), dtype=np.float64)


def _pick(ranking: dict[str, Any], score: str) -> list[Ranked]:
    return [seed["detectors"][score] for seed in ranking["seeds"]]


def sentence(name: str, ranking: dict[str, Any]) -> str:
    """Return how well the loss ranks the false positives of the run ``name``."""
    by_loss = _pick(ranking, "loss")
    loss, rarity = mean_auc(by_loss), mean_auc(_pick(ranking, "rarest_items"))
    start = f"{name}: among training positives with ground truth"
    if loss is None or rarity is None:
        return f"{start} of a seed, all or none are false positives, so ranking has no AUC."
    return (
        f"{start}, {percent(mean_precision(by_loss, 0.04))} of the 4% with the highest final loss "
        f"are false positives ({percent(mean_share(ranking['seeds']))} of all). Ranking by loss "
        f"has an AUC of {loss:.3f}, {relation(loss, rarity, 3)} ranking by item rarity "
        f"({rarity:.3f})."
    )


def table(rankings: dict[str, dict[str, Any]]) -> Table:
    """Return precision at some shares, one row per run and score."""
    found = [
        (name, SCORES[key], _pick(ranking, key))
        for number, (name, ranking) in enumerate(rankings.items())
        # the baselines depend on the data only, so one run is enough
        for key in (SCORES if number == 0 else ["loss"])
    ]
    return tabulate("Precision at the top of the ranked training positives", found)


def draw(rankings: dict[str, dict[str, Any]]) -> Figure:
    """Draw precision over the share of the ranking: one curve per run, and the baselines."""
    with new_figure(6.4, 4.0) as (figure, (panel,)):
        for number, (name, ranking) in enumerate(rankings.items()):
            draw_ranked(panel, _pick(ranking, "loss"), number, f"{name}: highest loss")
        name, first = next(iter(rankings.items()))
        prefix = f"{name}: " if len(rankings) > 1 else ""
        random = np.full(len(SHARES), mean_share(first["seeds"]))
        curves = [(SCORES[key], _mean_curve(_pick(first, key))) for key in list(SCORES)[1:]]
        baselines = [("random", random), *curves]
        draw_baselines(panel, 100 * SHARES, [(prefix + label, curve) for label, curve in baselines])
        name_axes(panel, "Precision over the final ranking")
        draw_legend(figure, [panel])
    return figure
