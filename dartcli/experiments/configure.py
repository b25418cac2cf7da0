"""From nested mappings to a configuration: complete settings and typed options."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dartcli import catalog
from dartcli.data.manifest import Prepared
from dartcli.data.prepare import prepare_split
from dartcli.data.registry import find_dataset, registered_options
from dartcli.errors import UsageError
from dartcli.settings import (
    PROTOCOLS,
    Component,
    Options,
    Settings,
    merge,
    resolve_options,
    validate,
)
from dartcli.training.configuration import Configuration

logger = logging.getLogger(__name__)


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
    protocol = PROTOCOLS[settings.protocol]
    dataset = find_dataset(settings.dataset.name)
    # both names are checked before PyTorch is imported
    catalog.check("models", settings.model.name)
    catalog.check("strategies", settings.strategy.name)
    model = catalog.load("models", settings.model.name)
    strategy = catalog.load("strategies", settings.strategy.name)
    described = registered_options(dataset.name)
    dataset_options = resolve_options(dataset.options, settings.dataset, "dataset", described)
    model_options = resolve_options(model.Options, settings.model, "model", protocol.model_dump())
    strategy_options = resolve_options(strategy.Options, settings.strategy, "strategy", {})
    training = settings.training
    complete = settings.model_copy(
        update={
            "dataset": _stated(settings.dataset, dataset_options),
            "model": _stated(settings.model, model_options),
            "strategy": _stated(settings.strategy, strategy_options),
            "training": training.model_copy(
                update={
                    "epochs": training.epochs or protocol.epochs,
                    "patience": training.patience or protocol.patience,
                }
            ),
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


def log_warnings(prepared: Prepared) -> None:
    """Log what a user should know about the data before trusting results."""
    for warning in prepared.manifest.warnings:
        logger.warning(warning)
