"""Score the rows of a file, with raw ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dartcli.errors import DataError, UsageError, first_line
from dartcli.experiments.run import Run
from dartcli.serving.model import TrainedModel, load_model, open_table, write_blocks
from dartcli.storage.tables import READ_ERRORS
from dartcli.training.device import explained, threads_for
from dartcli.training.warm_start import add_mean_rows

Unknown = Literal["null", "mean", "error"]
"""What happens to a row with a value that the model does not know."""
CHUNK: Final = 1 << 14
"""Rows that the model scores at once: fixed, because a matrix product may round differently for
another number of rows."""
BLOCK: Final = 1 << 18
"""Rows that are read, scored, and written at once."""
LOGIT: Final = "logit"
PROBABILITY: Final = "probability"


def predict(
    run: Run | str,
    path: Path | str,
    output: Path | str,
    *,
    unknown: str = "null",
    seed: int | None = None,
    device: str = "auto",
    block_rows: int = BLOCK,
) -> dict[str, Any]:
    """Write the rows of ``path`` with two more columns, ``logit`` and ``probability``.

    Parameters
    ----------
    run
        A finished run.
    path
        Parquet, CSV, or TSV file with the columns of the fields, as they are called in the source.
    output
        Parquet file to write.
    unknown
        What a row with an unknown value gets: ``null``, or ``mean``: the mean of the weights of all
        known values in its place. ``error`` writes nothing.
    seed
        Seed of the run; default: its first.
    block_rows
        Rows in memory at once; it does not change the values.

    Returns
    -------
    dict
        ``run``, ``seed``, ``output``, ``rows``, and ``unknown``: field -> rows with an unknown
        value.

    Raises
    ------
    UsageError, RunError, DataError
        If an argument is invalid, a file cannot be read, or there are unknown values and
        ``unknown`` is ``error``.
    """
    path, output = Path(path), Path(output)
    if unknown not in get_args(Unknown):
        raise UsageError(f"no rule {unknown!r} for unknown ids. Choose from null, mean, or error.")
    trained = load_model(run, seed, device)
    frame = open_table(path, list(trained.columns.values()))
    present = frame.collect_schema()
    for name in (LOGIT, PROBABILITY):
        if name in present:
            raise DataError(f"{path.name} already has a column `{name}`. Rename it.")
    scorer = _RowScorer(trained, unknown, path.name)
    blocks = _rebatch(frame, path, max(-(-block_rows // CHUNK), 1) * CHUNK)
    with threads_for(trained.model), explained(trained.device):
        write_blocks(map(scorer.score, blocks), output)
    return {
        "run": trained.run.name,
        "seed": trained.seed,
        "output": str(output),
        "rows": scorer.rows,
        "unknown": scorer.unknown,
    }


class _RowScorer:
    """Scores blocks of rows, and counts them."""

    def __init__(self, trained: TrainedModel, rule: str, where: str) -> None:
        self.trained, self.rule, self.where = trained, rule, where
        self.model = trained.model
        if rule == "mean":
            self.model = add_mean_rows(
                trained.model, trained.configuration, trained.prepared.field_sizes, trained.known
            )
        self.rows = 0
        self.unknown = dict.fromkeys(trained.fields, 0)

    def score(self, block: pl.DataFrame) -> pl.DataFrame:
        """Return ``block`` with logits and probabilities."""
        codes, absent = [], np.zeros(len(block), dtype=bool)
        for name, field in self.trained.fields.items():
            raw = block[self.trained.columns[name]]
            code = self.trained.find_codes(name, raw, self.where)
            missing = code.is_null()
            if missing.any():
                self._note(name, raw, missing)
                absent |= missing.to_numpy()
            # with the rule null, code 0 stands in for a value whose row gets no score
            stand_in = field.values if self.rule == "mean" else 0
            codes.append(code.fill_null(stand_in).cast(pl.Int64).to_numpy())
        self.rows += len(block)
        logit = self._logit(torch.from_numpy(np.stack(codes, axis=1)))
        added = {LOGIT: logit, PROBABILITY: logit.sigmoid()}
        scores = [pl.Series(name, values.numpy()) for name, values in added.items()]
        if self.rule == "null":
            scores = [one.set(pl.Series(absent), None) for one in scores]
        return block.with_columns(scores)

    def _note(self, name: str, raw: pl.Series, missing: pl.Series) -> None:
        if self.rule == "error":
            row = missing.arg_true()[0]
            raise DataError(
                f"{self.where}, row {self.rows + row + 1:,}, column `{raw.name}`: the model does "
                f"not know {raw[row]!r}. Use `--unknown null` or `--unknown mean`."
            )
        self.unknown[name] += int(missing.sum())

    def _logit(self, fields: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [
                self.model(chunk.to(self.trained.device)).float().cpu()
                for chunk in fields.split(CHUNK)
            ]
        return torch.cat(parts) if parts else torch.empty(0)


def _rebatch(frame: pl.LazyFrame, path: Path, rows: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of ``frame`` in order, ``rows`` at a time."""
    waiting: list[pl.DataFrame] = []
    try:
        for batch in frame.collect_batches(chunk_size=rows, maintain_order=True, lazy=True):
            waiting.append(batch)
            while sum(map(len, waiting)) >= rows:
                joined = pl.concat(waiting)
                yield joined[:rows]
                waiting = [joined[rows:]]
    except READ_ERRORS as error:
        raise DataError(f"cannot read {path}: {first_line(error)}.") from error
    rest = pl.concat(waiting) if waiting else frame.clear().collect()
    if len(rest) or not waiting:
        yield rest
