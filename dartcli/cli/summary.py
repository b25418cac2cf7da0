"""Print what a training reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dartcli.cli import console, tables

if TYPE_CHECKING:
    from dartcli.experiments.run import Run


def print_run(run: Run, *, json: bool) -> None:
    """Print the metrics of ``run``, and a command that looks further into it."""
    if json:
        console.document(run.metrics.model_dump(mode="json"))
    else:
        _print_table(run)
        _report_exhausted_epochs(run)
        console.note(f"run folder: {run.folder}")
    console.next_command(_choose_next(run))


def _print_table(run: Run) -> None:
    metrics = run.metrics
    columns = {
        "test_auc": "test AUC",
        "test_auc_best_epoch": "at best",
        "test_auc_without_fp": "without FP",
        "test_log_loss": "log loss",
        "valid_auc": "valid AUC",
    }
    if metrics.protocol != "reference":
        # strict reports the best epoch anyway
        del columns["test_auc_best_epoch"]
    rows = [
        (
            str(seed.seed),
            *(getattr(seed, key) for key in columns),
            f"{seed.reported_epoch} of {seed.epochs}",
        )
        for seed in metrics.seeds
    ]
    if len(metrics.seeds) > 1:
        rows += [
            (statistic, *(getattr(metrics.summary[key], statistic) for key in columns), "")
            for statistic in ("mean", "std")
        ]
    tables.table(
        f"{run.name}: {metrics.strategy}, {metrics.model} on {metrics.dataset}, "
        f"protocol {metrics.protocol}",
        ["seed", *columns.values(), "epoch"],
        rows,
        sections=[len(metrics.seeds)],
    )


def _report_exhausted_epochs(run: Run) -> None:
    exhausted = [str(seed.seed) for seed in run.metrics.seeds if seed.stopped == "epochs"]
    if exhausted:
        console.note(
            f"all {run.settings.training.epochs} epochs were used, without early stopping (seed "
            f"{', '.join(exhausted)}). Allow more with `--epochs`."
        )


def _choose_next(run: Run) -> str:
    if run.iterations(run.seeds[0])["false_positives"].sum() == 0:
        return f"dart eval {run.name} --split valid"
    if run.metrics.strategy.startswith("dart"):
        return f"dart analyze precision-recall {run.name}"
    return f"dart analyze memorization {run.name}"
