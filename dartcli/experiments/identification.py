"""What a finished run tells about its training positives: signals, and the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from dartcli import catalog
from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.errors import RunError, UsageError
from dartcli.experiments.configure import load_run_data

if TYPE_CHECKING:
    from dartcli.data.manifest import Prepared
    from dartcli.experiments.run import Run
    from dartcli.signals._detector import Detection

PROBABILITY = "p_false_positive"
TRUSTED = "trusted"


@dataclass(frozen=True)
class Suspicions:
    """The training positives of one seed, with what is suspicious about each."""

    table: pl.DataFrame
    """One row per training positive, in the order of the training table: codes ``user``, ``item``;
    ``noisy``; ``trusted``; ``item_positives``, ``user_positives``; a column per signal; and
    ``p_false_positive``, null if labels do not tell."""
    signals: tuple[str, ...]
    """The columns of the signals."""
    detection: Detection | None
    """What the detector found; None without trusted labels, or if they are all alike."""
    prepared: Prepared
    """The data of the seed."""

    @property
    def has_probabilities(self) -> bool:
        """Whether ``p_false_positive`` is known."""
        return self.detection is not None and self.detection.is_informative


def identify_run(run: Run, seed: int, device: str = "auto") -> Suspicions:
    """Return what the weights of ``seed`` that know no trusted label tell.

    Raises
    ------
    UsageError
        If the seed was not trained, or the device does not exist.
    RunError
        If the strategy was trained on the false positives, or the data have changed since.
    """
    from dartcli.training import device as devices
    from dartcli.training.components import build_components
    from dartcli.training.stages import identify

    if seed not in run.seeds:
        trained = ", ".join(map(str, run.seeds))
        raise UsageError(f"run {run.name} has no seed {seed}. Its seeds: {trained}.")
    configuration, prepared = load_run_data(run, seed)
    if configuration.strategy.reads_noisy:
        raise RunError(
            f"cannot score {run.name}: strategy `{run.metrics.strategy}` was trained on the known "
            "false positives. Score a run of `base` or `trusted`."
        )
    target = devices.resolve(device)
    with devices.explained(target):
        components = build_components(configuration, prepared, seed, target)
        model = components.models[0]
        model.load_state_dict(run.identifying_weights(seed))
        with devices.threads_for(model):
            found = identify(model, components)
    evidence = found.evidence
    signals = {
        name.replace("-", "_"): catalog.load("signals", name).compute(evidence).numpy()
        for name in catalog.names("signals")
    }
    probability = None if found.probability is None else found.probability.numpy()
    rows = prepared.split("train").select(USER, ITEM, LABEL, NOISY)
    trusted = pl.int_range(pl.len()).is_in(pl.Series(found.trusted.numpy()).implode())
    table = (
        rows.filter(pl.col(LABEL) > 0)
        .drop(LABEL)
        .with_columns(
            trusted.alias(TRUSTED),
            pl.Series("item_positives", evidence.item_counts[evidence.item].numpy()),
            pl.Series("user_positives", evidence.user_counts[evidence.user].numpy()),
            *(pl.Series(name, values) for name, values in signals.items()),
            pl.lit(None, pl.Float32).alias(PROBABILITY)
            if probability is None
            else pl.Series(PROBABILITY, probability),
        )
    )
    return Suspicions(table, tuple(signals), found.detection, prepared)
