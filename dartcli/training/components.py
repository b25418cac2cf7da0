"""Everything that a training works with, on its device: tables, models, and the strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from dartcli.data.columns import LABEL, NOISY, RATING
from dartcli.data.manifest import Prepared, SplitName
from dartcli.data.seeds import derived_seed
from dartcli.data.stream import StreamedSet, load_measured, map_columns
from dartcli.data.tensors import (
    UNKNOWN_POSITIVE,
    Interactions,
    TrainingSet,
    known_pairs,
    to_interactions,
)
from dartcli.denoising import (
    CleanSample,
    Context,
    DifferentialTeaching,
    Strategy,
    TrainingTable,
)
from dartcli.errors import TrainingError, UsageError
from dartcli.training.configuration import Configuration
from dartcli.training.device import check_room
from dartcli.training.grants import draw_trusted

SPLITS: Final[tuple[SplitName, ...]] = ("train", "valid", "test")


@dataclass(frozen=True)
class Components:
    """What one seed is trained, validated, and measured with."""

    models: Sequence[nn.Module]
    """The networks; the first is validated, measured, and kept."""
    strategy: Strategy
    """The strategy, on the same device."""
    training: TrainingSet
    """What is trained on, as the strategy prepared it."""
    valid: Interactions
    """What validation scores."""
    recorded_train: Interactions
    """The training split as recorded."""
    recorded_valid: Interactions
    """The validation split as recorded; the same object as ``valid`` if nothing was taken out."""
    test: Interactions
    """The test split."""
    counts: TrainingTable
    """Statistics of the recorded training interactions."""
    trusted: Tensor
    """Long[T], rows of ``recorded_train`` whose ground truth is granted."""
    trusted_valid: Tensor | None
    """Long[T], rows of ``valid`` whose ground truth selects the epoch; None if none is granted."""
    ratings: Mapping[str, pl.Series]
    """Split -> explicit feedback of its rows, if the source has any."""


def build_components(
    configuration: Configuration, prepared: Prepared, seed: int, device: torch.device
) -> Components:
    """Load each split once, and build models and strategy for one seed.

    Raises
    ------
    TrainingError
        If there is nothing to train on, or the model does not fit into memory.
    """
    _check_room(configuration, prepared, device)
    settings, protocol = configuration.settings, configuration.protocol
    is_streamed = settings.training.window is not None
    load = _stream if is_streamed else _load
    training, recorded, ratings, valid, clean = load(configuration, prepared, seed, device)
    if training.recorded.positives == 0:
        raise TrainingError(
            f"the training split of {configuration.dataset.name} has no positive interaction left "
            f"for strategy `{settings.strategy.name}`. Use a dataset with more true positives."
        )
    context = Context(
        iterations_per_epoch=training.count_steps(settings.training.batch_size),
        table=_statistics(training.recorded, prepared, len(training)),
        clean=clean,
    )
    models, strategy = _build_modules(configuration, prepared, context, seed, device)
    counted = training.recorded if is_streamed else recorded["train"]
    return Components(
        models=models,
        strategy=strategy,
        training=training,
        valid=valid,
        recorded_train=recorded["train"],
        recorded_valid=recorded["valid"],
        test=recorded["test"],
        counts=_statistics(counted, prepared, len(training)),
        trusted=draw_trusted(recorded["train"], settings.trusted, seed, "trusted"),
        trusted_valid=(
            draw_trusted(valid, settings.trusted_valid, seed, "trusted_valid")
            if settings.trusted_valid and not protocol.clean_validation
            else None
        ),
        ratings=ratings,
    )


_Loaded = tuple[
    TrainingSet, dict[str, Interactions], dict[str, pl.Series], Interactions, CleanSample | None
]
"""The training set, the splits as recorded, their ratings, what validates, and a clean sample."""


def _load(
    configuration: Configuration, prepared: Prepared, seed: int, device: torch.device
) -> _Loaded:
    """Load every split into memory."""
    kind, protocol = configuration.strategy, configuration.protocol
    frames = {name: prepared.split(name) for name in SPLITS}
    recorded: dict[str, Interactions] = {
        name: to_interactions(frame, prepared.fields, device) for name, frame in frames.items()
    }
    train = _prepare(kind, frames["train"], recorded["train"], prepared, device)
    known = None
    if protocol.resample_negatives and prepared.manifest.sampled_negatives:
        known = known_pairs(recorded["train"], prepared.items)
    training = TrainingSet(
        train, prepared.users, prepared.items, known=known, reshuffle=protocol.reshuffle
    )
    valid_frame, valid, clean = frames["valid"], recorded["valid"], None
    if kind.needs_clean:
        sample, valid_frame = _take_clean_sample(valid_frame, configuration, seed)
        table = to_interactions(sample, prepared.fields, device)
        clean = CleanSample(table.fields, table.clean_label)
        valid = to_interactions(valid_frame, prepared.fields, device)
    valid = _prepare(kind, valid_frame, valid, prepared, device)
    ratings: dict[str, pl.Series] = {
        name: frame[RATING] for name, frame in frames.items() if RATING in frame.columns
    }
    return training, recorded, ratings, valid, clean


def can_stream(configuration: Configuration) -> bool:
    """Return whether a training needs no more of its table than batches and counts."""
    kind = configuration.strategy
    needs_table = (
        kind.reads_noisy or kind.needs_clean or kind.needs_study or configuration.stages > 1
    )
    return not needs_table and not configuration.settings.trusted


def _stream(
    configuration: Configuration, prepared: Prepared, _seed: int, device: torch.device
) -> _Loaded:
    """Map the training split, and load the rows of every split that are measured."""
    settings, columns = configuration.settings, map_columns(prepared, "train")
    if not can_stream(configuration):
        raise TrainingError(
            f"strategy `{settings.strategy.name}` needs the whole training table, or trusted "
            f"labels of it, in memory. With training.window ({settings.training.window:,} rows), "
            "use a strategy that sees batches only, such as `base` or `dart`."
        )
    train = Interactions(columns["fields"].t(), columns["label"], columns["kind"])
    known, reshuffle = columns.get("pairs"), configuration.protocol.reshuffle
    whole = TrainingSet(train, prepared.users, prepared.items, known=known, reshuffle=reshuffle)
    if len(whole) >= 1 << 31:
        raise TrainingError(
            f"an epoch has {len(whole):,} rows; at most 2,147,483,647 can be ranked exactly. "
            "Divide the log, for example by time."
        )
    window, size = settings.training.window or 1, settings.training.batch_size
    measured = {name: load_measured(prepared, name, window, device) for name in SPLITS}
    tables: dict[str, Interactions] = {name: table for name, (table, _) in measured.items()}
    ratings: dict[str, pl.Series] = {
        name: rating for name, (_, rating) in measured.items() if rating is not None
    }
    return StreamedSet(whole, window, size, device), tables, ratings, tables["valid"], None


def restart(
    components: Components, configuration: Configuration, prepared: Prepared, seed: int
) -> Components:
    """Return ``components`` with models and strategy as they were before any training.

    The record of what is identified from now on leaves out the trusted rows: they are known.
    """
    context, device = components.strategy.context, components.test.label.device
    models, strategy = _build_modules(configuration, prepared, context, seed, device)
    training = components.training
    if len(components.trusted):
        recorded = training.recorded
        kind = recorded.kind.index_fill(0, components.trusted, UNKNOWN_POSITIVE)
        training = training.replace_recorded(replace(recorded, kind=kind))
    return replace(components, models=models, strategy=strategy, training=training)


def _build_modules(
    configuration: Configuration,
    prepared: Prepared,
    context: Context,
    seed: int,
    device: torch.device,
) -> tuple[list[nn.Module], Strategy]:
    """Return the networks and the strategy, with the initial weights of ``seed``."""
    models = [
        build_model(configuration, prepared, seed, device, network)
        for network in range(configuration.strategy.networks)
    ]
    with torch.random.fork_rng([]):
        torch.manual_seed(derived_seed(seed, 4))
        strategy = configuration.strategy(configuration.strategy_options, context)
    teaching = configuration.settings.teaching
    if teaching.mode is not None:
        strategy = DifferentialTeaching(teaching, context, strategy)
    return models, strategy.to(device)


def _prepare(
    kind: type[Strategy],
    frame: pl.DataFrame,
    recorded: Interactions,
    prepared: Prepared,
    device: torch.device,
) -> Interactions:
    """Return what ``kind`` makes of a split; ``recorded`` itself if it changes nothing."""
    changed = kind.prepare(frame)
    return recorded if changed is frame else to_interactions(changed, prepared.fields, device)


def build_model(
    configuration: Configuration,
    prepared: Prepared,
    seed: int,
    device: torch.device,
    network: int = 0,
) -> nn.Module:
    """Return the model with the initial weights of ``seed``, drawn on the CPU for every device.

    Each ``network`` (from 0) of a strategy that trains several gets weights of its own.
    """
    purpose = (0, network) if network else (0,)
    with torch.random.fork_rng([]):
        torch.manual_seed(derived_seed(seed, *purpose))
        model = configuration.model(prepared.field_sizes, configuration.model_options)
    return model.to(device)


def _check_room(configuration: Configuration, prepared: Prepared, device: torch.device) -> None:
    with torch.device("meta"):
        # nothing is allocated, only counted
        outline = configuration.model(prepared.field_sizes, configuration.model_options)
    check_room(sum(parameter.numel() for parameter in outline.parameters()), device)


def _statistics(table: Interactions, prepared: Prepared, rows: int) -> TrainingTable:
    return TrainingTable(
        user=table.fields[:, 0],
        item=table.fields[:, 1],
        label=table.label,
        users=prepared.field_sizes[0],
        items=prepared.field_sizes[1],
        rows=rows,
    )


def _take_clean_sample(
    valid: pl.DataFrame, configuration: Configuration, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide the validation split into rows whose true labels may be used, and the others."""
    rows: int = getattr(configuration.strategy_options, "clean_rows", 0)
    unknown = valid.filter(pl.col(LABEL) > 0)[NOISY].null_count()
    if unknown:
        raise TrainingError(
            f"strategy `{configuration.settings.strategy.name}` needs a clean sample, but "
            f"{unknown:,} positives of the validation split have no ground truth. Use a dataset "
            "with explicit feedback."
        )
    if rows > len(valid) // 2:
        raise UsageError(
            f"strategy.clean_rows is {rows:,}, but at most half of the {len(valid):,} validation "
            "rows can be used. Lower it."
        )
    order = np.random.default_rng(derived_seed(seed, 3)).permutation(len(valid))
    return valid[np.sort(order[:rows])], valid[np.sort(order[rows:])]
