"""Plan a sweep: from presets, grids, and arms to a list of trainings."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dartcli import catalog
from dartcli.errors import UsageError
from dartcli.experiments.configure import label_strategy, resolve, resolve_strategy
from dartcli.experiments.sweep import SweepEntry, Tuned, settings_key
from dartcli.settings import (
    Options,
    parse_assignments,
    parse_value,
)
from dartcli.training.configuration import Configuration

TABLE_2: Final = (
    "base",
    "clean",
    "bootstrap-hard",
    "bootstrap-soft",
    "lcd",
    "lcd-re",
    "adt-ce-r",
    "adt-ce-t",
    "dart-disc",
    "dart-rel",
    "dart",
)
SENSITIVITY: Final[Mapping[str, tuple[float, ...]]] = {
    "t_i": (0, 1000, 2000, 4000),
    "t_m": (5000, 10_000, 20_000, 40_000),
    "tau_m": (0.005, 0.01, 0.02, 0.04),
    "r": (0, 0.25, 0.5, 0.75, 1),
}
"""Values of the sensitivity analysis; one option varies at a time."""
CENTER: Final[Mapping[str, float]] = {"t_i": 0, "t_m": 20_000, "tau_m": 0.04, "r": 0.5}
"""Values of the options that do not vary."""


class Preset(Options):
    """A sweep that reproduces a table or figure of the thesis."""

    datasets: tuple[str, ...]
    """Datasets."""
    models: tuple[str, ...]
    """Models."""
    arms: tuple[str, ...]
    """Strategies, each with its options: ``dart tau_m=0.04``."""


def _sensitivity_arms() -> tuple[str, ...]:
    points = [{**CENTER, name: value} for name, values in SENSITIVITY.items() for value in values]
    texts = [" ".join(f"{key}={value}" for key, value in point.items()) for point in points]
    return ("base", *dict.fromkeys(f"dart {text}" for text in texts))


PRESETS: Final[Mapping[str, Preset]] = {
    "table2": Preset(
        datasets=("movielens-100k", "adressa", "book-crossing", "jester"),
        models=("fm", "deepfm"),
        arms=(*TABLE_2, "popularity"),
    ),
    "sensitivity": Preset(datasets=("book-crossing",), models=("fm",), arms=_sensitivity_arms()),
}


@dataclass(frozen=True)
class Plan:
    """What a sweep trains: the product of all its parts."""

    datasets: Sequence[str]
    """Names of datasets."""
    models: Sequence[str]
    """Names of models."""
    arms: Sequence[str]
    """Strategies, optionally with options: ``dart r=0 tau_m=0.04``."""
    seeds: Sequence[int]
    """Each arm is trained once per seed."""
    protocol: str = "strict"
    """``strict`` or ``reference``."""
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Setting (``training.epochs``, ``strategy.tau_m``) -> its values."""
    tune_base: bool | None = None
    """First choose the weight decay of each dataset and model for ``base``; None = only under
    ``strict``."""
    device: str = "auto"
    """Where to train."""


@dataclass(frozen=True)
class PlannedTraining:
    """One training of a sweep."""

    entry: SweepEntry
    configuration: Configuration


def parse_grid(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Parse ``["strategy.tau_m=0.01,0.02", "training.epochs=50"]`` into setting -> values.

    Raises
    ------
    UsageError
        If a text is not an assignment, or has no value.
    """
    grid: dict[str, list[Any]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        values = [part.strip() for part in text.strip().strip("[]").split(",")]
        if not equals or not key.strip() or not all(values):
            raise UsageError(
                f"invalid value for `--set`: {assignment!r}. Use KEY=VALUE,... such as "
                "`strategy.tau_m=0.01,0.02`."
            )
        grid[key.strip()] = [parse_value(value) for value in values]
    return grid


def _build_tree(key: str, value: object) -> dict[str, Any]:
    tree = parse_assignments([f"{key}=0"])
    branch = tree
    while isinstance(inner := branch[next(iter(branch))], dict):
        branch = inner
    branch[next(iter(branch))] = value
    return tree


def _label_options(name: str, options: Mapping[str, Any]) -> str:
    if not options:
        return name
    return f"{name} ({', '.join(f'{key}={value}' for key, value in options.items())})"


@dataclass(frozen=True)
class _Arm:
    label: str
    strategy: str
    options: dict[str, Any]


def _build_arms(plan: Plan) -> list[_Arm]:
    """Return the arms, varied over the grid; labels show the options that are not default."""
    varied = {key: list(plan.grid[key]) for key in plan.grid if key.startswith("strategy.")}
    unused = set(varied)
    found: dict[str, _Arm] = {}
    for text in plan.arms:
        words = shlex.split(text)
        if not words:
            raise UsageError(
                "`--arm` is empty. Give a strategy and its options, such as `--arm 'dart r=0'`."
            )
        kind = catalog.load("strategies", words[0])
        given = parse_assignments(f"strategy.{word}" for word in words[1:])
        own = given.get("strategy", {}).get("options", {})
        known = [
            key for key in varied if key.removeprefix("strategy.") in kind.Options.model_fields
        ]
        unused -= set(known)
        # the grid does not vary options that the arm sets itself
        mine = [key for key in known if key.removeprefix("strategy.") not in own]
        for values in itertools.product(*(varied[key] for key in mine)):
            grid = dict(zip((key.removeprefix("strategy.") for key in mine), values, strict=True))
            options = resolve_strategy(words[0], {**grid, **own}, plan.protocol)
            label = label_strategy(words[0], options, plan.protocol)
            found.setdefault(label, _Arm(label, words[0], options))
    for key in varied:
        if key in unused:
            raise UsageError(
                f"no strategy of this sweep has the option `{key.removeprefix('strategy.')}`. "
                "Remove it, or add a strategy that has it."
            )
    return list(found.values())


def plan_trainings(
    plan: Plan, tuned: Mapping[tuple[str, str], Tuned] | None = None
) -> list[PlannedTraining]:
    """Return every training of ``plan``, seed by seed, so that stopping early leaves whole tables.

    ``tuned`` gives the weight decay of a dataset and model.

    Raises
    ------
    UsageError
        If a name, key, or value is invalid.
    """
    arms = _build_arms(plan)
    around = {key: values for key, values in plan.grid.items() if not key.startswith("strategy.")}
    bad = [key for key in around if key.split(".")[0] not in {"dataset", "model", "training"}]
    if bad:
        raise UsageError(
            f"a sweep cannot vary `{bad[0]}`. Vary a setting of dataset, model, training, or "
            "strategy."
        )
    result: dict[tuple[str, str, str, int], PlannedTraining] = {}
    for seed, dataset, model, values, arm in itertools.product(
        plan.seeds, plan.datasets, plan.models, itertools.product(*around.values()), arms
    ):
        chosen = dict(zip(around, values, strict=True))
        of_data = {k.partition(".")[2]: v for k, v in chosen.items() if k.startswith("dataset.")}
        others = {k: v for k, v in chosen.items() if not k.startswith("dataset.")}
        names = (
            _label_options(dataset, of_data),
            _label_options(model, {k.removeprefix("model."): v for k, v in others.items()}),
        )
        weight_decay = tuned[names].weight_decay if tuned and names in tuned else None
        configuration = resolve(
            {
                "protocol": plan.protocol,
                "dataset": {"name": dataset},
                "model": {"name": model},
                "strategy": {"name": arm.strategy, "options": arm.options},
                "training": {"weight_decay": weight_decay},
                "device": plan.device,
                "seeds": [seed],
            },
            *(_build_tree(key, value) for key, value in chosen.items()),
        )
        entry = SweepEntry(
            dataset=names[0],
            model=names[1],
            arm=arm.label,
            strategy=arm.strategy,
            options=arm.options,
            seed=seed,
            key=settings_key(configuration.settings),
        )
        result.setdefault((*names, arm.label, seed), PlannedTraining(entry, configuration))
    return list(result.values())
