"""From nested mappings to a configuration: complete settings and typed options."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from dartcli import catalog
from dartcli.data.download import is_readable
from dartcli.data.manifest import Prepared, load_manifest, read_encoded
from dartcli.data.prepare import prepare_split
from dartcli.data.registry import find_dataset, registered_options
from dartcli.errors import DartError, DataError, RunError, UsageError
from dartcli.experiments.run import Run
from dartcli.experiments.run_writer import training_identity
from dartcli.settings import (
    Component,
    Options,
    Protocol,
    Settings,
    Training,
    find_protocol,
    merge,
    resolve_options,
    validate,
)
from dartcli.training.configuration import Configuration

if TYPE_CHECKING:
    from torch import nn

    from dartcli.denoising import Strategy

logger = logging.getLogger(__name__)

WEIGHT_DECAY: Final = 1e-6
"""L2 penalty under ``strict`` of a model that declares none."""


def resolve(*trees: Mapping[str, Any]) -> Configuration:
    """Merge nested mappings over the defaults and configure the result; later ones win.

    Raises
    ------
    UsageError
        If a name, key, or value is invalid.
    """
    merged = merge(Settings().model_dump(), *trees)
    return configure(validate(Settings, merged, "settings"))


def configure(settings: Settings) -> Configuration:
    """Look up every name in ``settings`` and validate every option, once.

    The settings of the result state every option and everything that the protocol decides, so they
    reproduce a run even if defaults change later.

    Raises
    ------
    UsageError
        If a component does not exist, an option is invalid, or the seeds are not distinct.
    """
    seeds = settings.seeds
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise UsageError(
            f"settings.seeds is {list(seeds)}. Give one or more distinct integers, 0 or greater."
        )
    protocol = find_protocol(settings.protocol)
    dataset = find_dataset(settings.dataset.name)
    # both names are checked before PyTorch is imported
    catalog.check("models", settings.model.name)
    catalog.check("strategies", settings.strategy.name)
    model = catalog.load("models", settings.model.name)
    strategy = catalog.load("strategies", settings.strategy.name)
    described = registered_options(dataset.name)
    dataset_options = resolve_options(
        dataset.options, settings.dataset, "dataset", protocol, described
    )
    model_options = resolve_options(
        model.Options, settings.model, "model", protocol, protocol.model_dump()
    )
    strategy_options = resolve_options(strategy.Options, settings.strategy, "strategy", protocol)
    _check_teaching(settings, strategy)
    complete = settings.model_copy(
        update={
            "dataset": _stated(settings.dataset, dataset_options),
            "model": _stated(settings.model, model_options),
            "strategy": _stated(settings.strategy, strategy_options),
            "training": _complete_training(settings.training, protocol, model),
        }
    )
    return Configuration(
        complete,
        protocol,
        dataset,
        dataset_options,
        model,
        model_options,
        strategy,
        strategy_options,
    )


def _check_teaching(settings: Settings, strategy: type[Strategy]) -> None:
    """Raise UsageError if teaching is incomplete, or the strategy does not fit it."""
    from dartcli.denoising import Strategy as Plain

    teaching = settings.teaching
    if teaching.mode is None:
        if teaching != type(teaching)():
            raise UsageError(
                f"settings.teaching.order is {teaching.order}, but there is no teaching. Add "
                "`--teaching serial` or `--teaching parallel`."
            )
        return
    if (
        strategy.reads_noisy
        or strategy.needs_clean
        or strategy.networks > 1
        or strategy.stages > 1
        or strategy.link is not Plain.link
    ):
        raise UsageError(
            f"strategy `{settings.strategy.name}` cannot be combined with `--teaching`, which "
            "needs one that flags interactions by the losses of a single model, such as `dart`."
        )


def _complete_training(training: Training, protocol: Protocol, model: type[nn.Module]) -> Training:
    weight_decay = training.weight_decay
    if weight_decay is None:
        weight_decay = protocol.weight_decay
    if weight_decay is None:
        weight_decay = getattr(model, "weight_decay", WEIGHT_DECAY)
    return training.model_copy(
        update={
            "weight_decay": weight_decay,
            "epochs": training.epochs or protocol.epochs,
            "patience": training.patience or protocol.patience,
        }
    )


def label_arm(settings: Settings) -> str:
    """Return the strategy with what is not default: ``trusted (500, beta=0.1), serial teaching 2``.

    Of the trusted labels, only those that it learns from are shown.
    """
    name, teaching = settings.strategy.name, settings.teaching
    kind = catalog.load("strategies", name)
    protocol = find_protocol(settings.protocol)
    plain = resolve_options(kind.Options, Component(name=name), "strategy", protocol)
    defaults = plain.model_dump(mode="json")
    texts = [
        str(number) if key == "trusted" else f"{key}={number}"
        for key, number in granted_labels(settings).items()
    ]
    texts += [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in settings.strategy.options.items()
        if value != defaults.get(key)
    ]
    label = f"{name} ({', '.join(texts)})" if texts else name
    if teaching.mode is None:
        return label
    vote = "" if teaching.vote == "majority" else f", vote={teaching.vote}"
    return f"{label}, {teaching.mode} teaching {teaching.order}{vote}"


def granted_labels(settings: Settings) -> dict[str, int | str]:
    """Return how many trusted labels a training learns from, by setting; those above 0."""
    reads = catalog.load("strategies", settings.strategy.name).reads_trusted
    granted = {
        "trusted": settings.trusted if reads else 0,
        "trusted_valid": settings.trusted_valid,
    }
    return {key: number for key, number in granted.items() if number}


def _stated(component: Component, options: Options) -> Component:
    return Component(name=component.name, options=options.model_dump(mode="json"))


def load_prepared(configuration: Configuration, seed: int) -> Prepared:
    """Return the prepared data of one seed of a run; prepare what is missing."""
    chosen = configuration.settings.split_seed
    return prepare_split(
        configuration.dataset,
        configuration.dataset_options,
        configuration.protocol,
        seed if chosen is None else chosen,
    )


def load_run_data(run: Run, seed: int) -> tuple[Configuration, Prepared]:
    """Return the configuration of a finished run, and the data that ``seed`` was trained with.

    Raises
    ------
    RunError
        If the data cannot be prepared again, or have changed since the run was trained.
    """
    try:
        configuration = configure(run.settings)
        if configuration.dataset.local_files is None and not is_readable(configuration.dataset):
            name = configuration.dataset.name
            raise RunError(f"its files are missing. Run `dart download {name}`.")
        prepared = load_prepared(configuration, seed)
    except DartError as error:
        raise RunError(f"{run.name}: cannot read its dataset: {error}") from error
    if training_identity(run.settings, prepared.digest) != run.identity(seed):
        raise RunError(
            f"{run.name}: the dataset {run.metrics.dataset} has changed since the run was trained. "
            "Restore its files, or train the run again."
        )
    return configuration, prepared


def load_run_interactions(run: Run) -> pl.DataFrame:
    """Return the recorded interactions that a finished run was split from, before splitting.

    They have dense codes for every id of the source, also for those that are not in training.
    Raises RunError as :func:`load_run_data` does.
    """
    _, prepared = load_run_data(run, run.seeds[0])
    try:
        return read_interactions(prepared)
    except DataError as error:
        raise RunError(f"{run.name}: cannot read its dataset: {error}") from error


def read_interactions(prepared: Prepared) -> pl.DataFrame:
    """Return the interactions that ``prepared`` was split from.

    Raises
    ------
    DataError
        If a file is missing or corrupt.
    """
    home = prepared.folder.parent.parent
    whole = load_manifest(home)
    if whole is None:
        raise DataError(f"{home} is incomplete. Run `dart doctor --repair`.")
    interactions, _ = read_encoded(home, whole)
    return interactions


def log_warnings(prepared: Prepared) -> None:
    """Log what a user should know about the data before trusting results."""
    for warning in prepared.manifest.warnings:
        logger.warning(warning)
