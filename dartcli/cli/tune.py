"""``dart tune``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dartcli import catalog
from dartcli.cli import completion, console, options, progress, tables
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.experiments.study import Trial
    from dartcli.experiments.tune import StudyResult

SEARCH = "Search"
CONFIRMATION = "Confirmation"
SHOWN = 5
"""Trials in the table."""
SECONDS = {"s": 1, "m": 60, "h": 3600}


def tune(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="Dataset." + options.default("the one prepared last, else synthetic"),
            autocompletion=completion.complete_dataset,
        ),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="Setting to search over: r=0:1, t_i=log:1:10000, or "
            "strategy.tau_m=0.005,0.01,0.02. Repeatable.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    strategy: options.Strategy = None,
    model: options.Model = None,
    protocol: options.Protocol = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML or JSON file with settings.")
    ] = None,
    set_: options.Set = None,
    sampler: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Sampler of Optuna: tpe, cma-es, nsga, qmc, or random.",
            autocompletion=completion.complete_choice("tpe", "cma-es", "nsga", "qmc", "random"),
            rich_help_panel=SEARCH,
        ),
    ] = "tpe",
    trials: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Trials in total; the first is the defaults.",
            rich_help_panel=SEARCH,
        ),
    ] = 50,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Start no trial after this time (90s, 30m, 2h).",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(metavar="SEEDS", help="Seeds of each trial.", rich_help_panel=SEARCH)
    ] = "0",
    confirm: Annotated[
        str,
        typer.Option(
            metavar="SEEDS",
            help="Fresh seeds on which the best setting meets the defaults, or none.",
            rich_help_panel=CONFIRMATION,
        ),
    ] = "100-109",
    name: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Name of the study. An existing study is resumed."
            + options.default("dataset, model, strategy, and sampler"),
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Storage of Optuna." + options.default("a journal in the folder of the study"),
            rich_help_panel=SEARCH,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Trainings in parallel; with 1, a search can be repeated exactly."
            + options.default("one per core, or one on a GPU"),
        ),
    ] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Search for better hyper-parameters, and test the best on fresh seeds.

    Run the same command again to resume a search, or to add trials.

    For example:

      dart tune movielens-100k --space r=0:1 --space tau_m=log:0.005:0.5 --trials 50
    """
    if strategy is not None:
        catalog.check("strategies", strategy)
    if model is not None:
        catalog.check("models", model)
    from dartcli import settings

    with progress.loading_torch():
        import torch  # noqa: F401

        from dartcli.data import registry
        from dartcli.experiments.study import studies_directory
        from dartcli.experiments.tune import BEST, StudyPlan, run_study
        from dartcli.experiments.tune_space import parse_space
        from dartcli.reporting.tuning import phrase_study

    tree = settings.merge(
        {"dataset": {"name": registry.default_dataset()}},
        settings.load_tree(config) if config else {},
        settings.parse_assignments(set_ or []),
        {
            "dataset": {"name": dataset},
            "protocol": protocol,
            "model": {"name": model},
            "strategy": {"name": strategy},
            "device": device,
        },
    )
    plan = StudyPlan(
        name=name or _name_study(tree, sampler),
        tree=tree,
        space=parse_space(space or [], tree),
        sampler=sampler,
        trials=trials,
        seconds=_parse_time(time),
        seeds=settings.parse_seeds(seeds),
        confirm=() if confirm == "none" else settings.parse_seeds(confirm, "--confirm"),
        storage=storage,
    )
    with progress.sweep_bar() as bar:
        found, tried = run_study(plan, jobs=jobs, progress=bar)
    if json:
        document = found.model_dump(mode="json")
        console.document({**document, "sentences": list(phrase_study(found))})
    elif quiet:
        console.print_line(found.study)
    else:
        _print_trials(found, tried)
        for sentence in phrase_study(found):
            console.print_line(sentence)
    best = studies_directory() / found.study / BEST
    console.next_command(f"dart train --config {shlex.quote(str(best))}")


def _name_study(tree: dict[str, Any], sampler: str) -> str:
    names = (tree.get(kind, {}).get("name") for kind in ("dataset", "model", "strategy"))
    parts = [name or default for name, default in zip(names, ("", "fm", "dart"), strict=True)]
    return "-".join([*parts, sampler])


def _parse_time(text: str | None) -> float | None:
    """Parse ``90s``, ``30m``, or ``2h`` into seconds."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"invalid value for `--time`: {text!r}. Use `90s`, `30m`, or `2h`.")
    return float(match[1]) * SECONDS[match[2]]


def _print_trials(found: StudyResult, tried: list[Trial]) -> None:
    """Print the best trials, and the defaults."""
    from dartcli.reporting.tuning import format_setting

    scored = [one for one in tried if one.score is not None]
    best = sorted(scored, key=lambda one: (-(one.score or 0.0), one.number))[:SHOWN]
    shown = [*best, *(one for one in scored[:1] if one.number == 0 and one not in best)]
    keys = list(dict.fromkeys(key for one in shown for key in one.values))
    tables.table(
        f"{found.study}: the best of {len(scored)} trials",
        ["trial", "objective", *(key.rpartition(".")[2] for key in keys)],
        [
            (
                one.number,
                one.score,
                *(format_setting(one.values.get(key, "default")) for key in keys),
            )
            for one in shown
        ],
    )
