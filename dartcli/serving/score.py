"""List the training interactions of a run, the most doubtful first."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dartcli.data.columns import ITEM, USER
from dartcli.errors import UsageError, first_line
from dartcli.experiments.identification import PROBABILITY, TRUSTED, Suspicions, identify_run
from dartcli.experiments.run_index import find_run
from dartcli.storage.atomic import atomic_write
from dartcli.storage.tables import READ_ERRORS, write_table

RANKED_BY = "relative_loss"
"""Signal that ranks without trusted labels."""
IDS = (USER, ITEM)
COUNTS = ("item_positives", "user_positives")


@dataclass(frozen=True)
class Scores:
    """The training interactions of one seed, the most doubtful first."""

    run: str
    """Name of the run."""
    seed: int
    """Seed."""
    table: pl.DataFrame
    """Columns: raw ``user`` and ``item``, ``rank``, ``rank_in_user``, ``p_false_positive`` and
    ``action`` (null without probabilities), ``trusted``, a column per signal, ``item_positives``,
    ``user_positives``."""
    found: Suspicions
    """What was found."""

    @property
    def ranked_by(self) -> str:
        """Column that ranks the rows."""
        return PROBABILITY if self.found.has_probabilities else RANKED_BY

    def describe(self) -> str:
        """Return a sentence on what the order means."""
        detection, labels = self.found.detection, int(self.found.table[TRUSTED].sum())
        by = f"ranked by `{RANKED_BY}`"
        if not labels:
            return (
                f"this is a ranking ({by}), not a probability: probabilities need trusted labels. "
                "Grant some with `dart train --strategy trusted --trusted 500`."
            )
        if detection is None:
            return (
                f"the {labels:,} trusted labels are all alike, or of one user or one item, so "
                f"there are no probabilities; rows are {by}."
            )
        quality = (
            f"on users and items left out in turn, AUC {detection.auc:.3f} and log loss "
            f"{detection.log_loss:.4f}, against {detection.prior_log_loss:.4f} for the share of "
            "false positives"
        )
        if not self.found.has_probabilities:
            return (
                f"the {labels:,} trusted labels do not tell false positives from others "
                f"({quality}), so there are no probabilities; rows are {by}."
            )
        return (
            f"probabilities come from {labels:,} trusted labels ({quality}) and hold for "
            "interactions like the labeled ones."
        )


def score(
    run: str, *, seed: int | None = None, top: int | None = None, device: str = "auto"
) -> Scores:
    """Return the training interactions of a finished run, the most doubtful first.

    Parameters
    ----------
    run
        Name or folder of the run.
    seed
        Default: the first seed.
    top
        Keep so many rows; None keeps all.
    device
        ``auto``, ``cpu``, ``cuda``, or ``cuda:N``.

    Raises
    ------
    UsageError, RunError
        If there is no such run or seed, or it cannot be scored.
    """
    if top is not None and top < 1:
        raise UsageError(f"--top is {top}. Give a number of interactions, 1 or greater.")
    finished = find_run(run)
    chosen = finished.seeds[0] if seed is None else seed
    found = identify_run(finished, chosen, device)
    key = PROBABILITY if found.has_probabilities else RANKED_BY
    # a trusted row is settled; ties are broken by the order of the training table
    table = found.table.sort(TRUSTED, key, descending=[False, True], maintain_order=True)
    place = pl.int_range(1, pl.len() + 1, dtype=pl.UInt32)
    table = table.with_columns(
        place.alias("rank"),
        place.over(USER).alias("rank_in_user"),
        _choose_action(found).alias("action"),
    )
    table = table if top is None else table.head(top)
    table = table.with_columns(found.prepared.decode(name, table[name]) for name in IDS)
    before = (*IDS, "rank", "rank_in_user", PROBABILITY, "action", TRUSTED)
    table = table.select(*before, *found.signals, *COUNTS)
    return Scores(finished.name, chosen, table, found)


def _choose_action(found: Suspicions) -> pl.Expr:
    """Return what to do with a row: soft-label if it is more doubtful than most, else keep."""
    if found.detection is None or not found.has_probabilities:
        return pl.lit(None, pl.String)
    probability = pl.col(PROBABILITY)
    return (
        pl.when(pl.col(TRUSTED) & (probability > 0.5))
        .then(pl.lit("relabel"))
        .when(pl.col(TRUSTED) | (probability <= found.detection.prior))
        .then(pl.lit("keep"))
        .otherwise(pl.lit("soft-label"))
    )


def check_output(output: str) -> None:
    """Raise UsageError if scores cannot be written to a file of this name."""
    if output != "-" and Path(output).suffix.lower() not in (".parquet", ".csv"):
        raise UsageError(f"cannot write {output}: use a name that ends in `.parquet` or `.csv`.")


def write_scores(table: pl.DataFrame, output: str) -> None:
    """Write ``table`` to a ``.parquet`` or ``.csv`` file atomically, or to stdout for ``-``.

    Raises
    ------
    UsageError
        If the name has another suffix.
    """
    check_output(output)
    if output == "-":
        sys.stdout.write(table.write_csv())
        return
    path = Path(output)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".parquet":
            write_table(table, temporary)
        else:
            try:
                table.write_csv(temporary)
            except READ_ERRORS as error:
                raise OSError(first_line(error)) from error
