"""``dart train``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dartcli import catalog
from dartcli.cli import completion, options, progress
from dartcli.cli.errors import defer_interrupts
from dartcli.cli.resume import follow
from dartcli.cli.resume import resume as resume_command
from dartcli.cli.summary import print_run
from dartcli.errors import UsageError
from dartcli.storage.system import find_rank

if TYPE_CHECKING:
    from dartcli.experiments.run import Run

STRATEGY = "Strategy (defaults are those of dart)"
TRUSTED = "Trusted labels"
TEACHING = "Differential teaching"
TRAINING = "Training"
SEEDS = "Seeds"
REPRODUCIBILITY = "Reproducibility"


def train(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="Dataset to train on; see `dart list datasets`."
            + options.default("the one prepared last, else synthetic"),
            autocompletion=completion.complete_dataset,
        ),
    ] = None,
    strategy: options.Strategy = None,
    model: options.Model = None,
    protocol: options.Protocol = None,
    run_name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="RUN",
            help="Name of the run." + options.default("run_01, run_02, ..."),
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML or JSON file with settings. The settings.json of a run repeats that run.",
        ),
    ] = None,
    set_: options.Set = None,
    r: Annotated[
        str | None,
        typer.Option(
            "--r",
            metavar="SHARE",
            help="Share of the flagged interactions to relabel, or auto; the others are discarded."
            + options.default("0.5"),
            rich_help_panel=STRATEGY,
        ),
    ] = None,
    tau_m: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Maximum share of the interactions to flag, or auto." + options.default("0.02"),
            rich_help_panel=STRATEGY,
        ),
    ] = None,
    t_i: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="When to start flagging, in iterations (500) or epochs (2ep)."
            + options.default("0"),
            rich_help_panel=STRATEGY,
        ),
    ] = None,
    t_m: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Time from --t-i until the share reaches --tau-m, in iterations or epochs (3ep)."
            + options.default("10ep; 5000 under reference"),
            rich_help_panel=STRATEGY,
        ),
    ] = None,
    basis: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS",
            help="Rows to rank by loss: positives, or batch (all rows of a batch)."
            + options.default("positives"),
            autocompletion=completion.complete_choice("positives", "batch"),
            rich_help_panel=STRATEGY,
        ),
    ] = None,
    trusted: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Number of training interactions whose ground truth may be trained on, or all. "
            "Used by the strategy trusted and by `dart score`." + options.default("0"),
            rich_help_panel=TRUSTED,
        ),
    ] = None,
    trusted_valid: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of validation interactions whose ground truth may be used to select the "
            "epoch." + options.default("0"),
            rich_help_panel=TRUSTED,
        ),
    ] = None,
    teaching: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="Let the strategy flag interactions in trainings of its own, then train anew: "
            "serial (each flags for the next) or parallel (they vote).",
            autocompletion=completion.complete_choice("serial", "parallel"),
            rich_help_panel=TEACHING,
        ),
    ] = None,
    order: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Number of trainings that identify." + options.default("1"),
            rich_help_panel=TEACHING,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Maximum number of epochs." + options.default("200; 100 under reference"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Stop after N epochs without a better validation AUC."
            + options.default("20; 2 under reference"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Rows per batch." + options.default("2048"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Learning rate of Adam." + options.default("0.001"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="L2 penalty on all parameters." + options.default("1e-5; 1e-6 under reference"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="adam, or sparse-adam, which updates only the embedding rows in the batch: "
            "faster on large tables, but results differ." + options.default("adam"),
            autocompletion=completion.complete_choice("adam", "sparse-adam"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    ranking: Annotated[
        str | None,
        typer.Option(
            metavar="SCOPE",
            help="With several processes (torchrun): global ranks the whole batch, as one process "
            "does; local lets each process rank its own rows, which is approximate."
            + options.default("global"),
            autocompletion=completion.complete_choice("global", "local"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    snapshot: Annotated[
        list[int] | None,
        typer.Option(
            metavar="ITERATION",
            help="Save the validation scores after this iteration. Repeatable.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help=options.DEVICE_HELP + options.default("auto"),
            autocompletion=completion.complete_choice("auto", "cpu", "cuda"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    cuda_graph: Annotated[
        bool | None,
        typer.Option(
            "--cuda-graph/--no-cuda-graph",
            help="On a GPU, capture the step as a CUDA graph." + options.default("on"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="SEED",
            help="Seed for training and for the split." + options.default("0"),
            rich_help_panel=SEEDS,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="SEEDS",
            help="Train once per seed, such as 0-9 or 0,1,5.",
            rich_help_panel=SEEDS,
        ),
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option(
            metavar="SEED",
            help="Use the same split for all seeds." + options.default("one split per seed"),
            rich_help_panel=SEEDS,
        ),
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option(
            "--deterministic/--no-deterministic",
            help="Reproduce results bit for bit." + options.default("on a CPU"),
            rich_help_panel=REPRODUCIBILITY,
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Start from the weights of a finished run of the same model. Users and items are "
            "matched by id; new ones start with fresh weights.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    checkpoint_every: options.CheckpointEvery = "60s",
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Same as `dart resume RUN`.",
            autocompletion=completion.complete_unfinished,
            rich_help_panel=options.CHECKPOINTS,
        ),
    ] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Train a model, once per seed, and save the run.

    Missing data is downloaded and prepared first.

    For example:

      dart train --strategy dart --r 0.5 --device cuda
      dart train movielens-100k --strategy base --seeds 0-9
    """
    if find_rank():
        follow()
        return
    # names are refused before anything large is imported
    if strategy is not None:
        catalog.check("strategies", strategy)
    if model is not None:
        catalog.check("models", model)
    from dartcli import settings

    if seed is not None and seeds is not None:
        raise UsageError("--seed and --seeds cannot be combined. Give one of them.")
    flags: dict[str, Any] = {
        "dataset": {"name": name},
        "protocol": protocol,
        "model": {"name": model},
        "strategy": {
            "name": strategy,
            "options": {**_parse_shares(r, tau_m), "t_i": t_i, "t_m": t_m, "basis": basis},
        },
        "training": {
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "optimizer": optimizer,
            "ranking": ranking,
            "cuda_graph": cuda_graph,
            "snapshots": snapshot or None,
        },
        "init": init,
        "trusted": trusted,
        "trusted_valid": trusted_valid,
        "teaching": {"mode": teaching, "order": order},
        "device": device,
        "deterministic": deterministic,
        "seeds": settings.parse_seeds(seeds) if seeds else None if seed is None else (seed,),
        "split_seed": split_seed,
    }
    if resume is not None:
        _refuse_settings(resume, {**flags, "config": config, "set": set_, "name": run_name})
        resume_command(resume, checkpoint_every=checkpoint_every, quiet=quiet, json=json)
        return
    trees = (
        settings.load_tree(config) if config else {},
        settings.merge(settings.parse_assignments(set_ or []), flags),
    )
    run = _train(trees, run_name, checkpoint_every)
    print_run(run, json=json, quiet=quiet)


def _train(trees: Iterable[dict[str, Any]], name: str | None, checkpoint_every: str) -> Run:
    with progress.loading_torch():
        from dartcli.data import registry
        from dartcli.experiments import configure
        from dartcli.experiments.train import train_run

        resolved = configure.resolve({"dataset": {"name": registry.default_dataset()}}, *trees)
    with progress.epoch_bar(resolved.settings) as bar:
        return train_run(
            resolved,
            name=name,
            progress=bar,
            checkpoint_every=checkpoint_every,
            stopping=defer_interrupts,
        )


def _parse_shares(r: str | None, tau_m: str | None) -> dict[str, Any]:
    from dartcli.settings import parse_value

    given = {"r": r, "tau_m": tau_m}
    return {key: parse_value(text) for key, text in given.items() if text is not None}


def _refuse_settings(resume: str, given: dict[str, Any]) -> None:
    if _has_value(given):
        raise UsageError(
            f"--resume {resume} cannot be combined with other settings: a run resumes with its "
            f"original settings. Run `dart resume {resume}`."
        )


def _has_value(flags: object) -> bool:
    """Return whether any flag in a nested mapping was given."""
    if isinstance(flags, dict):
        return any(map(_has_value, flags.values()))
    return flags not in (None, [], ())
