"""How well a score ranks false positives above true ones, at every share of the ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import torch

from dartcli import metrics
from dartcli.data.columns import LABEL, NOISY
from dartcli.experiments.run import Run
from dartcli.reporting.figures import BASELINE_STYLES, RUN_COLORS, Floats
from dartcli.reporting.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARES: Final = np.arange(1, 201) / 200
"""Shares of the ranking at which precision is told: half a percent to all."""
SCORES: Final = {
    "loss": "loss",
    "rarest_items": "rarest items",
    "rarest_items_active_users": "rare and active",
}
TABLE_SHARES: Final = (0.01, 0.04, 0.1, 0.25, 0.5)


def ranking(run: Run) -> dict[str, Any] | None:
    """Return precision at every share of the training positives, ranked by the reported weights.

    Beside the loss: item rarity, and rarity with user activity (log item count minus log user
    count, ascending), neither of which needs a model. Ties share their hits evenly. None for a run
    of an older version, which kept no scores.
    """
    if run.metrics.format < 2:
        return None
    seeds = []
    for seed in run.seeds:
        table = run.scores(seed).filter(
            (pl.col("split") == "train") & (pl.col(LABEL) > 0) & pl.col(NOISY).is_not_null()
        )
        noisy = table[NOISY].to_numpy(writable=True)
        items, users = (
            table[name].cast(pl.Float64).to_numpy(writable=True)
            for name in ("item_positives", "user_positives")
        )
        scores = {
            "loss": -table["logit"].cast(pl.Float64).to_numpy(writable=True),
            "rarest_items": -items,
            "rarest_items_active_users": np.log(users) - np.log(items),
        }
        seeds.append(
            {
                "seed": seed,
                "positives": len(noisy),
                "false_positive_share": float(noisy.mean()),
                "detectors": {
                    name: {
                        "auc": metrics.auc(torch.from_numpy(score), torch.from_numpy(noisy)),
                        "precision": _precision(score, noisy).tolist(),
                    }
                    for name, score in scores.items()
                },
            }
        )
    return {"shares": SHARES.tolist(), "seeds": seeds}


def _precision(score: Floats, noisy: np.ndarray[Any, Any]) -> Floats:
    """Return the precision of the highest ``score`` at every share; ties count their mean."""
    order = np.argsort(-score, kind="stable")
    hits = np.concatenate([[0.0], np.cumsum(noisy[order])])
    ranked = score[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1
    places = np.concatenate([[0], ends])
    taken = SHARES * len(score)
    return np.asarray(np.interp(taken, places, hits[places]) / taken, dtype=np.float64)


def _mean(found: dict[str, Any], name: str) -> Floats:
    curves = [seed["detectors"][name]["precision"] for seed in found["seeds"]]
    return np.asarray(np.mean(curves, axis=0), dtype=np.float64)


def sentence(name: str, found: dict[str, Any]) -> str:
    """Return what the ranking says of the run ``name``."""
    auc = {
        key: float(np.mean([seed["detectors"][key]["auc"] for seed in found["seeds"]]))
        for key in SCORES
    }
    share = float(np.mean([seed["false_positive_share"] for seed in found["seeds"]]))
    at = int(np.flatnonzero(np.isclose(SHARES, 0.04))[0])
    precision = _mean(found, "loss")[at]
    relation = "better" if auc["loss"] > auc["rarest_items"] else "no better"
    return (
        f"{name}: of the 4 % of training positives with the highest loss in the end "
        f"{precision:.1%} are false ({share:.1%} of all are); as a detector the loss has an AUC of "
        f"{auc['loss']:.3f}, {relation} than rarity of the item alone ({auc['rarest_items']:.3f})."
    )


def table(found: dict[str, dict[str, Any]]) -> Table:
    """Return precision at some shares, a row for each run and score."""
    places = [int(np.flatnonzero(np.isclose(SHARES, share))[0]) for share in TABLE_SHARES]
    rows: list[tuple[Cell, ...]] = []
    for number, (name, one) in enumerate(found.items()):
        # the baselines need no model: once is enough
        for key, label in SCORES.items() if number == 0 else [("loss", SCORES["loss"])]:
            auc = float(np.mean([seed["detectors"][key]["auc"] for seed in one["seeds"]]))
            curve = _mean(one, key)
            rows.append((name, label, auc, *(float(curve[place]) for place in places)))
    return Table(
        title="Precision at the top of the ranking of the training positives",
        columns=("run", "ranked by", "AUC", *(f"top {share:.0%}" for share in TABLE_SHARES)),
        rows=tuple(rows),
    )


def draw(panel: Axes, found: dict[str, dict[str, Any]]) -> None:
    """Draw precision over the share of the ranking: a curve a run, and the baselines."""
    for number, (name, one) in enumerate(found.items()):
        color = RUN_COLORS[number % len(RUN_COLORS)]
        if len(one["seeds"]) > 1:
            for seed in one["seeds"]:
                panel.plot(
                    100 * SHARES, seed["detectors"]["loss"]["precision"], color=color, lw=0.5,
                    alpha=0.35,
                )  # fmt: skip
        panel.plot(100 * SHARES, _mean(one, "loss"), color=color, label=f"{name}: highest loss")
    first = next(iter(found.values()))
    share = float(np.mean([seed["false_positive_share"] for seed in first["seeds"]]))
    panel.axhline(share, color="#444444", lw=1.1, ls=BASELINE_STYLES[0], label="random")
    for style, key in zip(BASELINE_STYLES[1:], list(SCORES)[1:], strict=True):
        panel.plot(
            100 * SHARES, _mean(first, key), color="#444444", lw=1.1, ls=style, label=SCORES[key]
        )
    panel.set_title("Precision over the final ranking")
    panel.set_xlabel("share of the training positives taken (%)")
    panel.set_ylabel("precision")
    panel.set_ylim(0, 1)
    panel.margins(x=0.01)
    panel.legend(loc="best")
