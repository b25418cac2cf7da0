"""``dart train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dartcli.cli import console, options, progress, tables
from dartcli.cli.errors import gently
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.experiments.run import Run

THESIS = "Hyper-parameters of the thesis"
FITTING = "Fitting"
REPEATING = "Repeating"
KEEPING = "Interruptions"


def train(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="Dataset. Default: the one prepared last, else synthetic.",
            show_default=False,
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            "-s",
            help="What is done about false positives: base, clean, "
            "clean-relabel, dart, dart-disc, dart-rel, ... Default: dart.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="fm or deepfm. Default: fm.")
    ] = None,
    protocol: options.Protocol = None,
    r: Annotated[
        float | None,
        typer.Option(
            "--r",
            help="Share of the identified interactions that is relabeled.",
            rich_help_panel=THESIS,
        ),
    ] = None,
    tau_m: Annotated[
        float | None,
        typer.Option(help="Highest handling rate (Eq. 3).", rich_help_panel=THESIS),
    ] = None,
    t_i: Annotated[
        str | None,
        typer.Option(
            help="Iterations, or epochs as 2ep, before anything is flagged.", rich_help_panel=THESIS
        ),
    ] = None,
    t_m: Annotated[
        str | None,
        typer.Option(
            help="Iterations, or epochs as 3ep, until the rate is at its highest.",
            rich_help_panel=THESIS,
        ),
    ] = None,
    basis: Annotated[
        str | None,
        typer.Option(
            help="Rank the positives of a batch, or the whole batch: positives or batch.",
            rich_help_panel=THESIS,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Most epochs. Default: the protocol's.", rich_help_panel=FITTING),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Epochs without a better validation AUC before stopping. Default: the protocol's.",
            rich_help_panel=FITTING,
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows in a mini-batch.", rich_help_panel=FITTING)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Adam's learning rate.", rich_help_panel=FITTING)
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(help="L2 penalty on every parameter.", rich_help_panel=FITTING),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="adam, or sparse-adam, which moves and decays only the rows of tables that a "
            "batch touches: other results. Default: adam.",
            rich_help_panel=FITTING,
        ),
    ] = None,
    compile_: Annotated[
        str | None,
        typer.Option(
            "--compile",
            help="Compile the steps (on a GPU: capture them as a graph): auto, on or off; auto "
            "compiles on a CPU after 20,000 steps. Default: auto.",
            rich_help_panel=FITTING,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="auto, cpu, cuda or cuda:1; auto takes a GPU where there is one. Default: auto.",
            rich_help_panel=FITTING,
        ),
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option(
            "--deterministic/--no-deterministic",
            help="The same bytes whenever it is repeated. Default: on a CPU, not on a GPU.",
            show_default=False,
            rich_help_panel=REPEATING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Seed of training and split. Default: 0.", rich_help_panel=REPEATING
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Several seeds, such as 0-9 or 0,1,5: one training each.",
            rich_help_panel=REPEATING,
        ),
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="One split for all seeds. Default: each seed its own.",
            rich_help_panel=REPEATING,
        ),
    ] = None,
    snapshot: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            metavar="ITERATION",
            help="Keep the scores of validation after this iteration; may be repeated.",
            rich_help_panel=FITTING,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Settings in TOML or JSON; a run's settings.json repeats that run.",
            rich_help_panel=REPEATING,
        ),
    ] = None,
    set_: options.Set = None,
    run_name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the run. Default: run_01, run_02, ...."),
    ] = None,
    checkpoint_every: Annotated[
        str,
        typer.Option(
            help="How often to write down where the training stands: 5ep, 90s, 10m or off.",
            rich_help_panel=KEEPING,
        ),
    ] = "60s",
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on with a run that was interrupted, under its own settings.",
            rich_help_panel=KEEPING,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Train one run, over one seed or several; missing steps run by themselves.

    Examples: dart train --strategy dart --r 0.5 --device cuda;
    dart train movielens-100k --strategy base --seeds 0-9.
    """
    from dartcli import settings
    from dartcli.data import registry
    from dartcli.experiments import configure
    from dartcli.experiments.run import Run
    from dartcli.experiments.run_index import find_folder
    from dartcli.experiments.train import resume_run, train_run

    if seed is not None and seeds is not None:
        raise UsageError("give --seed or --seeds, not both.")
    flags: dict[str, Any] = {
        "dataset": {"name": name},
        "protocol": protocol,
        "model": {"name": model},
        "strategy": {
            "name": strategy,
            "options": {"r": r, "tau_m": tau_m, "t_i": t_i, "t_m": t_m, "basis": basis},
        },
        "training": {
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "optimizer": optimizer,
            "compile": compile_,
            "snapshots": snapshot or None,
        },
        "device": device,
        "deterministic": deterministic,
        "seeds": settings.parse_seeds(seeds) if seeds else None if seed is None else (seed,),
        "split_seed": split_seed,
    }
    if resume is not None:
        given = {**flags, "config": config, "set": set_, "name": run_name}
        if _any(given):
            raise UsageError(
                "--resume goes on with the settings that the run began with; give no others."
            )
        resolved = configure.configure(Run(find_folder(resume)).settings)
    else:
        resolved = configure.resolve(
            {"dataset": {"name": registry.default_dataset()}},
            settings.load_tree(config) if config else {},
            settings.merge(settings.parse_assignments(set_ or []), flags),
        )
    with progress.epoch_bar(
        resolved.settings.training.epochs or 0, len(resolved.settings.seeds)
    ) as bar:
        how: dict[str, Any] = {
            "progress": bar,
            "checkpoint_every": checkpoint_every,
            "stopping": gently,
        }
        if resume is not None:
            run = resume_run(resume, **how)
        else:
            run = train_run(resolved, name=run_name, **how)
    _show(run, json=json)


def _any(flags: object) -> bool:
    """Return whether a flag was given somewhere in a nested mapping."""
    if isinstance(flags, dict):
        return any(map(_any, flags.values()))
    return flags not in (None, [], ())


def _show(run: Run, *, json: bool) -> None:
    if json:
        console.document(run.metrics.model_dump(mode="json"))
    else:
        _table(run)
    console.next_command(_next(run))


def _table(run: Run) -> None:
    metrics = run.metrics
    reference = run.settings.protocol == "reference"
    heads = ["seed", "test AUC", "without FP", "log loss", "valid AUC"]
    keys = ["test_auc", "test_auc_without_fp", "test_log_loss", "valid_auc"]
    if reference:
        heads.insert(2, "at best")
        keys.insert(1, "test_auc_best_epoch")
    rows = [
        (
            str(seed.seed),
            *(getattr(seed, key) for key in keys),
            f"{seed.reported_epoch} of {seed.epochs}",
        )
        for seed in metrics.seeds
    ]
    if len(metrics.seeds) > 1:
        rows.append(("mean", *(metrics.summary[key].mean for key in keys), ""))
        rows.append(("std", *(metrics.summary[key].std for key in keys), ""))
    tables.table(
        f"{run.name}: {metrics.strategy}, {metrics.model} on {metrics.dataset}, "
        f"protocol {metrics.protocol}",
        [*heads, "epoch"],
        rows,
        sections=[len(metrics.seeds)],
    )
    ran_out = [str(seed.seed) for seed in metrics.seeds if seed.stopped == "epochs"]
    if ran_out:
        console.note(
            f"training ended because its {run.settings.training.epochs} epochs ran out "
            f"(seed {', '.join(ran_out)}), not because validation AUC stopped improving; "
            "--epochs allows more."
        )
    console.note(f"run folder: {run.folder}")


def _next(run: Run) -> str:
    if run.iterations(run.seeds[0])["false_positives"].sum() == 0:
        return f"dart eval {run.name} --split valid"
    if run.metrics.strategy.startswith("dart"):
        return f"dart analyze precision-recall {run.name}"
    return f"dart analyze memorization {run.name}"
