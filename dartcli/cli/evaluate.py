"""``dart eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from dartcli.cli import completion, console, options, progress, tables


def evaluate(
    names: options.Runs = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT",
            help="Split to use: train, valid, or test.",
            autocompletion=completion.complete_choice("train", "valid", "test"),
        ),
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
    quiet: options.Quiet = False,
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
    from dartcli.experiments.run_index import find_run, last_run

    chosen = names or [last_run().name]
    for name in chosen:
        find_run(name)
    with progress.loading_torch():
        import torch  # noqa: F401
    documents = [evaluate_run(name, split, device=device, top_k=top_k) for name in chosen]
    if json:
        console.document(documents[0] if len(documents) == 1 else documents)
        return
    if quiet:
        console.print_names(found["run"] for found in documents)
        return
    lists = [] if top_k is None else [f"recall_at_{top_k}", f"ndcg_at_{top_k}"]
    heads = ["AUC", "without FP", "log loss"] + [f"Recall@{top_k}", f"NDCG@{top_k}"] * bool(lists)
    keys = [f"{split}_{one}" for one in ("auc", "auc_without_fp", "log_loss", *lists)]
    for found in documents:
        rows = [(str(seed["seed"]), *(seed[key] for key in keys)) for seed in found["seeds"]]
        if len(rows) > 1:
            rows += [_summarize(statistic, found, keys) for statistic in ("mean", "std")]
        tables.table(
            f"{found['run']}: {found['strategy']}, {found['model']} on {found['dataset']}, "
            f"protocol {found['protocol']}, {split} split",
            ["seed", *heads],
            rows,
            sections=[len(found["seeds"])],
        )
        if lists:
            rows = [
                (name, *_summarize("mean", one, keys[3:])[1:])
                for name, one in found["baselines"].items()
            ]
            title = f"Other recommenders on {found['dataset']}, {split} split: means"
            tables.table(title, ["recommender", *heads[3:]], rows)


def _summarize(statistic: str, found: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    return (statistic, *(found["summary"][key][statistic] for key in keys))
