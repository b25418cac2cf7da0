"""What a finished run flagged until the epoch whose weights are reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from dartcli import catalog, settings
from dartcli.denoising import RampStrategy
from dartcli.experiments.run import Run


@dataclass(frozen=True)
class Flagging:
    """What the strategy of a run flagged."""

    has_flagged: bool
    """Something was flagged in an epoch of a seed."""
    warning: str | None
    """A sentence if a schedule flagged nothing until the reported epoch, else None."""


def examine_flagging(run: Run) -> Flagging:
    """Return what the strategy of a finished run flagged; reads each history once."""
    flagged = {seed: run.history(seed).select("epoch", "flagged") for seed in run.seeds}
    has_flagged = any(table["flagged"].sum() for table in flagged.values())
    return Flagging(has_flagged, _explain_unflagged(run, flagged))


def explain_unflagged(run: Run) -> str | None:
    """Return the warning of :func:`examine_flagging`."""
    return examine_flagging(run).warning


def _explain_unflagged(run: Run, flagged: Mapping[int, pl.DataFrame]) -> str | None:
    """Return the warning; None for a strategy without a schedule.

    Such a strategy may reweight rows without flagging any.
    """
    name = run.metrics.strategy
    if not issubclass(catalog.load("strategies", name), RampStrategy):
        return None
    epochs = {
        seed.seed: seed.reported_epoch
        for seed in run.metrics.seeds
        if not flagged[seed.seed].filter(pl.col("epoch") <= seed.reported_epoch)["flagged"].sum()
    }
    if not epochs:
        return None
    listed = ", ".join(map(str, dict.fromkeys(epochs.values())))
    of_seeds = "" if len(run.seeds) == 1 else f" of seeds {settings.seeds_text(tuple(epochs))}"
    return (
        f"{name} flagged no interactions up to the reported epoch{of_seeds} ({listed}), so these "
        f"weights were trained like those of `base`. {_advise(run)}"
    )


def _advise(run: Run) -> str:
    """Return how to make the schedule of ``run`` flag something."""
    options = run.settings.strategy.options
    iterations = run.iterations(run.seeds[0])
    rows = iterations["rows"] if options.get("basis") == "batch" else iterations["positives"]
    largest = int(rows.max())  # type: ignore[arg-type]
    if options["tau_m"] != "auto" and options["tau_m"] * largest < 1:
        return (
            f"Even the highest rate, tau_m {options['tau_m']:g}, is less than one of the "
            f"{largest:,} interactions in a batch. Raise `--tau-m` or `--batch-size`."
        )
    length = int(iterations.filter(pl.col("epoch") == 1).height)
    start, rise = (settings.iterations(options[key], length) for key in ("t_i", "t_m"))
    flags = [*(["--t-i 0"] if start > 0 else []), *(["--t-m 1ep"] if rise > length else [])]
    if not flags:
        return "Raise `--tau-m`."
    return f"Shorten the schedule, for example `{' '.join(flags)}`."
