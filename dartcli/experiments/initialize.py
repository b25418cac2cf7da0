"""Start a training from the weights of a finished run."""

from __future__ import annotations

import logging
from collections.abc import Callable

import polars as pl
import torch
from torch import Tensor, nn

from dartcli.data.encode import CODE, RAW
from dartcli.data.manifest import MANIFEST, Prepared, load_manifest
from dartcli.errors import RunError, UsageError
from dartcli.experiments.configure import configure, load_prepared
from dartcli.experiments.run import IDENTITY, METRICS, Run
from dartcli.experiments.run_index import find_run
from dartcli.experiments.run_writer import training_identity
from dartcli.storage import paths
from dartcli.storage.checksums import read_document
from dartcli.training.configuration import Configuration
from dartcli.training.warm_start import carry_over

logger = logging.getLogger(__name__)


def load_trained_data(run: Run, configuration: Configuration, seed: int) -> Prepared:
    """Return the prepared data that ``seed`` of a run was trained on.

    They are found in the cache even if the source has changed since.

    Raises
    ------
    RunError
        If they are not there, and what the source gives now are other data.
    """
    run.seed_files(seed)
    identity = read_document(run.seed_folder(seed) / METRICS)[IDENTITY]
    pattern = f"*/splits/{configuration.protocol.name}-*/{MANIFEST}"
    for path in sorted(paths.processed_data(configuration.dataset.name).glob(pattern)):
        manifest = load_manifest(path.parent)
        if manifest is not None:
            prepared = Prepared(path.parent, manifest, fresh=False)
            if training_identity(run.settings, prepared.digest) == identity:
                return prepared
    prepared = load_prepared(configuration, seed)
    if training_identity(run.settings, prepared.digest) != identity:
        raise RunError(
            f"the data of run {run.name} have changed since it was trained, and are not in the "
            f"cache. Train it again with `dart train --config {run.folder / 'settings.json'}`."
        )
    return prepared


def make_initializer(
    configuration: Configuration, prepared: Prepared, seed: int
) -> Callable[[nn.Module], None] | None:
    """Return a function that gives a fresh model the weights of the run ``settings.init``.

    Values are matched by raw id. New ones keep their fresh weights, and so do the bins of a number
    if their edges differ. None if ``settings.init`` is not set.

    Raises
    ------
    UsageError, RunError
        If there is no such run, or its model or fields are others.
    """
    name = configuration.settings.init
    if name is None:
        return None
    run = find_run(name)
    former, source_seed = configure(run.settings), seed if seed in run.seeds else run.seeds[0]
    if (former.model, former.model_options) != (configuration.model, configuration.model_options):
        raise UsageError(
            f"cannot start from run {run.name}: its model or model options are others. Use "
            f"`--model {run.metrics.model}` and the same options."
        )
    before = load_trained_data(run, former, source_seed)
    if before.fields != prepared.fields:
        raise UsageError(
            f"cannot start from run {run.name}: its fields are {', '.join(before.fields)}, not "
            f"{', '.join(prepared.fields)}."
        )
    sources = [_match(before, prepared, position) for position in range(len(prepared.fields))]
    counts = [
        f"{field}: {int((source >= 0).sum()):,} kept, {int((source < 0).sum()):,} new"
        for field, source in zip(prepared.fields, sources, strict=True)
    ]

    def initialize(model: nn.Module) -> None:
        carry_over(run.weights(source_seed), before.field_sizes, model, sources)
        logger.info(
            f"seed {seed} starts from run {run.name} ({'; '.join(counts)}); the optimizer is reset"
        )

    return initialize


def _match(before: Prepared, after: Prepared, position: int) -> Tensor:
    """Return Long[size], for each code of a field its code in the former data, or -1."""
    old, new = (one.manifest.fields[position] for one in (before, after))
    source = torch.full((new.size,), -1, dtype=torch.int64)
    if new.edges is not None:
        return torch.arange(new.size) if new.edges == old.edges else source
    former, ids = before.ids(new.name), after.ids(new.name)
    if former.schema[RAW] == ids.schema[RAW]:
        matched = ids.join(former, on=RAW, how="inner", suffix="_before")
        codes = matched.select(pl.col(CODE, f"{CODE}_before").cast(pl.Int64)).to_torch()
        source[codes[:, 0]] = codes[:, 1]
    if new.size > new.values and old.size > old.values:
        source[new.values] = old.values
    return source
