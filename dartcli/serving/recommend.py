"""Write the best items of each user, with raw ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import torch

from dartcli.data.columns import ITEM, LABEL, USER
from dartcli.data.encode import CODE, RAW
from dartcli.errors import DataError, UsageError, first_line
from dartcli.experiments.run import Run
from dartcli.serving.model import TrainedModel, load_model, open_table, write_blocks
from dartcli.storage.tables import READ_ERRORS
from dartcli.training.device import explained, threads_for
from dartcli.training.retrieval import ModelScorer, PairFields, Ranked, UserItems

RANK = "rank"
LOGIT = "logit"


def recommend(
    run: Run | str,
    output: Path | str,
    *,
    users: Path | str | None = None,
    k: int = 20,
    exclude_seen: bool = False,
    candidates: Path | str | None = None,
    seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Write the ``k`` items with the highest logits of each user; ties are broken by item id.

    The columns are the user, the item (named as in the source), ``rank`` from 1, and ``logit``. A
    user with fewer than ``k`` items left has fewer rows.

    Parameters
    ----------
    run
        A finished run.
    output
        Parquet file to write.
    users
        File with a column of users; default: every user that the model knows.
    k
        Items per user.
    exclude_seen
        Leave out the items that a user interacted with, in any split.
    candidates
        File with a column of items to choose from; default: every item that the model knows.
    seed
        Seed of the run; default: its first.

    Returns
    -------
    dict
        ``run``, ``seed``, ``output``, ``users``, ``rows``, and ``unknown``: ids of ``user`` and
        ``item`` in the files that the model does not know.

    Raises
    ------
    UsageError, RunError, DataError
        If an argument is invalid, a file cannot be read, or no user or item in it is known.
    """
    if k < 1:
        raise UsageError(f"the length of the lists is {k}. Use 1 or more.")
    trained = load_model(run, seed, device)
    user, unknown_users = _choose(trained, USER, users)
    item, unknown_items = _choose(trained, ITEM, candidates)
    ranking = _Ranking(trained, user, item, k, exclude_seen=exclude_seen)
    with threads_for(trained.model), explained(trained.device):
        write_blocks(ranking.blocks(), Path(output))
    return {
        "run": trained.run.name,
        "seed": trained.seed,
        "output": str(output),
        "users": len(user),
        "rows": ranking.rows,
        "unknown": {USER: unknown_users, ITEM: unknown_items},
    }


def _choose(trained: TrainedModel, name: str, path: Path | str | None) -> tuple[pl.Series, int]:
    """Return the distinct codes of a file, in its order, and the number of unknown ids."""
    if path is None:
        return trained.ids[name][CODE], 0
    path, column = Path(path), trained.columns[name]
    try:
        raw = open_table(path, [column]).select(column).unique(maintain_order=True).collect()
    except READ_ERRORS as error:
        raise DataError(f"cannot read {path}: {first_line(error)}.") from error
    codes = trained.find_codes(name, raw[column], path.name)
    known = codes.drop_nulls()
    if known.is_empty():
        raise DataError(f"{path.name}: the model knows none of the values of column `{column}`.")
    return known, len(codes) - len(known)


class _Ranking:
    """The lists of all users, block by block."""

    def __init__(
        self, trained: TrainedModel, user: pl.Series, item: pl.Series, k: int, *, exclude_seen: bool
    ) -> None:
        self.trained, self.k, self.rows = trained, k, 0
        fields, to = list(trained.fields), trained.device
        positives = trained.tables["train"].filter(pl.col(LABEL) > 0).select(fields)
        pairs = PairFields(_tensor(positives).to(to), trained.prepared.field_sizes)
        self.user = _tensor(user).to(to)
        self.scorer = ModelScorer(trained.model, pairs, _tensor(item.sort()).to(to))
        self.hidden = None
        if exclude_seen:
            seen = _tensor(trained.seen()).to(to)
            self.hidden = UserItems(seen[:, 0], seen[:, 1], trained.prepared.field_sizes[0])
        self.raw = {name: trained.prepared.ids(name)[RAW] for name in (USER, ITEM)}

    def blocks(self) -> Iterator[pl.DataFrame]:
        """Yield the rows of the output."""
        for ranked in self.scorer.rank(self.user, self.k, self.hidden):
            table = self._to_table(ranked)
            self.rows += len(table)
            yield table

    def _to_table(self, ranked: Ranked) -> pl.DataFrame:
        found = ranked.item.shape[1]
        place = torch.arange(1, found + 1, dtype=torch.int32).repeat(len(ranked.user))
        user = ranked.user.repeat_interleave(found).cpu().numpy()
        table = pl.DataFrame(
            [
                self.raw[USER].gather(user).alias(self.trained.columns[USER]),
                self.raw[ITEM].gather(ranked.item.flatten().cpu().numpy())
                .alias(self.trained.columns[ITEM]),
                pl.Series(RANK, place.numpy()).cast(pl.UInt32),
                pl.Series(LOGIT, ranked.score.flatten().float().cpu().numpy()),
            ]
        )  # fmt: skip
        return table.filter(pl.col(LOGIT).is_finite())


def _tensor(codes: pl.DataFrame | pl.Series) -> torch.Tensor:
    """Return codes as Long, one column per column of a table."""
    table = codes.cast(pl.Int64)
    return torch.from_numpy(table.to_numpy(writable=True))
