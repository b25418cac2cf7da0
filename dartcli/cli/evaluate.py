"""``dart eval``."""

from __future__ import annotations

from typing import Annotated

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
    """
    from dartcli.experiments.evaluate import evaluate_run
    from dartcli.experiments.run_index import find_run, last_run

    chosen = names or [last_run().name]
    for name in chosen:
        find_run(name)
    with progress.loading_torch():
        import torch  # noqa: F401
    documents = [evaluate_run(name, split, device=device) for name in chosen]
    if json:
        console.document(documents[0] if len(documents) == 1 else documents)
        return
    if quiet:
        console.print_names(found["run"] for found in documents)
        return
    for found in documents:
        keys = [f"{split}_auc", f"{split}_auc_without_fp", f"{split}_log_loss"]
        rows = [(str(seed["seed"]), *(seed[key] for key in keys)) for seed in found["seeds"]]
        if len(rows) > 1:
            rows += [
                (statistic, *(found["summary"][key][statistic] for key in keys))
                for statistic in ("mean", "std")
            ]
        tables.table(
            f"{found['run']}: {found['strategy']}, {found['model']} on {found['dataset']}, "
            f"protocol {found['protocol']}, {split} split",
            ["seed", "AUC", "without FP", "log loss"],
            rows,
            sections=[len(found["seeds"])],
        )
