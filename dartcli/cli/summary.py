"""Print what a training reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dartcli.cli import console, tables

if TYPE_CHECKING:
    from dartcli.experiments.run import Run


def print_run(run: Run, *, json: bool, quiet: bool) -> None:
    """Print the metrics of ``run``, and a command that looks further into it; or only its name."""
    if quiet and not json:
        console.print_line(run.name)
        return
    from dartcli.experiments.flagging import examine_flagging

    if json:
        console.document(run.metrics.model_dump(mode="json"))
    else:
        _print_table(run)
        _report_exhausted_epochs(run)
        console.note(f"run folder: {run.folder}")
    flagging = examine_flagging(run)
    _report_flagged(run, flagging.warning)
    console.next_command(_choose_next(run, has_flagged=flagging.has_flagged))


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
    if any(seed.test_auc_labeled is not None for seed in metrics.seeds):
        del columns["test_auc_without_fp"]
        columns = {"test_auc_labeled": "labeled AUC", **columns}
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
    """Suggest more epochs for the seeds whose best epoch is among the last ones."""
    training = run.settings.training
    exhausted = [
        f"seed {seed.seed}: epoch {seed.best_epoch} of {seed.epochs}"
        for seed in run.metrics.seeds
        if seed.stopped == "epochs"
        and seed.epochs - seed.best_epoch < max(1, min(training.patience or 1, seed.epochs // 4))
    ]
    if exhausted:
        console.note(
            f"the best epoch is at or near the end ({'; '.join(exhausted)}), so more epochs may "
            "help. Allow more with `--epochs`."
        )


def _report_flagged(run: Run, warning: str | None) -> None:
    """Print what was flagged in the reported epoch, or warn that nothing was until then."""
    from dartcli.reporting.phrases import name_epochs, percent

    precision, recall = (
        run.metrics.summary[f"identification_{name}"].mean for name in ("precision", "recall")
    )
    if precision is not None and recall is not None:
        epochs = name_epochs(seed.reported_epoch for seed in run.metrics.seeds)
        unknown = any(run.iterations(seed)["unknown_positives"].sum() for seed in run.seeds)
        of_these = " of those with ground truth" if unknown else ""
        console.note(
            f"flagged in the reported {epochs}: {percent(precision)}{of_these} are known false "
            f"positives; {percent(recall)} of the known false positives were flagged"
        )
    if warning is not None:
        console.warning(warning)


def _choose_next(run: Run, *, has_flagged: bool) -> str:
    if any(seed.test_auc_labeled is not None for seed in run.metrics.seeds):
        metrics = run.metrics
        if metrics.strategy == "base":
            return f"dart train {metrics.dataset} --strategy trusted --trusted all"
        return f"dart score {run.name}"
    if all(seed.identification_recall is None for seed in run.metrics.seeds):
        # no false positives are known
        return f"dart eval {run.name} --split valid"
    return f"dart analyze {'precision-recall' if has_flagged else 'memorization'} {run.name}"
