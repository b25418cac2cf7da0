"""Plan a sweep: from presets, grids, and arms to a list of trainings."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dartcli import catalog
from dartcli.errors import UsageError
from dartcli.experiments.configure import label_arm, resolve
from dartcli.experiments.sweep import SweepEntry, settings_key
from dartcli.settings import (
    Options,
    Teaching,
    merge,
    parse_assignments,
    parse_value,
    validate,
)
from dartcli.training.configuration import Configuration

if TYPE_CHECKING:
    from dartcli.denoising import Strategy

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
SEARCH: Final[Mapping[str, tuple[float, ...]]] = {
    "t_i": (0, 1000, 2000),
    "t_m": (5000, 10_000, 20_000),
    "tau_m": (0.005, 0.01, 0.02),
    "r": (0, 0.25, 0.5, 0.75, 1),
}
"""The grid behind Table 2 of the thesis: 135 settings of DART."""
LABELS: Final[tuple[str, ...]] = ("trusted", "trusted_valid")
"""Settings of trusted labels, which an arm states like its options."""


class Preset(Options):
    """A sweep by name: what reproduces a table or figure."""

    datasets: tuple[str, ...]
    """Datasets."""
    models: tuple[str, ...]
    """Models."""
    arms: tuple[str, ...]
    """Strategies, each with its options and trusted labels: ``dart tau_m=0.04``."""
    is_search: bool = False
    """Whether one of the arms is chosen on the first seed, and confirmed on the others."""


def _name_arms(points: Iterable[Mapping[str, float]]) -> tuple[str, ...]:
    texts = [" ".join(f"{key}={value}" for key, value in point.items()) for point in points]
    return ("base", *dict.fromkeys(f"dart {text}" for text in texts))


PRESETS: Final[Mapping[str, Preset]] = {
    "table2": Preset(
        datasets=("movielens-100k", "adressa", "book-crossing", "jester"),
        models=("fm", "deepfm"),
        arms=(*TABLE_2, "popularity"),
    ),
    "sensitivity": Preset(
        datasets=("book-crossing",),
        models=("fm",),
        arms=_name_arms(
            {**CENTER, name: value} for name, values in SENSITIVITY.items() for value in values
        ),
    ),
    "label-curve": Preset(
        datasets=("movielens-100k", "jester-4", "adressa"),
        models=("fm", "deepfm"),
        arms=(
            *("base", "clean", "dart", "lcd-re", "adt-ce-r", "popularity"),
            *(f"trusted trusted={number}" for number in (50, 200, 500, 2000)),
        ),
    ),
    "teaching": Preset(
        datasets=("movielens-100k", "jester-4", "adressa"),
        models=("fm", "deepfm"),
        arms=(
            *("base", "clean"),
            *(
                f"dart rank_by={rank_by}{teaching}"
                for rank_by in ("loss", "relative-loss")
                for teaching in (
                    "",
                    *(
                        f" teaching.mode={mode} teaching.order={order}"
                        for mode in ("serial", "parallel")
                        for order in (1, 2, 3)
                    ),
                )
            ),
        ),
    ),
    "adaptive": Preset(
        datasets=("movielens-100k", "jester-4", "adressa"),
        models=("fm",),
        arms=(
            *("base", "clean", "dart r=auto tau_m=auto", "dart r=auto", "dart tau_m=auto"),
            *(f"dart r={r} tau_m={tau_m}" for tau_m in (0.005, 0.02, 0.1) for r in (0, 0.5, 1)),
        ),
    ),
    "table2-search": Preset(
        datasets=("movielens-100k", "adressa", "book-crossing", "jester"),
        models=("fm", "deepfm"),
        arms=_name_arms(
            dict(zip(SEARCH, values, strict=True)) for values in itertools.product(*SEARCH.values())
        ),
        is_search=True,
    ),
}


@dataclass(frozen=True)
class Plan:
    """What a sweep trains: the product of all its parts."""

    datasets: Sequence[str]
    """Names of datasets."""
    models: Sequence[str]
    """Names of models."""
    arms: Sequence[str]
    """Strategies, optionally with options, labels, and teaching: ``dart r=0 tau_m=0.04``,
    ``trusted trusted=500``, ``dart teaching.mode=serial teaching.order=2``."""
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
    split_seed: int | None = None
    """Seed of the split of all trainings; None = that of each. Labels show it."""

    @property
    def tunes_base(self) -> bool:
        """Whether the weight decay of ``base`` is chosen first."""
        if "training.weight_decay" in self.grid:
            return False
        return self.protocol == "strict" if self.tune_base is None else self.tune_base


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


def build_tree(key: str, value: object) -> dict[str, Any]:
    """Return the nested settings in which ``key`` has ``value``."""
    return parse_assignments([f"{key}={json.dumps(value)}"])


def _label_options(name: str, options: Mapping[str, Any]) -> str:
    if not options:
        return name
    return f"{name} ({', '.join(f'{key}={value}' for key, value in options.items())})"


def is_of_arm(key: str) -> bool:
    """Return whether a setting belongs to an arm: an option of a strategy, or its labels."""
    return key.startswith("strategy.") or key in LABELS


def _varies(key: str, kind: type[Strategy]) -> bool:
    """Return whether a setting that belongs to an arm matters to a strategy."""
    if key in LABELS:
        return key == "trusted_valid" or kind.reads_trusted
    return key.removeprefix("strategy.") in kind.Options.model_fields


def _build_arms(plan: Plan) -> list[dict[str, Any]]:
    """Return the settings of each arm, varied over the grid: strategy, labels, and teaching."""
    varied = {key: list(plan.grid[key]) for key in plan.grid if is_of_arm(key)}
    unused = set(varied)
    found = []
    for text in plan.arms:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UsageError(
                f"invalid value for `--arm`: {text!r}: {str(error).lower()}. Check its quotation "
                "marks and backslashes."
            ) from error
        if not words:
            raise UsageError(
                "`--arm` is empty. Give a strategy and its options, such as `--arm 'dart r=0'`."
            )
        kind = catalog.load("strategies", words[0])
        own = parse_assignments(
            word if _is_setting(word) else f"strategy.{word}" for word in words[1:]
        )
        teaching = validate(Teaching, own.pop("teaching", {}), "teaching").model_dump()
        stated = {*own, *(f"strategy.{key}" for key in own.get("strategy", {}).get("options", ()))}
        known = [key for key in varied if _varies(key, kind)]
        unused -= set(known)
        # the grid does not vary what the arm sets itself
        mine = [key for key in known if key not in stated]
        plain = {"strategy": {"name": words[0]}, "teaching": teaching}
        found += [
            merge(plain, own, *map(build_tree, mine, values))
            for values in itertools.product(*(varied[key] for key in mine))
        ]
    for key in varied:
        if key in unused:
            raise UsageError(
                f"no strategy of this sweep has the option `{key.removeprefix('strategy.')}`. "
                "Remove it, or add a strategy that has it."
            )
    return found


def _is_setting(word: str) -> bool:
    """Return whether a word of an arm is a setting, and not an option of its strategy."""
    key = word.partition("=")[0].strip()
    return key in LABELS or key.startswith("teaching.")


def plan_training(configuration: Configuration, arm: str, **labels: str) -> PlannedTraining:
    """Return the training of a configuration with one seed, under the label ``arm``."""
    settings = configuration.settings
    entry = SweepEntry(
        dataset=labels.get("dataset", settings.dataset.name),
        model=labels.get("model", settings.model.name),
        arm=arm,
        strategy=settings.strategy.name,
        options=settings.strategy.options,
        seed=settings.seeds[0],
        key=settings_key(settings),
    )
    return PlannedTraining(entry, configuration)


def plan_trainings(
    plan: Plan, weight_decays: Mapping[tuple[str, str], float] | None = None
) -> list[PlannedTraining]:
    """Return every training of ``plan``, seed by seed, so that stopping early leaves whole tables.

    ``weight_decays`` has those that were tuned, by dataset and model.

    Raises
    ------
    UsageError
        If a name, key, or value is invalid.
    """
    arms = _build_arms(plan)
    around = {key: values for key, values in plan.grid.items() if not is_of_arm(key)}
    bad = [key for key in around if key.split(".")[0] not in {"dataset", "model", "training"}]
    if bad:
        raise UsageError(
            f"a sweep cannot vary `{bad[0]}`. Vary a setting of dataset, model, training, or "
            "strategy, or the number of trusted labels."
        )
    result: dict[tuple[str, str, str, int], PlannedTraining] = {}
    for seed, dataset, model, values, arm in itertools.product(
        plan.seeds, plan.datasets, plan.models, itertools.product(*around.values()), arms
    ):
        chosen = dict(zip(around, values, strict=True))
        of_data = {k.partition(".")[2]: v for k, v in chosen.items() if k.startswith("dataset.")}
        of_model = {
            k.removeprefix("model."): v for k, v in chosen.items() if not k.startswith("dataset.")
        }
        names = (_label_options(dataset, of_data), _label_options(model, of_model))
        configuration = resolve(
            {
                "protocol": plan.protocol,
                "dataset": {"name": dataset},
                "model": {"name": model},
                "training": {"weight_decay": (weight_decays or {}).get(names)},
                **arm,
                "device": plan.device,
                "seeds": [seed],
                "split_seed": plan.split_seed,
            },
            *(build_tree(key, value) for key, value in chosen.items()),
        )
        label = label_arm(configuration.settings)
        if plan.split_seed is not None:
            label += f", split {plan.split_seed}"
        planned = plan_training(configuration, label, dataset=names[0], model=names[1])
        # arms with the same label are one
        result.setdefault((*names, label, seed), planned)
    return list(result.values())
