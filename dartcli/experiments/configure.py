"""From nested mappings to complete settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dartcli import catalog
from dartcli.data.manifest import Prepared
from dartcli.data.prepare import prepare_split
from dartcli.data.registry import _described, find_dataset
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

logger = logging.getLogger(__name__)


def load_prepared(settings: Settings, seed: int) -> Prepared:
    """Return the prepared data of one seed of a run; prepares what is missing."""
    known = find_dataset(settings.dataset.name)
    data = prepare_split(
        known,
        validate(known.options, settings.dataset.options, "dataset"),
        PROTOCOLS[settings.protocol],
        seed if settings.split_seed is None else settings.split_seed,
    )
    for warning in data.manifest.warnings:
        logger.warning(warning)
    return data


def resolve(*trees: Mapping[str, Any]) -> Settings:
    """Return complete settings from nested mappings; later ones win.

    Every option of dataset, model and strategy, and everything that the protocol decides, is
    filled in, so the result repeats a run even when defaults change.

    Raises
    ------
    UsageError
        If a name, key or value does not fit.
    """
    settings = validate(Settings, merge(Settings().model_dump(), *trees), "settings")
    protocol = PROTOCOLS[settings.protocol]
    if not settings.seeds:
        raise UsageError("settings.seeds is empty: give at least one seed.")
    if len(set(settings.seeds)) != len(settings.seeds) or min(settings.seeds) < 0:
        raise UsageError(f"settings.seeds is {list(settings.seeds)}: give distinct numbers from 0.")
    protocol_defaults = protocol.model_dump()
    training = merge(
        {"epochs": protocol.epochs, "patience": protocol.patience},
        settings.training.model_dump(exclude_none=True),
    )
    return validate(
        Settings,
        {
            **settings.model_dump(),
            "dataset": _filled("datasets", settings.dataset, "dataset", {}),
            "model": _filled("models", settings.model, "model", protocol_defaults),
            "strategy": _filled("strategies", settings.strategy, "strategy", {}),
            "training": training,
        },
        "settings",
    )


def _filled(
    kind: catalog.Kind, component: Component, where: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    if kind == "datasets":
        options: type[Options] = find_dataset(component.name).options
        defaults = _described(component.name)
    else:
        options = catalog.load(kind, component.name).Options
    resolved = resolve_options(options, component, where, defaults)
    return {"name": component.name, "options": resolved.model_dump(mode="json")}


def _named(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: {"name": value}
        if key in {"dataset", "model", "strategy"} and isinstance(value, str)
        else value
        for key, value in keys.items()
    }
