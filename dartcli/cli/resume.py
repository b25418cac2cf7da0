"""``dart resume``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import completion, options, progress
from dartcli.cli.errors import defer_interrupts
from dartcli.cli.summary import print_run
from dartcli.storage.system import find_rank


def resume(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Name of an interrupted run.",
            autocompletion=completion.complete_unfinished,
        ),
    ],
    checkpoint_every: options.CheckpointEvery = "60s",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Resume an interrupted run.

    Training continues from the last checkpoint, with the settings that the run
    started with, and produces the same files as if it had not stopped.

    For example:

      dart resume run_03
    """
    if find_rank():
        follow()
        return
    from dartcli.experiments.run import Run
    from dartcli.experiments.run_index import find_folder
    from dartcli.experiments.train import resume_run

    settings = Run(find_folder(name)).settings
    with progress.loading_torch():
        import torch  # noqa: F401
    with progress.epoch_bar(settings) as bar:
        run = resume_run(
            name, progress=bar, checkpoint_every=checkpoint_every, stopping=defer_interrupts
        )
    print_run(run, json=json, quiet=quiet)


def follow() -> None:
    """Train what the first of several processes trains; that one prints and writes."""
    from dartcli.experiments.train import follow_run

    follow_run(stopping=defer_interrupts)
