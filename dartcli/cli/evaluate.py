"""``dart eval``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from dartcli.cli import console, options, tables


def evaluate(
    names: options.Runs = None,
    split: Annotated[
        str, typer.Option(metavar="SPLIT", help="Split to use: train, valid, or test.")
    ] = "test",
    top_k: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Also rank all items for each user: Recall@K and NDCG@K, beside those of "
            "popularity and item-based nearest neighbors.",
        ),
    ] = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Compute the metrics of finished runs on a split.

    AUC and log loss count known false positives as negatives; the column
    "without FP" is the AUC without these rows.

    For example:

      dart eval run_01
      dart eval run_01 run_02 --split valid
      dart eval run_01 --top-k 20
    """
    from dartcli.experiments.evaluate import evaluate_run
    from dartcli.experiments.run_index import last_run

    chosen = names or [last_run().name]
    documents = [evaluate_run(name, split, device=device, top_k=top_k) for name in chosen]
    if json:
        console.document(documents[0] if len(documents) == 1 else documents)
        return
    heads = {"auc": "AUC", "auc_without_fp": "without FP", "log_loss": "log loss"}
    lists = {} if top_k is None else _name_lists(top_k)
    for found in documents:
        about = f"{found['model']} on {found['dataset']}, protocol {found['protocol']}"
        title = f"{found['run']}: {found['strategy']}, {about}, {split} split"
        _print_metrics(title, found, split, heads | lists)
        for name, baseline in found.get("baselines", {}).items():
            _print_metrics(f"{name} on {found['dataset']}, {split} split", baseline, split, lists)


def _name_lists(k: int) -> dict[str, str]:
    return {f"recall_at_{k}": f"Recall@{k}", f"ndcg_at_{k}": f"NDCG@{k}"}


def _print_metrics(
    title: str, found: Mapping[str, Any], split: str, heads: Mapping[str, str]
) -> None:
    keys = [f"{split}_{metric}" for metric in heads]
    rows = [(str(seed["seed"]), *(seed[key] for key in keys)) for seed in found["seeds"]]
    if len(rows) > 1:
        rows += [
            (statistic, *(found["summary"][key][statistic] for key in keys))
            for statistic in ("mean", "std")
        ]
    tables.table(title, ["seed", *heads.values()], rows, sections=[len(found["seeds"])])
